// Inner products of field pairs. Forward, rows of the batch stand in lanes: a pair takes one vector,
// and nothing is summed across lanes. Backward a row at a time, each gradient where it stands.
#pragma once

#include "../common/lanes.h"
#include "fields.h"

namespace recops {
namespace {

// Fields on the left of the pairs that are summed at once in registers, and on the right at most.
constexpr int kTile = 4;

// Products of fields i to i + 3 with fields j to j + C - 1, of those the pairs with the left before
// the right. Both x [F + 3, D], where fields beyond the last are zero, and the result [P] are in
// lanes.
template <typename A, int C>
void InnerTile(const A* x, int64_t fields, int64_t dim, int64_t i, int64_t j, A* out) {
  constexpr int64_t L = kLanes<A>;
  const int64_t size = dim * L;
  const A *left = x + i * size, *right = x + j * size;
  Vec<A> sum[kTile][C] = {};
  for (int64_t k = 0; k < size; k += L) {
    Vec<A> of_right[C];
    for (int c = 0; c < C; ++c) of_right[c] = LoadVec(right + c * size + k);
    for (int a = 0; a < kTile; ++a) {
      const Vec<A> of_left = LoadVec(left + a * size + k);
      for (int c = 0; c < C; ++c) sum[a][c] += of_left * of_right[c];
    }
  }
  for (int a = 0; a < kTile && i + a < fields - 1; ++a) {
    // Where the pairs of field i + a begin, less the place of its first right field.
    const int64_t first = (i + a) * fields - (i + a) * (i + a + 1) / 2 - (i + a) - 1;
    for (int c = 0; c < C; ++c) {
      if (j + c > i + a) StoreVec(out + (first + j + c) * L, sum[a][c]);
    }
  }
}

template <typename T>
void Inner(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(2);
  const int64_t p = Pairs(f);
  call.parallel(rows, kRows, [&](int64_t begin, int64_t end) {
    Scratch<A> x((f + kTile - 1) * d * L), out(p * L), wide(ScratchSize<T>(L * std::max(f * d, p)));
    std::memset(x + f * d * L, 0, (kTile - 1) * d * L * sizeof(A));
    for (int64_t b = begin; b < end; b += L) {
      const int64_t count = std::min(L, end - b);
      ToLanes(Load(call.in<T>(0) + b * f * d, count * f * d, wide.get()), count, f * d, x.get());
      for (int64_t i = 0; i < f - 1; i += kTile) {
        int64_t j = i + 1;
        for (; j + kTile <= f; j += kTile) InnerTile<A, kTile>(x, f, d, i, j, out);
        for (; j + 2 <= f; j += 2) InnerTile<A, 2>(x, f, d, i, j, out);
        if (j < f) InnerTile<A, 1>(x, f, d, i, j, out);
      }
      A* to = Target(call.out<T>(0) + b * p, wide.get());
      FromLanes(out.get(), count, p, to);
      Store(to, call.out<T>(0) + b * p, count * p);
    }
  });
}

// Gradients of fields i to i + R - 1 of a row, K vectors of each: dx_i is the sum of dy_ij x_j over
// all other j, where dy [P] holds the pairs with the left before the right.
template <typename A, int R, int K>
void InnerGradTile(const A* dy, const A* x, int64_t fields, int64_t stride, int64_t i, A* dx) {
  constexpr int64_t L = kLanes<A>;
  Vec<A> sum[R][K] = {};
  const auto add = [&](int a, A g, int64_t j) {
    for (int k = 0; k < K; ++k) sum[a][k] += g * LoadVec(x + j * stride + k * L);
  };
  // Where the pair of field j on the left and field i stands.
  int64_t pair = i - 1;
  for (int64_t j = 0; j < i; pair += fields - 2 - j, ++j) {
    for (int a = 0; a < R; ++a) add(a, dy[pair + a], j);
  }
  // From here the fields are on the left: dy[pairs[a] + j] is of fields i + a and j.
  int64_t pairs[R];
  pairs[0] = pair - i;
  for (int a = 1; a < R; ++a) pairs[a] = pairs[a - 1] + fields - 1 - (i + a);
  for (int a = 0; a < R; ++a) {
    for (int c = a + 1; c < R; ++c) {
      add(a, dy[pairs[a] + i + c], i + c);
      add(c, dy[pairs[a] + i + c], i + a);
    }
  }
  for (int64_t j = i + R; j < fields; ++j) {
    for (int a = 0; a < R; ++a) add(a, dy[pairs[a] + j], j);
  }
  for (int a = 0; a < R; ++a) {
    for (int k = 0; k < K; ++k) StoreVec(dx + (i + a) * stride + k * L, sum[a][k]);
  }
}

// The gradient of K vectors of every field of a row.
template <typename A, int K>
void InnerGradColumns(const A* dy, const A* x, int64_t fields, int64_t stride, A* dx) {
  int64_t i = 0;
  for (; i + kTile <= fields; i += kTile) {
    InnerGradTile<A, kTile, K>(dy, x, fields, stride, i, dx);
  }
  if (i + 2 <= fields) InnerGradTile<A, 2, K>(dy, x, fields, stride, i, dx), i += 2;
  if (i < fields) InnerGradTile<A, 1, K>(dy, x, fields, stride, i, dx);
}

template <typename T>
void InnerGrad(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(2);
  const int64_t p = Pairs(f);
  call.parallel(rows, kRows, [&](int64_t begin, int64_t end) {
    Fields<T> x(f, d);
    Scratch<A> apart(f * x.stride), wide(ScratchSize<T>(p));
    for (int64_t b = begin; b < end; ++b) {
      const A* fields = x.At(call.in<T>(0) + b * f * d);
      const A* dy = Load(call.in<T>(1) + b * p, p, wide.get());
      A* to = x.For(call.out<T>(0) + b * f * d);
      // `For` may be where the fields stand.
      A* dx = to == fields ? apart.get() : to;
      int64_t k = 0;
      for (; k + 4 * L <= x.stride; k += 4 * L) {
        InnerGradColumns<A, 4>(dy, fields + k, f, x.stride, dx + k);
      }
      for (; k + 2 * L <= x.stride; k += 2 * L) {
        InnerGradColumns<A, 2>(dy, fields + k, f, x.stride, dx + k);
      }
      if (k < x.stride) InnerGradColumns<A, 1>(dy, fields + k, f, x.stride, dx + k);
      x.Write(dx, call.out<T>(0) + b * f * d);
    }
  });
}

}  // namespace
}  // namespace recops
