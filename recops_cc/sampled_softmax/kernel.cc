// Cross-entropy of one candidate of a row's own against candidates that all rows share: sampled
// softmax, and in-batch softmax, where the shared ones are the batch's items.
// Tiles of rows by candidates stay in the cache; of the logits nothing is kept but the logarithm of
// each row's sum of exponentials.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "../common/math.h"
#include "../common/numeric.h"
#include "../common/rooms.h"

namespace recops {
namespace {

constexpr int64_t kRows = 128;    // of a tile
constexpr int64_t kColumns = 64;  // of a tile: the widest block of MatMul in float

int64_t At(const Buffer& ids, int64_t i) {
  return ids.type == Type::kInt32 ? ids.as<const int32_t>()[i] : ids.as<const int64_t>()[i];
}

// Where a candidate is the row's own id, so that it is no negative.
class Hits {
 public:
  Hits(const Call& call, bool remove) : labels_(call.inputs[5]) {
    if (!remove) return;
    for (int64_t s = 0; s < call.inputs[6].size(); ++s) where_.push_back({At(call.inputs[6], s), s});
    std::sort(where_.begin(), where_.end());
  }
  // (candidate, row) of the hits of some rows, in the order of the candidates.
  std::vector<std::pair<int64_t, int64_t>> Of(int64_t begin, int64_t end) const {
    std::vector<std::pair<int64_t, int64_t>> found;
    if (where_.empty()) return found;
    for (int64_t b = begin; b < end; ++b) {
      const int64_t label = At(labels_, b);
      auto it = std::lower_bound(where_.begin(), where_.end(), std::make_pair(label, int64_t{-1}));
      for (; it != where_.end() && it->first == label; ++it) found.push_back({it->second, b - begin});
    }
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  const Buffer& labels_;
  std::vector<std::pair<int64_t, int64_t>> where_;
};

// The shared candidates in the two orders that products need, and their shifts.
template <typename T>
struct Candidates {
  using A = Wide<T>;
  explicit Candidates(const Call& call)
      : count(call.inputs[2].dim(0)),
        dim(call.inputs[2].dim(1)),
        stride(Padded<A>(dim)),
        panels((count + kColumns - 1) / kColumns),
        rows(count * stride),
        columns(panels * dim * kColumns),
        shifts(panels * kColumns) {
    const T* from = call.in<T>(2);
    call.parallel(panels, 4, [&](int64_t begin, int64_t end) {
      Scratch<A> wide(ScratchSize<T>(dim));
      for (int64_t p = begin; p < end; ++p) {
        const int64_t first = p * kColumns, n = std::min(kColumns, count - first);
        for (int64_t s = first; s < first + n; ++s) {
          Pad(Load(from + s * dim, dim, wide.get()), 1, dim, dim, rows + s * stride, stride);
        }
        Transpose<A>(rows + first * stride, n, dim, stride, columns + p * dim * kColumns, kColumns);
        for (int64_t i = 0; i < kColumns; ++i) {
          // What only fills the last panel has no weight in a softmax.
          shifts[first + i] =
              i < n ? call.in<A>(4)[first + i] : -std::numeric_limits<A>::infinity();
        }
      }
    });
  }
  int64_t count, dim, stride, panels;
  Scratch<A> rows, columns, shifts;
};

// Rows of a block, scaled, and the logit of each row's own candidate.
template <typename T>
struct Queries {
  using A = Wide<T>;
  Queries(int64_t dim, int64_t stride)
      : dim(dim), stride(stride), wide(ScratchSize<T>(dim)), x(kRows * stride), own(kRows * stride) {}
  void Read(const Call& call, int64_t begin, int64_t end) {
    const A scale = *call.in<A>(7);
    for (int64_t b = begin; b < end; ++b) {
      A *row = x + (b - begin) * stride, *other = own + (b - begin) * stride;
      Pad(Load(call.in<T>(0) + b * dim, dim, wide.get()), 1, dim, dim, row, stride);
      for (int64_t d = 0; d < dim; ++d) row[d] *= scale;
      Pad(Load(call.in<T>(1) + b * dim, dim, wide.get()), 1, dim, dim, other, stride);
      Vec<A> sum{};
      for (int64_t d = 0; d < stride; d += kLanes<A>) sum += LoadVec(row + d) * LoadVec(other + d);
      logits[b - begin] = SumLanes<A>(sum) + call.in<A>(3)[b];
    }
  }
  int64_t dim, stride;
  Scratch<A> wide, x, own;
  A logits[kRows];
};

// Logits [rows, kColumns] of one panel, with what a row may not see at -inf.
template <typename T, typename Hit>
void Logits(const Candidates<T>& c, const Queries<T>& q, int64_t panel, int64_t rows, Hit& hit,
            const Hit& last, Wide<T>* tile) {
  using A = Wide<T>;
  MatMul<A>(rows, kColumns, c.dim, q.x.get(), c.stride, 1,
            c.columns.get() + panel * c.dim * kColumns, kColumns, tile, kColumns);
  const A* shifts = c.shifts.get() + panel * kColumns;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < kColumns; i += kLanes<A>) {
      A* logit = tile + r * kColumns + i;
      StoreVec(logit, LoadVec(logit) + LoadVec(shifts + i));
    }
  }
  for (; hit != last && hit->first < (panel + 1) * kColumns; ++hit) {
    tile[hit->second * kColumns + hit->first - panel * kColumns] =
        -std::numeric_limits<A>::infinity();
  }
}

template <typename T>
void Forward(const Call& call) {
  using A = Wide<T>;
  const Candidates<T> candidates(call);
  const Hits hits(call, call.options[0]);
  call.parallel(call.inputs[0].dim(0), kRows, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    Queries<T> q(candidates.dim, candidates.stride);
    q.Read(call, begin, end);
    Scratch<A> tile(kRows * kColumns);
    A top[kRows], sum[kRows];
    for (int64_t r = 0; r < rows; ++r) {
      top[r] = q.logits[r];
      sum[r] = 1;
    }
    const auto found = hits.Of(begin, end);
    auto hit = found.begin();
    for (int64_t p = 0; p < candidates.panels; ++p) {
      Logits<T>(candidates, q, p, rows, hit, found.end(), tile.get());
      for (int64_t r = 0; r < rows; ++r) {
        const A* logits = tile + r * kColumns;
        Vec<A> most = Fill<A>(top[r]);
        for (int64_t i = 0; i < kColumns; i += kLanes<A>) most = Max<A>(LoadVec(logits + i), most);
        A higher = top[r];
        for (int64_t i = 0; i < kLanes<A>; ++i) higher = std::max(higher, most[i]);
        Vec<A> exponentials{};
        for (int64_t i = 0; i < kColumns; i += kLanes<A>) {
          exponentials += Exp<A>(LoadVec(logits + i) - higher);
        }
        if (higher > top[r]) {
          sum[r] *= std::exp(top[r] - higher);
          top[r] = higher;
        }
        sum[r] += SumLanes<A>(exponentials);
      }
    }
    A loss[kRows];
    for (int64_t r = 0; r < rows; ++r) {
      const A total = top[r] + std::log(sum[r]);
      call.out<A>(1)[begin + r] = total;
      loss[r] = total - q.logits[r];
    }
    Store(loss, call.out<T>(0) + begin, rows);
  });
}

template <typename T>
void Backward(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const Candidates<T> shared(call);
  const Hits hits(call, call.options[0]);
  const int64_t batch = call.inputs[0].dim(0), dim = shared.dim, stride = shared.stride;
  const A scale = *call.in<A>(7);
  // Gradients of the candidates [count, stride], then of their shifts [panels * kColumns].
  const int64_t size = shared.count * stride + shared.panels * kColumns;
  Scratch<A> total(size);
  SumOverRows<A>(call, batch, 2 * kRows, size, total.get(), [&](int64_t from, int64_t to, A* sums) {
    Queries<T> q(dim, stride);
    Scratch<A> tile(kRows * kColumns), dx(kRows * stride), wide(ScratchSize<T>(dim));
    A* shift_sums = sums + shared.count * stride;
    for (int64_t begin = from; begin < to; begin += kRows) {
      const int64_t end = std::min(to, begin + kRows), rows = end - begin;
      q.Read(call, begin, end);
      A dloss_wide[kRows];
      const A* dloss = Load(call.in<T>(9) + begin, rows, dloss_wide);
      const A* totals = call.in<A>(8) + begin;
      for (int64_t r = 0; r < rows; ++r) {
        const A down = dloss[r] * (std::exp(q.logits[r] - totals[r]) - 1);
        call.out<A>(3)[begin + r] = down;
        const A *x = q.x + r * stride, *own = q.own + r * stride;
        for (int64_t d = 0; d < stride; d += L) StoreVec(dx + r * stride + d, down * LoadVec(own + d));
        T* out = call.out<T>(1) + (begin + r) * dim;
        A* to_own = Target(out, wide.get());
        for (int64_t d = 0; d < dim; ++d) to_own[d] = down * x[d];
        Store(to_own, out, dim);
      }
      const auto found = hits.Of(begin, end);
      auto hit = found.begin();
      for (int64_t p = 0; p < shared.panels; ++p) {
        const int64_t first = p * kColumns, n = std::min(kColumns, shared.count - first);
        Logits<T>(shared, q, p, rows, hit, found.end(), tile.get());
        Vec<A> shift_sum[kColumns / L] = {};
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t i = 0; i < kColumns; i += L) {
            A* logit = tile + r * kColumns + i;
            const Vec<A> down = dloss[r] * Exp<A>(LoadVec(logit) - totals[r]);
            StoreVec(logit, down);
            shift_sum[i / L] += down;
          }
        }
        for (int64_t i = 0; i < kColumns; i += L) {
          A* sum = shift_sums + first + i;
          StoreVec(sum, LoadVec(sum) + shift_sum[i / L]);
        }
        MatMul<A>(rows, stride, n, tile.get(), kColumns, 1, shared.rows.get() + first * stride, stride,
                  dx.get(), stride, true);
        MatMul<A>(n, stride, rows, tile.get(), 1, kColumns, q.x.get(), stride, sums + first * stride,
                  stride, true);
      }
      for (int64_t r = 0; r < rows; ++r) {
        T* out = call.out<T>(0) + (begin + r) * dim;
        A* to_x = Target(out, wide.get());
        for (int64_t d = 0; d < dim; ++d) to_x[d] = scale * dx[r * stride + d];
        Store(to_x, out, dim);
      }
    }
  });
  call.parallel(shared.count, 256, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) Store(total + s * stride, call.out<T>(2) + s * dim, dim);
  });
  std::memcpy(call.out<A>(4), total + shared.count * stride, shared.count * sizeof(A));
}

// inputs [B, D], own [B, D], others [S, D], own_shift [B], shift [S], labels [B], ids [S], scale []
void CheckShapes(const std::vector<Dims>& in) {
  Check(in[0].size() == 2 && in[1].size() == 2 && in[2].size() == 2, "expected matrices");
  CheckSize(in[1][0], in[0][0], "rows of own");
  CheckSize(in[3][0], in[0][0], "own_shift");
  CheckSize(in[5][0], in[0][0], "labels");
  CheckSize(in[1][1], in[0][1], "width of own");
  CheckSize(in[2][1], in[0][1], "width of others");
  CheckSize(in[4][0], in[2][0], "shift");
  CheckSize(in[6][0], in[2][0], "ids");
  Check(in[7].empty(), "scale: expected a scalar");
}

std::vector<Dims> LossAndTotal(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckShapes(in);
  return {{in[0][0]}, {in[0][0]}};
}

std::vector<Dims> Gradients(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckShapes(in);
  CheckSize(in[8][0], in[0][0], "total");
  CheckSize(in[9][0], in[0][0], "dloss");
  return {in[0], in[1], in[2], in[3], in[4]};
}

}  // namespace

std::vector<Op> SampledSoftmaxOps() {
  std::vector<std::string> inputs = {"inputs: T",    "own: T",   "others: T", "own_shift: W",
                                     "shift: W",     "labels: I", "ids: I",    "scale: W"};
  std::vector<std::string> saved = inputs;
  saved.insert(saved.end(), {"total: W", "dloss: T"});
  return {
      {"SampledSoftmax", inputs, {"loss: T", "total: W"}, LossAndTotal, RECOPS_RUN(Forward)},
      {"SampledSoftmaxGrad",
       saved,
       {"dinputs: T", "down: T", "dothers: T", "dshift_own: W", "dshift: W"},
       Gradients,
       RECOPS_RUN(Backward)},
  };
}

}  // namespace recops
