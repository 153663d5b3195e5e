// Rows of the batch side by side: value k of row r stands at [k, r], so that a kernel does the same
// to a whole vector of rows and needs no padding of its own axes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "transpose.h"
#include "vector.h"

namespace recops {

// A square of the lanes: to[c, r] = from[r, c] for the first `rows` rows of `from` (the others count
// as zero) and the first `rows_to` rows of `to`.
template <typename A>
void CopySquare(const A* from, int64_t from_stride, int64_t rows, A* to, int64_t to_stride,
                int64_t rows_to) {
  constexpr int64_t L = kLanes<A>;
  Vec<A> v[L];
  if (rows == L && rows_to == L) {
    for (int64_t r = 0; r < L; ++r) v[r] = LoadVec(from + r * from_stride);
    TransposeSquare<A>(v);
    for (int64_t r = 0; r < L; ++r) StoreVec(to + r * to_stride, v[r]);
    return;
  }
  for (int64_t r = 0; r < L; ++r) v[r] = r < rows ? LoadVec(from + r * from_stride) : Vec<A>{};
  TransposeSquare<A>(v);
  for (int64_t r = 0; r < rows_to; ++r) StoreVec(to + r * to_stride, v[r]);
}

// Rows [count, n] with count <= L to lanes [n, L]; lanes beyond the count are zero.
template <typename A>
void ToLanes(const A* from, int64_t count, int64_t n, A* to) {
  constexpr int64_t L = kLanes<A>;
  if (n < L) {
    Transpose(from, count, n, n, to, L);
    return;
  }
  // The last square overlaps the one before rather than leave a rest.
  for (int64_t k = 0; k < n; k += L) {
    const int64_t c = std::min(k, n - L);
    CopySquare(from + c, n, count, to + c * L, L, L);
  }
}

// Lanes [n, L] to rows [count, n].
template <typename A>
void FromLanes(const A* from, int64_t count, int64_t n, A* to) {
  constexpr int64_t L = kLanes<A>;
  if (n < L) {
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t k = 0; k < n; ++k) to[r * n + k] = from[k * L + r];
    }
    return;
  }
  for (int64_t k = 0; k < n; k += L) {
    const int64_t c = std::min(k, n - L);
    CopySquare(from + c * L, L, L, to + c, n, count);
  }
}

}  // namespace recops
