// Vectors of the widest register, which the compiler splits where a processor has narrower ones,
// and the product of matrices that fit the cache.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace recops {

template <typename A>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float V __attribute__((vector_size(64), aligned(4), may_alias));
};
template <>
struct Lanes<double> {
  typedef double V __attribute__((vector_size(64), aligned(8), may_alias));
};
template <typename A>
using Vec = typename Lanes<A>::V;

template <typename A>
constexpr int64_t kLanes = 64 / sizeof(A);

// n rounded up to whole vectors.
template <typename A>
constexpr int64_t Padded(int64_t n) {
  return (n + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
}

template <typename A>
Vec<A> LoadVec(const A* p) {
  return *reinterpret_cast<const Vec<A>*>(p);
}
template <typename A>
void StoreVec(A* p, Vec<A> v) {
  *reinterpret_cast<Vec<A>*>(p) = v;
}

template <typename A>
A SumLanes(Vec<A> v) {
  A sum = 0;
  for (int64_t i = 0; i < kLanes<A>; ++i) sum += v[i];
  return sum;
}

// Stores past the cache where `p` is aligned: for results larger than it, that are read much later.
template <typename A>
void Stream(A* p, Vec<A> v) {
#ifdef __AVX512F__
  if (reinterpret_cast<uintptr_t>(p) % 64 == 0) {
    __m512i bits;
    std::memcpy(&bits, &v, sizeof(bits));
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), bits);
    return;
  }
#endif
  StoreVec(p, v);
}

// Rows [rows, n] at `from` with a stride of its own into rows padded with zeros to `stride`.
template <typename A>
void Pad(const A* from, int64_t rows, int64_t n, int64_t from_stride, A* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(to + r * stride, from + r * from_stride, n * sizeof(A));
    std::memset(to + r * stride + n, 0, (stride - n) * sizeof(A));
  }
}

// to[c, r] = from[r, c]; columns beyond `rows` up to `stride` are zero.
template <typename A>
void Transpose(const A* from, int64_t rows, int64_t columns, int64_t from_stride, A* to,
               int64_t stride) {
  for (int64_t c = 0; c < columns; ++c) {
    A* row = to + c * stride;
    for (int64_t r = 0; r < rows; ++r) row[r] = from[r * from_stride + c];
    for (int64_t r = rows; r < stride; ++r) row[r] = 0;
  }
}

template <typename A, int R, int C>
inline void MatMulBlock(int64_t k, const A* a, int64_t a_row, int64_t a_col, const A* b,
                        int64_t b_row, A* c, int64_t c_row, bool add) {
  constexpr int64_t L = kLanes<A>;
  Vec<A> sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < C; ++v) sum[r][v] = add ? LoadVec(c + r * c_row + v * L) : Vec<A>{};
  }
  for (int64_t i = 0; i < k; ++i) {
    Vec<A> right[C];
    for (int v = 0; v < C; ++v) right[v] = LoadVec(b + i * b_row + v * L);
    for (int r = 0; r < R; ++r) {
      const A left = a[r * a_row + i * a_col];
      for (int v = 0; v < C; ++v) sum[r][v] += left * right[v];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < C; ++v) StoreVec(c + r * c_row + v * L, sum[r][v]);
  }
}

template <typename A, int C>
inline void MatMulColumns(int64_t m, int64_t k, const A* a, int64_t a_row, int64_t a_col,
                          const A* b, int64_t b_row, A* c, int64_t c_row, bool add) {
  constexpr int R = C >= 4 ? 6 : 8;
  int64_t i = 0;
  for (; i + R <= m; i += R) {
    MatMulBlock<A, R, C>(k, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
  }
  for (; i + 2 <= m; i += 2) {
    MatMulBlock<A, 2, C>(k, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
  }
  if (i < m) {
    MatMulBlock<A, 1, C>(k, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
  }
}

// c[m, n] = a[m, k] b[k, n] (plus c where `add`), one thread, for operands that fit the cache.
// n is a multiple of the lanes; a is read at a[i * a_row + j * a_col], so transposed as well.
template <typename A>
void MatMul(int64_t m, int64_t n, int64_t k, const A* a, int64_t a_row, int64_t a_col, const A* b,
            int64_t b_row, A* c, int64_t c_row, bool add = false) {
  constexpr int64_t L = kLanes<A>;
  int64_t j = 0;
  // Few columns wait for a more often: two or three vectors are better than four and one.
  for (; j + 4 * L <= n && n - j != 5 * L; j += 4 * L) {
    MatMulColumns<A, 4>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
  }
  for (; j + 3 * L <= n; j += 3 * L) {
    MatMulColumns<A, 3>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
  }
  for (; j + 2 * L <= n; j += 2 * L) {
    MatMulColumns<A, 2>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
  }
  if (j < n) MatMulColumns<A, 1>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
}

}  // namespace recops
