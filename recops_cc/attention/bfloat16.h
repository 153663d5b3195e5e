// Attention of bfloat16 where the processor multiplies pairs of them into float32: all products
// take such pairs, the softmax and every sum are float32.
#pragma once

#include "../common/pairs.h"
#include "heads.h"

#ifdef RECOPS_BFLOAT16_PAIRS

#include <cstring>

#include "../common/transpose.h"

namespace recops::attention {

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
    const auto* values = reinterpret_cast<const bfloat16*>(rows_.get());
    for (int64_t i = 0; i < count; i += 2) {
      for (int64_t e = 0; e < padded_; e += kPairs) {
        const bfloat16* at = values + i * padded_ + e;
        StorePairs(stacked_ + i / 2 * padded_ + e, PairUp(at, at + padded_));
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

#endif  // RECOPS_BFLOAT16_PAIRS
