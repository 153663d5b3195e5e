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
#include "../common/sums.h"

namespace recops {
namespace {

constexpr int64_t kRows = 128;           // of a tile
constexpr int64_t kColumns = 64;         // of a tile: the widest block of MatMul in float
constexpr int64_t kSumsBytes = 1 << 19;  // of the gradients of candidates that are summed at once

int64_t At(const Buffer& ids, int64_t i) {
  return ids.type == Type::kInt32 ? ids.as<const int32_t>()[i] : ids.as<const int64_t>()[i];
}

// Where one of some candidates is the row's own id, so that it is no negative.
class Hits {
 public:
  Hits(const Call& call, int64_t first, int64_t last) : labels_(call.inputs[5]) {
    if (!call.options[0]) return;
    for (int64_t s = first; s < last; ++s) where_.push_back({At(call.inputs[6], s), s});
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
  const Hits hits(call, 0, candidates.count);
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

// All rows go over some of the candidates before others, as many as stay in a thread's cache with
// their sums: so the sums of parts of the batch take little room however many candidates there are.
template <typename T>
class Backward {
 public:
  using A = Wide<T>;
  static constexpr int64_t L = kLanes<A>;

  explicit Backward(const Call& call)
      : call_(call),
        shared_(call),
        batch_(call.inputs[0].dim(0)),
        dim_(shared_.dim),
        stride_(shared_.stride),
        dx_(batch_ * stride_) {}

  void Run() {
    call_.parallel(batch_, kRows, [&](int64_t begin, int64_t end) { Own(begin, end); });
    const int64_t panel_bytes = kColumns * stride_ * sizeof(A);
    const int64_t panels = std::max<int64_t>(1, kSumsBytes / panel_bytes);
    for (int64_t p = 0; p < shared_.panels; p += panels) {
      Panels(p, std::min(p + panels, shared_.panels));
    }
    call_.parallel(batch_, kRows, [&](int64_t begin, int64_t end) { WriteRows(begin, end); });
  }

 private:
  // What the rows' own candidates bring, and get.
  void Own(int64_t begin, int64_t end) {
    Queries<T> q(dim_, stride_);
    Scratch<A> wide(ScratchSize<T>(dim_));
    q.Read(call_, begin, end);
    A dloss_wide[kRows];
    const A* dloss = Load(call_.in<T>(9) + begin, end - begin, dloss_wide);
    const A* totals = call_.in<A>(8) + begin;
    for (int64_t r = 0; r < end - begin; ++r) {
      const A down = dloss[r] * (std::exp(q.logits[r] - totals[r]) - 1);
      call_.out<A>(3)[begin + r] = down;
      const A *x = q.x + r * stride_, *own = q.own + r * stride_;
      A* dx = dx_ + (begin + r) * stride_;
      for (int64_t d = 0; d < stride_; d += L) StoreVec(dx + d, down * LoadVec(own + d));
      T* out = call_.out<T>(1) + (begin + r) * dim_;
      A* to_own = Target(out, wide.get());
      for (int64_t d = 0; d < dim_; ++d) to_own[d] = down * x[d];
      Store(to_own, out, dim_);
    }
  }

  // All rows over some panels of the candidates.
  void Panels(int64_t panel, int64_t last) {
    const int64_t first = panel * kColumns;
    const int64_t count = std::min(last * kColumns, shared_.count) - first;
    const Hits hits(call_, first, first + count);
    // Gradients of the candidates [count, stride], then of their shifts, of whole panels.
    const int64_t size = count * stride_ + (last - panel) * kColumns;
    Scratch<A> total(size);
    const auto sum = [&](int64_t from, int64_t to, A* sums) {
      Queries<T> q(dim_, stride_);
      Scratch<A> tile(kRows * kColumns);
      for (int64_t begin = from; begin < to; begin += kRows) {
        const int64_t end = std::min(to, begin + kRows);
        q.Read(call_, begin, end);
        const auto found = hits.Of(begin, end);
        auto hit = found.begin();
        for (int64_t p = panel; p < last; ++p) {
          const int64_t at = (p - panel) * kColumns;
          Logits<T>(shared_, q, p, end - begin, hit, found.end(), tile.get());
          Tile(q, p, begin, end - begin, tile.get(), sums + at * stride_,
               sums + count * stride_ + at);
        }
      }
    };
    SumOverRows<A>(call_, batch_, kRows, 1, size, total.get(), sum);
    call_.parallel(count, 256, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        Store(total + s * stride_, call_.out<T>(2) + (first + s) * dim_, dim_);
      }
    });
    std::memcpy(call_.out<A>(4) + first, total + count * stride_, count * sizeof(A));
  }

  // A tile's logits become their gradients, and these go to the rows and into the sums.
  void Tile(const Queries<T>& q, int64_t panel, int64_t begin, int64_t rows, A* tile, A* sums,
            A* shift_sums) {
    const int64_t first = panel * kColumns, n = std::min(kColumns, shared_.count - first);
    A dloss_wide[kRows];
    const A* dloss = Load(call_.in<T>(9) + begin, rows, dloss_wide);
    const A* totals = call_.in<A>(8) + begin;
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
      StoreVec(shift_sums + i, LoadVec(shift_sums + i) + shift_sum[i / L]);
    }
    MatMul<A>(rows, stride_, n, tile, kColumns, 1, shared_.rows.get() + first * stride_, stride_,
              dx_ + begin * stride_, stride_, true);
    MatMul<A>(n, stride_, rows, tile, 1, kColumns, q.x.get(), stride_, sums, stride_, true);
  }

  void WriteRows(int64_t begin, int64_t end) {
    const A scale = *call_.in<A>(7);
    Scratch<A> wide(ScratchSize<T>(dim_));
    for (int64_t b = begin; b < end; ++b) {
      T* out = call_.out<T>(0) + b * dim_;
      A* to_x = Target(out, wide.get());
      for (int64_t d = 0; d < dim_; ++d) to_x[d] = scale * dx_[b * stride_ + d];
      Store(to_x, out, dim_);
    }
  }

  const Call& call_;
  const Candidates<T> shared_;
  int64_t batch_, dim_, stride_;
  Scratch<A> dx_;
};

template <typename T>
void RunBackward(const Call& call) {
  Backward<T>(call).Run();
}

// inputs [B, D], own [B, D], others [S, D], own_shift [B], shift [S], labels [B], ids [S], scale []
void CheckShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  Check(options.size() == 1, "options: expected whether accidental hits are removed");
  Check(in[0].size() == 2 && in[1].size() == 2 && in[2].size() == 2, "expected matrices");
  for (size_t i = 3; i < in.size(); ++i) Check(i == 7 || in[i].size() == 1, "expected vectors");
  CheckSize(in[1][0], in[0][0], "rows of own");
  CheckSize(in[3][0], in[0][0], "own_shift");
  CheckSize(in[5][0], in[0][0], "labels");
  CheckSize(in[1][1], in[0][1], "width of own");
  CheckSize(in[2][1], in[0][1], "width of others");
  CheckSize(in[4][0], in[2][0], "shift");
  CheckSize(in[6][0], in[2][0], "ids");
  Check(in[7].empty(), "scale: expected a scalar");
}

std::vector<Dims> LossAndTotal(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  CheckShapes(in, options);
  return {{in[0][0]}, {in[0][0]}};
}

std::vector<Dims> Gradients(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  CheckShapes(in, options);
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
       RECOPS_RUN(RunBackward)},
  };
}

}  // namespace recops
