// The attention network on pairs of fields, a row of the batch in each lane.
#pragma once

#include <type_traits>

#include "../common/engine.h"
#include "../common/math.h"
#include "../common/numeric.h"
#include "../common/vector.h"

namespace recops {
namespace pooling {

inline int64_t Pairs(int64_t fields) { return fields * (fields - 1) / 2; }

// Number of the first pair whose left field is i.
inline int64_t FirstPair(int64_t i, int64_t fields) { return i * fields - i * (i + 1) / 2; }

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
    if (fields - j == 2) f(p, left, x + j * field, std::integral_constant<int, 2>());
    if (fields - j == 1) f(p, left, x + j * field, std::integral_constant<int, 1>());
    p += fields - j;
  }
}

template <typename A>
Vec<A> Relu(Vec<A> v) {
  return v < A(0) ? Vec<A>{} : v;  // a NaN stays one
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

}  // namespace pooling
}  // namespace recops
