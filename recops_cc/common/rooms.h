// The rooms of the library. A new one is declared here and joined in ops.cc.
#pragma once

#include <vector>

#include "engine.h"

namespace recops {

std::vector<Op> AttentionOps();
std::vector<Op> AttentionalPoolingOps();
std::vector<Op> CrossOps();
std::vector<Op> DenseOps();
std::vector<Op> DynamicGruOps();
std::vector<Op> EmbeddingOps();
std::vector<Op> OuterProductOps();
std::vector<Op> BilinearOps();
std::vector<Op> CinOps();
std::vector<Op> PairwiseOps();
std::vector<Op> RowUpdateOps();
std::vector<Op> SampledSoftmaxOps();
std::vector<Op> TargetAttentionOps();

}  // namespace recops

// The `run` of an op whose kernel is a template over the float type of an input.
#define RECOPS_RUN(kernel) RECOPS_RUN_BY(0, kernel)
#define RECOPS_RUN_BY(input, kernel)                                              \
  [](const ::recops::Call& call) {                                                \
    ::recops::ForType(call.inputs[input].type,                                    \
                      [&](auto type) { kernel<decltype(type)>(call); });          \
  }
