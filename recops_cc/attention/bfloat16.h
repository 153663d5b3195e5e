// Attention of bfloat16 where the processor multiplies pairs of them into float32: all products
// take such pairs, the softmax and every sum are float32.
#pragma once

#ifdef __AVX512BF16__
#define RECOPS_BFLOAT16_PAIRS

#include <immintrin.h>

#include <cstring>

#include "../common/math.h"
#include "../common/numeric.h"
#include "../common/transpose.h"
#include "../common/vector.h"
#include "heads.h"

namespace recops::attention {

// Two values as one lane: the first in the low half.
using Pair = uint32_t;
constexpr int64_t kPairs = 16;

inline __m512i LoadPairs(const Pair* p) { return _mm512_loadu_si512(p); }

// Vectors of floats as pairs (a[i], b[i]).
inline __m512i PairUp(Vec<float> a, Vec<float> b) {
  const auto low = (__m256i)_mm512_cvtneps_pbh((__m512)a);
  const auto high = (__m256i)_mm512_cvtneps_pbh((__m512)b);
  return _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                         _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
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
  int64_t i = 0;
  for (; i + 8 <= m; i += 8) {
    PairBlock<8, C>(k, a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, add);
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
  for (; j + 3 * kPairs <= n; j += 3 * kPairs) {
    PairColumns<3>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
  }
  for (; j + 2 * kPairs <= n; j += 2 * kPairs) {
    PairColumns<2>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
  }
  if (j < n) PairColumns<1>(m, k, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
}

// Vectors [rows, E] of one head in the two orders that products read.
class PairedVectors {
 public:
  PairedVectors(int64_t most, const Sizes& n)
      : n_(n),
        padded_(Padded<float>(n.dim)),
        rows_((most + 1) * padded_ / 2),
        stacked_((most + 1) / 2 * padded_) {}

  void Read(const bfloat16* from, int64_t count, const int64_t* steps = nullptr) {
    for (int64_t i = 0; i < count; ++i) {
      auto* to = reinterpret_cast<bfloat16*>(rows_.get()) + i * padded_;
      std::memcpy(to, from + (steps == nullptr ? i : steps[i]) * n_.row(),
                  n_.dim * sizeof(bfloat16));
      for (int64_t e = n_.dim; e < padded_; ++e) to[e].bits = 0;
    }
    if (count % 2 == 1) std::memset(rows_ + count * stride(), 0, stride() * sizeof(Pair));
    const auto* values = reinterpret_cast<const char*>(rows_.get());
    for (int64_t i = 0; i < count; i += 2) {
      for (int64_t e = 0; e < padded_; e += kPairs) {
        const auto* at = reinterpret_cast<const __m256i*>(values + (i * padded_ + e) * 2);
        const auto* below = reinterpret_cast<const __m256i*>(values + ((i + 1) * padded_ + e) * 2);
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at));
        const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(below));
        _mm512_storeu_si512(stacked_ + i / 2 * padded_ + e,
                            _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
    }
  }

  // [count, E / 2]: pairs along E.
  const Pair* rows() { return rows_; }
  int64_t stride() const { return padded_ / 2; }
  // [count / 2, E]: pairs along the rows, of which `first` is an even one.
  const Pair* stacked(int64_t first = 0) { return stacked_ + first / 2 * padded_; }

  // [E / 2, count] of rows [first, first + count): pairs along E, rows along the lanes.
  void Turn(int64_t first, int64_t count, Pair* to, int64_t to_stride) {
    const auto* from = reinterpret_cast<const float*>(rows_.get()) + first * stride();
    for (int64_t r = 0; r < count; r += kPairs) {
      for (int64_t e = 0; e < n_.dim; e += 2 * kPairs) {
        const int64_t lanes = std::min(kPairs, stride() - e / 2);
        const auto mask = static_cast<__mmask16>((1u << lanes) - 1);
        Vec<float> block[kPairs];
        for (int64_t i = 0; i < kPairs; ++i) {
          const float* at = from + (r + i) * stride() + e / 2;
          block[i] = r + i < count ? (Vec<float>)_mm512_maskz_loadu_ps(mask, at) : Vec<float>{};
        }
        TransposeSquare<float>(block);
        for (int64_t i = 0; i < lanes; ++i) {
          std::memcpy(to + (e / 2 + i) * to_stride + r, &block[i], sizeof(block[i]));
        }
      }
    }
  }

 private:
  Sizes n_;
  int64_t padded_;
  Scratch<Pair> rows_, stacked_;
};

}  // namespace recops::attention

#endif  // __AVX512BF16__
