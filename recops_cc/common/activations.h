// The activations that kernels apply to their own results, and their derivatives from these results.
#pragma once

#include <cstdint>
#include <type_traits>

#include "math.h"
#include "vector.h"

namespace recops {

// In the order of recops/_core/activations.py.
enum class Activation { kSigmoid, kRelu, kTanh, kLinear };
constexpr int64_t kActivations = 4;

// f with the activation as a constant, so that loops are made for each.
template <typename F>
void ForActivation(Activation activation, const F& f) {
  switch (activation) {
    case Activation::kSigmoid:
      return f(std::integral_constant<Activation, Activation::kSigmoid>());
    case Activation::kRelu:
      return f(std::integral_constant<Activation, Activation::kRelu>());
    case Activation::kTanh:
      return f(std::integral_constant<Activation, Activation::kTanh>());
    case Activation::kLinear:
      return f(std::integral_constant<Activation, Activation::kLinear>());
  }
}

template <typename A, Activation activation>
Vec<A> Activate(Vec<A> x) {
  if constexpr (activation == Activation::kSigmoid) return Sigmoid<A>(x);
  if constexpr (activation == Activation::kRelu) return x < A(0) ? Vec<A>{} : x;
  if constexpr (activation == Activation::kTanh) return Tanh<A>(x);
  return x;
}

// Rows [count, width] to their activations, a bias added before. Flat: a call of Exp would cost as
// much as it does.
template <typename A, Activation activation>
[[gnu::flatten]] void ActivateRows(A* rows, int64_t count, int64_t width, const A* bias) {
  for (int64_t s = 0; s < count; ++s) {
    for (int64_t c = 0; c < width; c += kLanes<A>) {
      A* at = rows + s * width + c;
      StoreVec(at, Activate<A, activation>(LoadVec(at) + LoadVec(bias + c)));
    }
  }
}

// The derivative, from the output.
template <typename A, Activation activation>
Vec<A> Slope(Vec<A> y) {
  if constexpr (activation == Activation::kSigmoid) return y * (A(1) - y);
  if constexpr (activation == Activation::kRelu) return y > A(0) ? Fill<A>(1) : Vec<A>{};
  if constexpr (activation == Activation::kTanh) return A(1) - y * y;
  return Fill<A>(1);
}

}  // namespace recops
