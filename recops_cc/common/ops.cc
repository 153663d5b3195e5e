#include "rooms.h"

namespace recops {

const std::vector<Op>& Ops() {
  static const std::vector<Op>* const ops = [] {
    auto* all = new std::vector<Op>;
    for (auto room :
         {AttentionOps, AttentionalPoolingOps, BilinearOps, CinOps, CrossOps, DenseOps, DynamicGruOps,
          EmbeddingOps, OuterProductOps, PairwiseOps, RowUpdateOps, SampledSoftmaxOps,
          TargetAttentionOps}) {
      for (Op& op : room()) all->push_back(std::move(op));
    }
    return all;
  }();
  return *ops;
}

}  // namespace recops
