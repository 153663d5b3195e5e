// A layer of bfloat16 and its gradient where the processor multiplies pairs of such values.
#pragma once

#include "../common/engine.h"

namespace recops::cin {

// False, with nothing done, where the processor does not.
bool PairedCompress(const Call& call);
bool PairedCompressGrad(const Call& call);

}  // namespace recops::cin
