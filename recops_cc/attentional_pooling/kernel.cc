// Attention over the pairs of fields. As many rows of the batch as a vector has lanes are worked on
// at once, one in each lane: neither fields nor dimensions are padded and no sum crosses lanes.
// Products of pairs and the hidden layer live in registers; of the backward, the hidden layer's
// gradient for a few units of the attention network stands in the second cache.
#include "../common/lanes.h"
#include "../common/math.h"
#include "../common/numeric.h"
#include "../common/rooms.h"
#include "../common/sums.h"
#include "../common/vector.h"
#include "backward.h"
#include "network.h"

namespace recops {
namespace pooling {
namespace {

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

template <typename T>
void Pool(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(2);
  const int64_t pairs = Pairs(f), field = d * L;
  const Network<T> network(call);
  // 16-bit weights are kept as they were before rounding too.
  A* const weight_rows = call.outputs[kNarrow<T> ? 2 : 1].template as<A>();
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
    A* const pooled_rows = Target(call.out<T>(0) + begin * d, wide.get());
    FromLanes(pooled.get(), count, d, pooled_rows);
    Store(pooled_rows, call.out<T>(0) + begin * d, count * d);
    FromLanes(weights.get(), count, pairs, weight_rows + begin * pairs);
    if constexpr (kNarrow<T>) {
      Round(weight_rows + begin * pairs, call.out<T>(1) + begin * pairs, count * pairs);
    }
  });
}

template <typename T>
void PoolGrad(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0);
  const Network<T> network(call);
  const int64_t kernel = network.dim * network.units, units = network.units;
  Scratch<A> total(kernel + 2 * units);
  // Rows go together, in lanes, over sums of as many lanes.
  const int64_t passes = std::max<int64_t>(1, Pairs(call.inputs[0].dim(1)) / L);
  SumOverRows(call, rows, L, passes, kernel + 2 * units, total.get(),
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
  return {pooled, weights, narrow ? weights : Dims{0, 0}};
}

// The same, then the weights of both widths and the gradients of the results.
std::vector<Dims> PoolGradShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  const std::vector<Dims> want = PoolShapes({in[0], in[1], in[2], in[3]}, options);
  const char* const names[] = {"weights", "wide_weights", "dpooled", "dweights"};
  const size_t result[] = {1, 2, 0, 1};
  for (size_t i = 0; i < 4; ++i) {
    Check(in[4 + i].size() == 2, names[i], ": expected rank 2");
    for (size_t axis = 0; axis < 2; ++axis) {
      CheckSize(in[4 + i][axis], want[result[i]][axis], names[i]);
    }
  }
  return {in[0], in[1], in[2], in[3]};
}

}  // namespace
}  // namespace pooling

std::vector<Op> AttentionalPoolingOps() {
  return {
      {"AttentionalPooling",
       {"x: T", "kernel: T", "bias: T", "projection: T"},
       {"pooled: T", "weights: T", "wide_weights: float"},
       pooling::PoolShapes,
       RECOPS_RUN(pooling::Pool)},
      {"AttentionalPoolingGrad",
       {"x: T", "kernel: T", "bias: T", "projection: T", "weights: T",
        "wide_weights: float", "dpooled: T", "dweights: T"},
       {"dx: T", "dkernel: T", "dbias: T", "dprojection: T"},
       pooling::PoolGradShapes,
       RECOPS_RUN(pooling::PoolGrad)},
  };
}

}  // namespace recops
