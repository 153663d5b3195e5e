// Turns blocks of as many vectors as a vector has lanes, in registers.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "vector.h"

namespace recops {

namespace internal {

// {a[first], b[first], a[first + 1], b[first + 1], ...}: half of each, from lane `first` on.
template <typename A, int64_t first, int... lane>
Vec<A> Interleave(Vec<A> a, Vec<A> b, std::integer_sequence<int, lane...>) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, (first + lane / 2 + lane % 2 * kLanes<A>)...);
#else
  using One = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;
  typedef One Index __attribute__((vector_size(64)));
  return __builtin_shuffle(a, b, Index{static_cast<One>(first + lane / 2 + lane % 2 * kLanes<A>)...});
#endif
}

}  // namespace internal

template <typename A>
void TransposeSquare(Vec<A>* v) {
  constexpr int L = kLanes<A>;
  constexpr auto kAll = std::make_integer_sequence<int, L>();
  // Each round doubles the distance between what stood side by side.
  for (int round = 1; round < L; round *= 2) {
    Vec<A> next[L];
    for (int i = 0; i < L / 2; ++i) {
      next[2 * i] = internal::Interleave<A, 0>(v[i], v[i + L / 2], kAll);
      next[2 * i + 1] = internal::Interleave<A, L / 2>(v[i], v[i + L / 2], kAll);
    }
    for (int i = 0; i < L; ++i) v[i] = next[i];
  }
}

// to[c, r] = from[r, c] * factor, for c < columns; rows of `from` are padded to whole vectors, and
// so are those of `to`, with zeros.
template <typename A>
void TransposeVectors(const A* from, int64_t rows, int64_t columns, int64_t from_stride, A factor,
                      A* to, int64_t to_stride) {
  constexpr int64_t L = kLanes<A>;
  for (int64_t r = 0; r < rows; r += L) {
    for (int64_t c = 0; c < columns; c += L) {
      Vec<A> block[L];
      for (int64_t i = 0; i < L; ++i) {
        block[i] = r + i < rows ? LoadVec(from + (r + i) * from_stride + c) * factor : Vec<A>{};
      }
      TransposeSquare<A>(block);
      for (int64_t i = 0; i < L && c + i < columns; ++i) {
        StoreVec(to + (c + i) * to_stride + r, block[i]);
      }
    }
  }
}

}  // namespace recops
