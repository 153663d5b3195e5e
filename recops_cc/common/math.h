// exp, sigmoid and tanh of whole vectors, accurate to a few units in the last place.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>

#include "vector.h"

namespace recops {

// Integers as wide as A, and as many.
template <typename A>
struct Integers;
template <>
struct Integers<float> {
  using One = int32_t;
  typedef int32_t V __attribute__((vector_size(64), aligned(4), may_alias));
};
template <>
struct Integers<double> {
  using One = int64_t;
  typedef int64_t V __attribute__((vector_size(64), aligned(8), may_alias));
};
template <typename A>
using IntVec = typename Integers<A>::V;

template <typename A>
constexpr Vec<A> Fill(A value) {
  return Vec<A>{} + value;
}

// Lane by lane; of a NaN and a number `Max(v, number)` gives the number.
template <typename A>
Vec<A> Max(Vec<A> v, Vec<A> least) {
  return v > least ? v : least;
}
template <typename A>
Vec<A> Min(Vec<A> v, Vec<A> most) {
  return v < most ? v : most;
}

// e^x: 0 below the smallest normal number, infinity above the largest; a NaN stays one.
template <typename A>
Vec<A> Exp(Vec<A> x) {
  constexpr bool kFloat = sizeof(A) == 4;
  constexpr int kMantissa = kFloat ? 23 : 52;
  constexpr A kLeast = kFloat ? A(-87.33654) : A(-708.396418532264);
  constexpr A kMost = kFloat ? A(88.72283) : A(709.782712893384);
  // Adding it leaves the nearest integer in the low bits.
  constexpr A kShift = kFloat ? A(0x1.8p23) : A(0x1.8p52);
  constexpr A kPowers = kFloat ? A(130) : A(1030);
  constexpr A kHigh = kFloat ? A(0.693359375) : A(0x1.62e42fee00000p-1);
  constexpr A kLow = kFloat ? A(-2.12194440e-4) : A(0x1.a39ef35793c76p-33);
  const Vec<A> shifted = x * A(1.4426950408889634) + kShift;
  const Vec<A> whole = shifted - kShift;
  const Vec<A> r = x - whole * kHigh - whole * kLow;
  Vec<A> sum;
  if constexpr (kFloat) {
    sum = Fill<A>(1.9875691500e-4f);
    for (A c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                5.0000001201e-1f}) {
      sum = sum * r + c;
    }
  } else {
    sum = Fill<A>(1.0 / 6227020800.0);
    for (A c : {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
                1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5}) {
      sum = sum * r + c;
    }
  }
  sum = sum * (r * r) + r + A(1);
  // 2^whole as two factors: at the upper end whole is one more than an exponent can be.
  // Far out, where the result is chosen below, the integers mean nothing; they must not overflow.
  const Vec<A> near = Max<A>(Min<A>(shifted, Fill<A>(kShift + kPowers)), Fill<A>(kShift - kPowers));
  const IntVec<A> power = (IntVec<A>)near - (IntVec<A>)Fill<A>(kShift);
  const IntVec<A> half = power >> 1;
  const Vec<A> one = Fill<A>(1);
  const Vec<A> low = (Vec<A>)((IntVec<A>)one + (half << kMantissa));
  const Vec<A> high = (Vec<A>)((IntVec<A>)one + ((power - half) << kMantissa));
  const Vec<A> result = sum * low * high;
  const Vec<A> above = x > kMost ? Fill<A>(INFINITY) : result;
  return x < kLeast ? Fill<A>(0) : above;
}

template <typename A>
Vec<A> Sigmoid(Vec<A> x) {
  return A(1) / (A(1) + Exp<A>(-x));
}

template <typename A>
Vec<A> Tanh(Vec<A> x) {
  const Vec<A> size = x < A(0) ? -x : x;
  // The quotient loses its digits near zero, where a polynomial keeps them.
  const Vec<A> far = A(1) - A(2) / (Exp<A>(size + size) + A(1));
  const Vec<A> square = x * x;
  Vec<A> near;
  if constexpr (sizeof(A) == 4) {
    near = Fill<A>(-5.70498872745e-3f);
    for (A c : {2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f}) {
      near = near * square + c;
    }
  } else {
    const Vec<A> above = (square * -9.64399179425052238628e-1 - 9.92877231001918586564e1) * square -
                         1.61468768441708447952e3;
    const Vec<A> below =
        ((square + 1.12811678491632931402e2) * square + 2.23548839060100448583e3) * square +
        4.84406305325125486048e3;
    near = above / below;
  }
  near = x + x * square * near;
  return size < A(0.625) ? near : (x < A(0) ? -far : far);
}

}  // namespace recops
