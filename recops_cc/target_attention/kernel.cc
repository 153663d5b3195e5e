// DIN's activation unit: the kept steps of one row at a time go through the whole network in cache,
// and again on the way back. Padded steps cost nothing.
#include "../common/rooms.h"
#include "../common/sums.h"
#include "row.h"

namespace recops {
namespace target_attention {
namespace {

constexpr int64_t kRows = 16;  // rows a block

template <typename A>
void Softmax(A* scores, int64_t n) {
  constexpr int64_t L = kLanes<A>;
  const A greatest = *std::max_element(scores, scores + n);
  Vec<A> sums{};
  for (int64_t i = 0; i < n; i += L) {
    Vec<A> weight{};
    for (int64_t k = 0; k < L; ++k) weight[k] = i + k < n ? scores[i + k] : A(-INFINITY);
    weight = Exp<A>(weight - greatest);
    sums += weight;
    for (int64_t k = 0; k < L && i + k < n; ++k) scores[i + k] = weight[k];
  }
  const A sum = SumLanes<A>(sums);
  for (int64_t i = 0; i < n; ++i) scores[i] /= sum;
}

template <typename T>
void Unit(const Call& call) {
  using A = Wide<T>;
  const Shape n = ShapeOf(call.inputs[1].dims, call.options);
  const Network<A> network(n, call.in<T>(3), false);
  const bool keep = call.outputs[2].size() > 0;
  call.parallel(n.batch, kRows, [&](int64_t begin, int64_t end) {
    Row<T> row(n, network);
    Scratch<A> scores(n.steps), pooled(row.stride), weights(n.steps);
    for (int64_t b = begin; b < end; ++b) {
      row.Read(call, b);
      const int64_t count = row.count();
      if (count > 0) row.Fold();
      for (int64_t s = 0; s < count; s += kSteps) {
        row.Forward(s, std::min(kSteps, count - s), scores + s);
      }
      if (n.normalize && count > 0) Softmax<A>(scores.get(), count);
      MatMul<A>(1, row.stride, count, scores.get(), count, 1, row.keys, row.stride, pooled.get(),
                row.stride);
      Store(pooled.get(), call.out<T>(0) + b * n.dim, n.dim);
      std::memset(weights.get(), 0, n.steps * sizeof(A));
      for (int64_t s = 0; s < count; ++s) weights[row.steps[s]] = scores[s];
      Store(weights.get(), call.out<T>(1) + b * n.steps, n.steps);
      if (keep) {
        float* kept = call.out<float>(2) + b * n.steps;
        for (int64_t t = 0; t < n.steps; ++t) kept[t] = static_cast<float>(weights[t]);
      }
    }
  });
}

// The way back of one row after another; gradients of the network are added to `sums`.
template <typename T>
class Backward {
  using A = Wide<T>;
  static constexpr int64_t L = kLanes<A>;

 public:
  Backward(const Call& call, const Shape& n, const Network<A>& network, A* sums)
      : call_(call),
        n_(n),
        network_(network),
        layout_(network.layout),
        sums_(sums),
        row_(n, network),
        width_(layout_.padded[0]),
        widest_(*std::max_element(layout_.padded.begin(), layout_.padded.end())),
        turned_(n.widths[0] * row_.stride),
        down_(n.dim * width_),
        added_(width_),
        dpooled_(row_.stride),
        weights_(n.steps),
        dscores_(n.steps),
        dkeys_(kSteps * row_.stride),
        dquery_(n.dim),
        left_(kSteps * widest_),
        right_(kSteps * widest_),
        wide_(ScratchSize<T>(std::max(n.steps, n.dim))) {}

  void Run(int64_t b) {
    row_.Read(call_, b);
    const int64_t count = row_.count();
    T* dquery = call_.out<T>(0) + b * n_.dim;
    T* dkeys = call_.out<T>(1) + b * n_.steps * n_.dim;
    for (int64_t t = 0, i = 0; t < n_.steps; ++t) {
      if (i < count && row_.steps[i] == t) {
        ++i;
      } else {
        std::memset(static_cast<void*>(dkeys + t * n_.dim), 0, n_.dim * sizeof(T));
      }
    }
    if (count == 0) {
      std::memset(static_cast<void*>(dquery), 0, n_.dim * sizeof(T));
      return;
    }
    Scores(b);
    row_.Fold();
    FoldTurned();
    std::memset(added_.get(), 0, width_ * sizeof(A));
    for (int64_t s = 0; s < count; s += kSteps) Steps(s, std::min(kSteps, count - s), dkeys);
    First();
    Store(dquery_.get(), dquery, n_.dim);
  }

 private:
  // Weights and the gradients of the scores.
  void Scores(int64_t b) {
    const int64_t count = row_.count(), at = b * n_.steps;
    const bool kept = call_.inputs[5].size() > 0;
    const A* weights = kept ? nullptr : Load(call_.in<T>(4) + at, n_.steps, wide_.get());
    for (int64_t s = 0; s < count; ++s) {
      const int64_t t = row_.steps[s];
      weights_[s] = kept ? call_.in<float>(5)[at + t] : weights[t];
    }
    const A* dpooled = Load(call_.in<T>(6) + b * n_.dim, n_.dim, wide_.get());
    Pad(dpooled, 1, n_.dim, n_.dim, dpooled_.get(), row_.stride);
    SumRows<A>(count, row_.stride, dscores_.get(), [&](int64_t r, int64_t c) {
      return LoadVec(row_.keys + r * row_.stride + c) * LoadVec(dpooled_ + c);
    });
    const A* dweights = Load(call_.in<T>(7) + at, n_.steps, wide_.get());
    A centre = 0;
    for (int64_t s = 0; s < count; ++s) {
      dscores_[s] += dweights[row_.steps[s]];
      centre += weights_[s] * dscores_[s];
    }
    if (!n_.normalize) return;
    for (int64_t s = 0; s < count; ++s) dscores_[s] = weights_[s] * (dscores_[s] - centre);
  }

  // The row's kernel for its keys, transposed.
  void FoldTurned() {
    const A *key = network_.turned[0], *product = network_.turned[1];
    for (int64_t c = 0; c < n_.widths[0]; ++c) {
      for (int64_t r = 0; r < row_.stride; r += L) {
        const int64_t i = c * row_.stride + r;
        StoreVec(turned_ + i, LoadVec(key + i) + LoadVec(row_.query + r) * LoadVec(product + i));
      }
    }
  }

  void Steps(int64_t begin, int64_t count, T* dkeys) {
    row_.Forward(begin, count, nullptr);
    A *dx = left_, *next = right_;
    const int64_t last = n_.layers() - 1;
    if (last == 0) {
      for (int64_t s = 0; s < count; ++s) {
        StoreVec(dx + s * width_, Vec<A>{});
        dx[s * width_] = dscores_[begin + s];
      }
    } else {
      Last(begin, count, dx);
    }
    for (int64_t i = last - 1; i > 0; --i) {
      const int64_t width = layout_.padded[i], before = layout_.padded[i - 1];
      AddRows(dx, count, width, sums_ + layout_.biases[i]);
      MatMul<A>(n_.before(i), width, count, row_.hidden[i - 1], 1, before, dx, width,
                sums_ + layout_.kernels[i], width, true);
      MatMul<A>(count, before, n_.widths[i], dx, width, 1, network_.turned[i + 1], before, next,
                before);
      ForActivation(n_.activation, [&](auto activation) {
        for (int64_t k = 0; k < count * before; k += L) {
          const Vec<A> slope = Slope<A, activation()>(LoadVec(row_.hidden[i - 1] + k));
          StoreVec(next + k, LoadVec(next + k) * slope);
        }
      });
      std::swap(dx, next);
    }
    AddRows(dx, count, width_, added_.get());
    const A* keys = row_.keys + begin * row_.stride;
    MatMul<A>(n_.dim, width_, count, keys, 1, row_.stride, dx, width_, down_.get(), width_,
              begin > 0);
    MatMul<A>(count, row_.stride, n_.widths[0], dx, width_, 1, turned_.get(), row_.stride,
              dkeys_.get(), row_.stride);
    for (int64_t s = 0; s < count; ++s) {
      A* at = dkeys_ + s * row_.stride;
      for (int64_t c = 0; c < row_.stride; c += L) {
        StoreVec(at + c, LoadVec(at + c) + weights_[begin + s] * LoadVec(dpooled_ + c));
      }
      Store(at, dkeys + row_.steps[begin + s] * n_.dim, n_.dim);
    }
  }

  // The last layer of several: one unit.
  void Last(int64_t begin, int64_t count, A* dx) {
    const int64_t last = n_.layers() - 1, width = layout_.padded[last - 1];
    const A* kernel = network_.kernel(last);
    A* dkernel = sums_ + layout_.kernels[last];
    const A* hidden = row_.hidden[last - 1];
    ForActivation(n_.activation, [&](auto activation) {
      for (int64_t c = 0; c < width; c += L) {
        Vec<A> sum = LoadVec(dkernel + c);
        const Vec<A> own = LoadVec(kernel + c);
        for (int64_t s = 0; s < count; ++s) {
          const Vec<A> y = LoadVec(hidden + s * width + c);
          const A dscore = dscores_[begin + s];
          sum += dscore * y;
          StoreVec(dx + s * width + c, dscore * own * Slope<A, activation()>(y));
        }
        StoreVec(dkernel + c, sum);
      }
    });
    for (int64_t s = 0; s < count; ++s) sums_[layout_.biases[last]] += dscores_[begin + s];
  }

  // The query's gradient and those of the first layer, once all steps are done.
  void First() {
    const int64_t size = n_.dim * width_;
    A *dof_query = sums_ + layout_.kernels[0], *dof_key = dof_query + size;
    A* dof_product = dof_key + size;
    const A *of_query = network_.kernel(0), *of_product = of_query + 2 * size;
    AddRows(added_.get(), 1, width_, sums_ + layout_.biases[0]);
    for (int64_t r = 0; r < n_.dim; ++r) {
      const A q = row_.query[r];
      for (int64_t c = 0; c < width_; c += L) {
        const int64_t i = r * width_ + c;
        const Vec<A> down = LoadVec(down_ + i);
        StoreVec(dof_query + i, LoadVec(dof_query + i) + q * LoadVec(added_ + c));
        StoreVec(dof_key + i, LoadVec(dof_key + i) + down);
        StoreVec(dof_product + i, LoadVec(dof_product + i) + q * down);
      }
    }
    SumRows<A>(n_.dim, width_, dquery_.get(), [&](int64_t r, int64_t c) {
      const int64_t i = r * width_ + c;
      return LoadVec(of_query + i) * LoadVec(added_ + c) +
             LoadVec(of_product + i) * LoadVec(down_ + i);
    });
  }

  // Adds rows [count, width] to one.
  static void AddRows(const A* from, int64_t count, int64_t width, A* to) {
    for (int64_t c = 0; c < width; c += L) {
      Vec<A> sum = LoadVec(to + c);
      for (int64_t s = 0; s < count; ++s) sum += LoadVec(from + s * width + c);
      StoreVec(to + c, sum);
    }
  }

  const Call& call_;
  Shape n_;
  const Network<A>& network_;
  const Layout<A>& layout_;
  A* sums_;
  Row<T> row_;
  int64_t width_, widest_;
  Scratch<A> turned_, down_, added_, dpooled_, weights_, dscores_, dkeys_, dquery_, left_, right_;
  Scratch<A> wide_;
};

template <typename T>
void UnitGrad(const Call& call) {
  using A = Wide<T>;
  const Shape n = ShapeOf(call.inputs[1].dims, call.options);
  const Network<A> network(n, call.in<T>(3), true);
  Scratch<A> sums(network.layout.size);
  SumOverRows(call, n.batch, 1, n.steps, network.layout.size, sums.get(),
              [&](int64_t begin, int64_t end, A* part) {
                Backward<T> backward(call, n, network, part);
                for (int64_t b = begin; b < end; ++b) backward.Run(b);
              });
  Unfold<T>(n, sums.get(), call.out<T>(2));
}

std::vector<Dims> UnitShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  const Dims &query = in[0], &keys = in[1], &mask = in[2], &network = in[3];
  Check(query.size() == 2 && keys.size() == 3 && mask.size() == 2 && network.size() == 1,
        "query, keys, mask, network: expected ranks 2, 3, 2, 1");
  Check(options.size() > kFixedOptions && options[0] >= 0 && options[0] < 4 && options.back() == 1,
        "expected an activation, two flags and widths that end in 1");
  for (size_t i = kFixedOptions; i < options.size(); ++i) Check(options[i] > 0, "a width of 0");
  CheckSize(keys[0], query[0], "keys");
  CheckSize(keys[2], query[1], "keys");
  for (int axis : {0, 1}) CheckSize(mask[axis], keys[axis], "mask");
  if (keys[2] >= 0) CheckSize(network[0], ShapeOf(keys, options).parameters(), "network");
  const Dims weights = {keys[0], keys[1]};
  return {query, weights, options[2] ? weights : Dims{0}};
}

std::vector<Dims> UnitGradShapes(const std::vector<Dims>& in,
                                 const std::vector<int64_t>& options) {
  const std::vector<Dims> want = UnitShapes(in, options);
  const char* const names[] = {"weights", "kept", "dpooled", "dweights"};
  for (int i = 0; i < 4; ++i) {
    const Dims &got = in[4 + i], &like = want[i < 2 ? i + 1 : i - 2];
    Check(got.size() == like.size(), names[i], ": expected rank ", like.size());
    for (size_t axis = 0; axis < like.size(); ++axis) CheckSize(got[axis], like[axis], names[i]);
  }
  return {in[0], in[1], in[3]};
}

}  // namespace
}  // namespace target_attention

std::vector<Op> TargetAttentionOps() {
  using namespace target_attention;
  return {
      {"TargetAttention",
       {"query: T", "keys: T", "mask: bool", "network: T"},
       {"pooled: T", "weights: T", "kept: float"},
       UnitShapes,
       RECOPS_RUN(Unit)},
      {"TargetAttentionGrad",
       {"query: T", "keys: T", "mask: bool", "network: T", "weights: T", "kept: float",
        "dpooled: T", "dweights: T"},
       {"dquery: T", "dkeys: T", "dnetwork: T"},
       UnitGradShapes,
       RECOPS_RUN(UnitGrad)},
  };
}

}  // namespace recops
