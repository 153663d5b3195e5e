// Number types: 16-bit values are loaded to float32, worked on there, and rounded once when stored.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#ifdef __F16C__
#include <immintrin.h>
#endif

#include "engine.h"

namespace recops {

struct half {
  uint16_t bits;
};
struct bfloat16 {
  uint16_t bits;
};

// The type in which values of T are computed with.
template <typename T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
constexpr bool kNarrow = !std::is_same_v<T, Wide<T>>;

template <typename To, typename From>
To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

inline void Widen(const bfloat16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = BitCast<float>(uint32_t{from[i].bits} << 16);
}

inline void Round(const float* from, bfloat16* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = BitCast<uint32_t>(from[i]);
    // To nearest, ties to even; a NaN stays one.
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    to[i].bits = static_cast<uint16_t>(nan ? 0x7fc0 : rounded);
  }
}

inline float WidenOne(half from) {
  const uint32_t sign = uint32_t{from.bits & 0x8000u} << 16;
  const uint32_t magnitude = from.bits & 0x7fffu;
  // Shifting puts the exponent 112 too low; a product with 2^112 also normalises subnormals.
  const float value = magnitude >= 0x7c00
                          ? BitCast<float>(0x7f800000u | (magnitude & 0x3ffu) << 13)
                          : BitCast<float>(magnitude << 13) * 0x1p112f;
  return BitCast<float>(sign | BitCast<uint32_t>(value));
}

inline half RoundOne(float from) {
  const uint32_t bits = BitCast<uint32_t>(from);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t rounded;
  if (magnitude > 0x7f800000u) {
    rounded = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // what rounds to 2^16 or more
    rounded = 0x7c00u;
  } else if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 leaves the result in the low bits, rounded by the adder.
    rounded = BitCast<uint32_t>(BitCast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    rounded = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13;
  }
  return half{static_cast<uint16_t>(sign | rounded)};
}

inline void Widen(const half* from, float* to, int64_t n) {
  int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= n; i += 8) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(packed));
  }
#endif
  for (; i < n; ++i) to[i] = WidenOne(from[i]);
}

inline void Round(const float* from, half* to, int64_t n) {
  int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= n; i += 8) {
    const __m128i packed = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), packed);
  }
#endif
  for (; i < n; ++i) to[i] = RoundOne(from[i]);
}

// Uninitialised memory, aligned for any vector register. A size that overflows throws.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t n) : data_(Allocate(n)) {}
  T* get() { return data_.get(); }
  const T* get() const { return data_.get(); }
  T& operator[](int64_t i) { return data_.get()[i]; }
  operator T*() { return data_.get(); }
  operator const T*() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  static T* Allocate(int64_t n) {
    size_t bytes;
    if (n < 0 || __builtin_mul_overflow(static_cast<size_t>(n), sizeof(T), &bytes) ||
        bytes > SIZE_MAX - 127) {
      throw std::bad_alloc();
    }
    void* p = std::aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (p == nullptr) throw std::bad_alloc();
    return static_cast<T*>(p);
  }
  std::unique_ptr<T, Free> data_;
};

// n values at `from`, wide: where they stand if T is wide itself, else converted into `scratch`.
template <typename T>
const Wide<T>* Load(const T* from, int64_t n, Wide<T>* scratch) {
  if constexpr (kNarrow<T>) {
    Widen(from, scratch, n);
    return scratch;
  } else {
    return from;
  }
}

// Where to compute n wide values that `Store` then puts at `to`: there if T is wide itself.
template <typename T>
Wide<T>* Target(T* to, Wide<T>* scratch) {
  if constexpr (kNarrow<T>) {
    return scratch;
  } else {
    return to;
  }
}

template <typename T>
void Store(const Wide<T>* from, T* to, int64_t n) {
  if constexpr (kNarrow<T>) {
    Round(from, to, n);
  } else if (from != to) {
    std::memcpy(to, from, n * sizeof(T));
  }
}

// Elements of scratch that Load and Target need for n values of T: none where T is wide itself.
template <typename T>
constexpr int64_t ScratchSize(int64_t n) {
  return kNarrow<T> ? n : 0;
}

// Calls f with a value of the C++ type of a float type: `ForType(type, [&](auto t) { using T = ...`.
template <typename F>
void ForType(Type type, const F& f) {
  switch (type) {
    case Type::kHalf:
      return f(half{});
    case Type::kBfloat16:
      return f(bfloat16{});
    case Type::kFloat:
      return f(float{});
    case Type::kDouble:
      return f(double{});
    default:
      Check(false, "expected a float type");
  }
}

}  // namespace recops
