// A dense layer of bfloat16 where the processor multiplies pairs of values.
#pragma once

#include "../common/engine.h"

namespace recops::dense {

// False where the processor has no such products: nothing was done.
bool PairedForward(const Call& call);
bool PairedBackward(const Call& call);

}  // namespace recops::dense
