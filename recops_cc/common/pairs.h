// Products of bfloat16 where the processor multiplies pairs of them into float32 sums.
#pragma once

#ifdef __AVX512BF16__
#define RECOPS_BFLOAT16_PAIRS

#include <immintrin.h>

#include <cstdint>

#include "numeric.h"
#include "vector.h"

namespace recops {

// Two values as one lane: the first in the low half.
using Pair = uint32_t;
constexpr int64_t kPairs = 16;

inline __m512i LoadPairs(const Pair* p) { return _mm512_loadu_si512(p); }
inline void StorePairs(Pair* p, __m512i pairs) { _mm512_storeu_si512(p, pairs); }

// Vectors of floats as pairs (a[i], b[i]).
inline __m512i PairUp(Vec<float> a, Vec<float> b) {
  const auto low = (__m256i)_mm512_cvtneps_pbh((__m512)a);
  const auto high = (__m256i)_mm512_cvtneps_pbh((__m512)b);
  return _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                         _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}

// Neighbours as pairs: (a[0], a[1]), (a[2], a[3]) to (b[14], b[15]).
inline __m512i PairWithin(Vec<float> a, Vec<float> b) {
  return (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
}

// Rows of bfloat16 as pairs (low[i], high[i]).
inline __m512i PairUp(const bfloat16* low, const bfloat16* high) {
  const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low));
  const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high));
  return _mm512_or_si512(_mm512_cvtepu16_epi32(first),
                         _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16));
}

template <int R, int C>
inline void PairBlock(int64_t k, const Pair* a, int64_t a_row, int64_t a_col, const Pair* b,
                      int64_t b_row, float* c, int64_t c_row, bool add) {
  __m512 sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < C; ++v) {
      sum[r][v] = add ? _mm512_loadu_ps(c + r * c_row + v * kPairs) : _mm512_setzero_ps();
    }
  }
  for (int64_t i = 0; i < k; ++i) {
    __m512bh right[C];
    for (int v = 0; v < C; ++v) right[v] = (__m512bh)LoadPairs(b + i * b_row + v * kPairs);
    for (int r = 0; r < R; ++r) {
      const auto left = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[r * a_row + i * a_col]));
      for (int v = 0; v < C; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < C; ++v) _mm512_storeu_ps(c + r * c_row + v * kPairs, sum[r][v]);
  }
}

template <int C>
inline void PairColumns(int64_t m, int64_t k, const Pair* a, int64_t a_row, int64_t a_col,
                        const Pair* b, int64_t b_row, float* c, int64_t c_row, bool add) {
  constexpr int R = C >= 4 ? 6 : 8;
  int64_t i = 0;
  for (; i + R <= m; i += R) {
    PairBlock<R, C>(k, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
  }
  for (; i + 2 <= m; i += 2) {
    PairBlock<2, C>(k, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
  }
  if (i < m) PairBlock<1, C>(k, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
}

// As MatMul: c[m, n] = a[m, 2k] b[2k, n] with both operands as pairs along 2k.
inline void PairMatMul(int64_t m, int64_t n, int64_t k, const Pair* a, int64_t a_row, int64_t a_col,
                       const Pair* b, int64_t b_row, float* c, int64_t c_row, bool add = false) {
  int64_t j = 0;
  // Two or three vectors are better than four and one, or four and two.
  for (; j + 4 * kPairs <= n && n - j != 5 * kPairs && n - j != 6 * kPairs; j += 4 * kPairs) {
    PairColumns<4>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
  }
  for (; j + 3 * kPairs <= n; j += 3 * kPairs) {
    PairColumns<3>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
  }
  for (; j + 2 * kPairs <= n; j += 2 * kPairs) {
    PairColumns<2>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
  }
  if (j < n) PairColumns<1>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
}

}  // namespace recops

#endif  // __AVX512BF16__
