// Attention over the pairs of fields. As many rows of the batch as a vector has lanes are worked on
// at once, one in each lane: neither fields nor dimensions are padded and no sum crosses lanes.
// Products of pairs and the hidden layer live in registers; of the backward, the hidden layer's
// gradient for a few units of the attention network stands in the second cache.
#include "../common/lanes.h"
#include "../common/math.h"
#include "../common/numeric.h"
#include "../common/rooms.h"
#include "../common/vector.h"

namespace recops {
namespace {

int64_t Pairs(int64_t fields) { return fields * (fields - 1) / 2; }

// Number of the first pair whose left field is i.
int64_t FirstPair(int64_t i, int64_t fields) { return i * fields - i * (i + 1) / 2; }

// The attention network in the type that is computed with.
template <typename T>
struct Network {
  using A = Wide<T>;

  explicit Network(const Call& call)
      : dim(call.inputs[1].dim(0)),
        units(call.inputs[1].dim(1)),
        kernel_(ScratchSize<T>(dim * units)),
        bias_(ScratchSize<T>(units)),
        projection_(ScratchSize<T>(units)),
        kernel(Load(call.in<T>(1), dim * units, kernel_.get())),
        bias(Load(call.in<T>(2), units, bias_.get())),
        projection(Load(call.in<T>(3), units, projection_.get())) {
    Check((!call.options.empty() && call.options[0] != 0) == kNarrow<T>,
          "options: expected 1 for 16-bit inputs, else 0");
  }

  int64_t dim, units;

 private:
  Scratch<A> kernel_, bias_, projection_;

 public:
  const A *kernel, *bias, *projection;
};

// Calls f(first unit, count) for all units of the network, with the count a constant: by eights,
// then what is left.
template <typename F>
void ByUnits(int64_t units, const F& f) {
  int64_t u = 0;
  for (; u + 8 <= units; u += 8) f(u, std::integral_constant<int, 8>());
  if (units - u >= 4) {
    f(u, std::integral_constant<int, 4>());
    u += 4;
  }
  if (units - u >= 2) {
    f(u, std::integral_constant<int, 2>());
    u += 2;
  }
  if (u < units) f(u, std::integral_constant<int, 1>());
}

// The hidden layer before its activation, of R pairs of `left` [D, L] with R neighbouring fields at
// `right` [R, D, L], for the C units from u on.
template <int C, int R, typename T>
inline void Hidden(const Network<T>& network, int64_t u, const Wide<T>* left, const Wide<T>* right,
                   Vec<Wide<T>> (&hidden)[R][C]) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t field = network.dim * L;
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) hidden[r][c] = Fill<A>(network.bias[u + c]);
  }
  const A* kernel = network.kernel + u;
  for (int64_t k = 0; k < network.dim; ++k, kernel += network.units) {
    const Vec<A> own = LoadVec(left + k * L);
    Vec<A> product[R];
    for (int r = 0; r < R; ++r) product[r] = own * LoadVec(right + r * field + k * L);
    for (int c = 0; c < C; ++c) {
      const A weight = kernel[c];
      for (int r = 0; r < R; ++r) hidden[r][c] += product[r] * weight;
    }
  }
}

// Calls f(number of the pair, left, right, count) for all pairs: R neighbouring ones at a time.
template <typename A, typename F>
void ByPairs(const A* x, int64_t fields, int64_t field, const F& f) {
  int64_t p = 0;
  for (int64_t i = 0; i < fields - 1; ++i) {
    const A* left = x + i * field;
    int64_t j = i + 1;
    for (; j + 3 <= fields; j += 3, p += 3) {
      f(p, left, x + j * field, std::integral_constant<int, 3>());
    }
    for (; j < fields; ++j, ++p) f(p, left, x + j * field, std::integral_constant<int, 1>());
  }
}

template <typename A>
Vec<A> Relu(Vec<A> v) {
  return v < A(0) ? Vec<A>{} : v;  // a NaN stays one
}

// scores [P, L] to the softmax over the pairs of each lane.
template <typename A>
void Softmax(int64_t pairs, A* scores) {
  constexpr int64_t L = kLanes<A>;
  Vec<A> largest = LoadVec(scores);
  for (int64_t p = 1; p < pairs; ++p) largest = Max<A>(LoadVec(scores + p * L), largest);
  Vec<A> sum{};
  for (int64_t p = 0; p < pairs; ++p) {
    const Vec<A> value = Exp<A>(LoadVec(scores + p * L) - largest);
    sum += value;
    StoreVec(scores + p * L, value);
  }
  const Vec<A> factor = A(1) / sum;
  for (int64_t p = 0; p < pairs; ++p) {
    StoreVec(scores + p * L, LoadVec(scores + p * L) * factor);
  }
}

// sum[k] = sum over the n neighbouring fields of weights[field] x[field, k].
template <typename A, typename Weight>
void WeightedSum(const A* x, int64_t n, int64_t dim, const Weight& weight, A* sum) {
  constexpr int64_t L = kLanes<A>;
  auto columns = [&](int64_t k, auto width) {
    Vec<A> total[width.value] = {};
    for (int64_t j = 0; j < n; ++j) {
      const Vec<A> w = weight(j);
      for (int c = 0; c < width.value; ++c) {
        total[c] += w * LoadVec(x + (j * dim + k + c) * L);
      }
    }
    for (int c = 0; c < width.value; ++c) StoreVec(sum + (k + c) * L, total[c]);
  };
  int64_t k = 0;
  for (; k + 8 <= dim; k += 8) columns(k, std::integral_constant<int, 8>());
  for (; k < dim; ++k) columns(k, std::integral_constant<int, 1>());
}

template <typename T>
void Pool(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(2);
  const int64_t pairs = Pairs(f), field = d * L;
  const Network<T> network(call);
  // 16-bit results are kept as they were before rounding too.
  A* const pooled_rows = reinterpret_cast<A*>(call.outputs[kNarrow<T> ? 2 : 0].data);
  A* const weight_rows = reinterpret_cast<A*>(call.outputs[kNarrow<T> ? 3 : 1].data);
  call.parallel(rows, L, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    Scratch<A> x(f * field), weights(pairs * L), pooled(field), sum(field);
    Scratch<A> wide(ScratchSize<T>(L * f * d));
    ToLanes(Load(call.in<T>(0) + begin * f * d, count * f * d, wide.get()), count, f * d, x.get());
    std::memset(weights.get(), 0, pairs * L * sizeof(A));
    ByUnits(network.units, [&](int64_t u, auto units) {
      constexpr int C = units.value;
      ByPairs(x.get(), f, field, [&](int64_t p, const A* left, const A* right, auto many) {
        constexpr int R = many.value;
        Vec<A> hidden[R][C];
        Hidden<C, R>(network, u, left, right, hidden);
        for (int r = 0; r < R; ++r) {
          Vec<A> score = LoadVec(weights + (p + r) * L);
          for (int c = 0; c < C; ++c) score += Relu<A>(hidden[r][c]) * network.projection[u + c];
          StoreVec(weights + (p + r) * L, score);
        }
      });
    });
    Softmax<A>(pairs, weights);
    std::memset(pooled.get(), 0, field * sizeof(A));
    for (int64_t i = 0; i < f - 1; ++i) {
      const A* own = weights + FirstPair(i, f) * L;
      WeightedSum<A>(
          x + (i + 1) * field, f - 1 - i, d, [&](int64_t j) { return LoadVec(own + j * L); },
          sum.get());
      for (int64_t k = 0; k < field; k += L) {
        StoreVec(pooled + k, LoadVec(pooled + k) + LoadVec(sum + k) * LoadVec(x + i * field + k));
      }
    }
    FromLanes(pooled.get(), count, d, pooled_rows + begin * d);
    FromLanes(weights.get(), count, pairs, weight_rows + begin * pairs);
    if constexpr (kNarrow<T>) {
      Round(pooled_rows + begin * d, call.out<T>(0) + begin * d, count * d);
      Round(weight_rows + begin * pairs, call.out<T>(1) + begin * pairs, count * pairs);
    }
  });
}

// The backward of a few rows at a time, which adds its part of the network's gradients.
template <typename T>
class PoolBackward {
 public:
  using A = Wide<T>;
  static constexpr int64_t L = kLanes<A>;

  PoolBackward(const Call& call, const Network<T>& network)
      : call_(call),
        network_(network),
        f_(call.inputs[0].dim(1)),
        d_(network.dim),
        pairs_(Pairs(f_)),
        field_(d_ * L),
        gradients_(d_ * network.units + 2 * network.units),
        x_(f_ * field_),
        dx_(f_ * field_),
        weights_(pairs_ * L),
        dscores_(pairs_ * L),
        dhidden_(pairs_ * std::min<int64_t>(network.units, 8) * L),
        pooled_(field_),
        dpooled_(field_),
        sum_(field_),
        sums_(gradients_ * L),
        wide_(ScratchSize<T>(L * std::max(f_ * d_, pairs_))) {
    std::memset(sums_.get(), 0, gradients_ * L * sizeof(A));
  }

  void Rows(int64_t begin, int64_t count) {
    Read(begin, count);
    Scores();
    Weighted();
    ByUnits(network_.units, [&](int64_t u, auto units) {
      HiddenGradient(u, units);
      for (int64_t i = 0; i < f_; ++i) {
        int64_t k = 0;
        for (; k + 3 <= d_; k += 3) Field<units.value, 3>(u, i, k);
        for (; k < d_; ++k) Field<units.value, 1>(u, i, k);
      }
    });
    T* to = call_.out<T>(0) + begin * f_ * d_;
    A* rows = Target(to, wide_.get());
    FromLanes(dx_.get(), count, f_ * d_, rows);
    Store(rows, to, count * f_ * d_);
  }

  // The gradients of kernel, bias and projection, one after the other.
  void Sums(A* sums) {
    for (int64_t i = 0; i < gradients_; ++i) sums[i] += SumLanes<A>(LoadVec(sums_ + i * L));
  }

 private:
  const T* in(int i) const { return call_.in<T>(i); }

  void Read(int64_t begin, int64_t count) {
    const A* pooled = reinterpret_cast<const A*>(call_.inputs[kNarrow<T> ? 6 : 4].data);
    const A* weights = reinterpret_cast<const A*>(call_.inputs[kNarrow<T> ? 7 : 5].data);
    auto read = [&](const T* from, int64_t n, A* to) {
      ToLanes(Load(from + begin * n, count * n, wide_.get()), count, n, to);
    };
    read(in(0), f_ * d_, x_);
    read(in(8), d_, dpooled_);
    read(in(9), pairs_, dscores_);
    ToLanes(pooled + begin * d_, count, d_, pooled_.get());
    ToLanes(weights + begin * pairs_, count, pairs_, weights_.get());
  }

  // From the gradients of the weights to those of the scores.
  void Scores() {
    // What all weights gain on average: of the pooled products it needs their sum alone.
    Vec<A> centre{};
    for (int64_t p = 0; p < pairs_; ++p) {
      centre += LoadVec(weights_ + p * L) * LoadVec(dscores_ + p * L);
    }
    for (int64_t k = 0; k < field_; k += L) {
      centre += LoadVec(pooled_ + k) * LoadVec(dpooled_ + k);
    }
    for (int64_t i = 0, p = 0; i < f_ - 1; ++i) {
      for (int64_t k = 0; k < field_; k += L) {
        StoreVec(sum_ + k, LoadVec(dpooled_ + k) * LoadVec(x_ + i * field_ + k));
      }
      for (int64_t j = i + 1; j < f_; ++j, ++p) {
        const A* right = x_ + j * field_;
        Vec<A> gain[2] = {LoadVec(dscores_ + p * L) - centre, Vec<A>{}};
        int64_t k = 0;
        for (; k + 2 * L <= field_; k += 2 * L) {
          gain[0] += LoadVec(sum_ + k) * LoadVec(right + k);
          gain[1] += LoadVec(sum_ + k + L) * LoadVec(right + k + L);
        }
        if (k < field_) gain[0] += LoadVec(sum_ + k) * LoadVec(right + k);
        StoreVec(dscores_ + p * L, LoadVec(weights_ + p * L) * (gain[0] + gain[1]));
      }
    }
  }

  int64_t PairOf(int64_t i, int64_t j) const {
    return i < j ? FirstPair(i, f_) + j - i - 1 : FirstPair(j, f_) + i - j - 1;
  }

  // dx: the part that goes through the sum of the products.
  void Weighted() {
    for (int64_t i = 0; i < f_; ++i) {
      A* dx = dx_ + i * field_;
      WeightedSum<A>(
          x_.get(), f_, d_,
          [&](int64_t j) { return i == j ? Vec<A>{} : LoadVec(weights_ + PairOf(i, j) * L); }, dx);
      for (int64_t k = 0; k < field_; k += L) {
        StoreVec(dx + k, LoadVec(dx + k) * LoadVec(dpooled_ + k));
      }
    }
  }

  // The hidden layer again, its gradient [P, C, L], and those of projection and bias.
  template <typename Units>
  void HiddenGradient(int64_t u, Units) {
    constexpr int C = Units::value;
    A* dbias = sums_ + (d_ * network_.units + u) * L;
    A* dprojection = dbias + network_.units * L;
    ByPairs(x_.get(), f_, field_, [&](int64_t p, const A* left, const A* right, auto many) {
      constexpr int R = many.value;
      Vec<A> hidden[R][C];
      Hidden<C, R>(network_, u, left, right, hidden);
      Vec<A> dscore[R];
      for (int r = 0; r < R; ++r) dscore[r] = LoadVec(dscores_ + (p + r) * L);
      for (int c = 0; c < C; ++c) {
        const A weight = network_.projection[u + c];
        Vec<A> to_bias = LoadVec(dbias + c * L), to_projection = LoadVec(dprojection + c * L);
        for (int r = 0; r < R; ++r) {
          to_projection += dscore[r] * Relu<A>(hidden[r][c]);
          const Vec<A> gradient = hidden[r][c] > A(0) ? dscore[r] * weight : Vec<A>{};
          to_bias += gradient;
          StoreVec(dhidden_ + ((p + r) * C + c) * L, gradient);
        }
        StoreVec(dbias + c * L, to_bias);
        StoreVec(dprojection + c * L, to_projection);
      }
    });
  }

  // Field i, dimensions k to k + R: the sum over all other fields of their value times the hidden
  // layer's gradient gives both the gradient of x and, each pair twice, that of the kernel.
  template <int C, int R>
  void Field(int64_t u, int64_t i, int64_t k) {
    Vec<A> sum[R][C] = {};
    auto add = [&](int64_t j, const A* dhidden) {
      const A* other = x_ + j * field_ + k * L;
      Vec<A> value[R];
      for (int r = 0; r < R; ++r) value[r] = LoadVec(other + r * L);
      for (int c = 0; c < C; ++c) {
        const Vec<A> gradient = LoadVec(dhidden + c * L);
        for (int r = 0; r < R; ++r) sum[r][c] += value[r] * gradient;
      }
    };
    for (int64_t j = 0; j < i; ++j) add(j, dhidden_ + PairOf(j, i) * C * L);
    const A* after = dhidden_ + FirstPair(i, f_) * C * L;
    for (int64_t j = i + 1; j < f_; ++j, after += C * L) add(j, after);
    for (int r = 0; r < R; ++r) {
      const Vec<A> half = A(0.5) * LoadVec(x_ + i * field_ + (k + r) * L);
      A* to_x = dx_ + i * field_ + (k + r) * L;
      Vec<A> dx = LoadVec(to_x);
      for (int c = 0; c < C; ++c) {
        const int64_t at = (k + r) * network_.units + u + c;
        dx += sum[r][c] * network_.kernel[at];
        StoreVec(sums_ + at * L, LoadVec(sums_ + at * L) + half * sum[r][c]);
      }
      StoreVec(to_x, dx);
    }
  }

  const Call& call_;
  const Network<T>& network_;
  int64_t f_, d_, pairs_, field_, gradients_;
  Scratch<A> x_, dx_, weights_, dscores_, dhidden_, pooled_, dpooled_, sum_, sums_, wide_;
};

template <typename T>
void PoolGrad(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0);
  const Network<T> network(call);
  const int64_t kernel = network.dim * network.units, units = network.units;
  Scratch<A> total(kernel + 2 * units);
  SumOverRows(call, rows, L, kernel + 2 * units, total.get(),
              [&](int64_t begin, int64_t end, A* sums) {
                PoolBackward<T> backward(call, network);
                for (int64_t b = begin; b < end; b += L) backward.Rows(b, std::min(L, end - b));
                backward.Sums(sums);
              });
  Store(total.get(), call.out<T>(1), kernel);
  Store(total + kernel, call.out<T>(2), units);
  Store(total + kernel + units, call.out<T>(3), units);
}

// x, kernel, bias, projection; the option says whether the results are 16 bits wide.
std::vector<Dims> PoolShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  Check(in[0].size() == 3 && in[0][1] >= 2, "x: expected rank 3 with two or more fields");
  Check(in[1].size() == 2 && in[2].size() == 1 && in[3].size() == 1,
        "kernel, bias, projection: expected ranks 2, 1, 1");
  CheckSize(in[1][0], in[0][2], "kernel");
  CheckSize(in[2][0], in[1][1], "bias");
  CheckSize(in[3][0], in[1][1], "projection");
  const Dims pooled = {in[0][0], in[0][2]}, weights = {in[0][0], Pairs(in[0][1])};
  const bool narrow = !options.empty() && options[0] != 0;
  return {pooled, weights, narrow ? pooled : Dims{0, 0}, narrow ? weights : Dims{0, 0}};
}

// The same, then the four results and the gradients of the first two.
std::vector<Dims> PoolGradShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  const std::vector<Dims> want = PoolShapes({in[0], in[1], in[2], in[3]}, options);
  for (size_t i = 0; i < 6; ++i) {
    const Dims &got = in[4 + i], &wanted = want[i % 4];
    Check(got.size() == 2, "results and their gradients: expected rank 2");
    for (size_t axis = 0; axis < 2; ++axis) CheckSize(got[axis], wanted[axis], "results");
  }
  return {in[0], in[1], in[2], in[3]};
}

}  // namespace

std::vector<Op> AttentionalPoolingOps() {
  return {
      {"AttentionalPooling",
       {"x: T", "kernel: T", "bias: T", "projection: T"},
       {"pooled: T", "weights: T", "wide_pooled: float", "wide_weights: float"},
       PoolShapes,
       RECOPS_RUN(Pool)},
      {"AttentionalPoolingGrad",
       {"x: T", "kernel: T", "bias: T", "projection: T", "pooled: T", "weights: T",
        "wide_pooled: float", "wide_weights: float", "dpooled: T", "dweights: T"},
       {"dx: T", "dkernel: T", "dbias: T", "dprojection: T"},
       PoolGradShapes,
       RECOPS_RUN(PoolGrad)},
  };
}

}  // namespace recops
