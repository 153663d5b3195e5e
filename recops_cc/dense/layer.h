// What a dense layer is: its sizes, its bias, and how a gradient passes its activation.
#pragma once

#include "../common/activations.h"
#include "../common/numeric.h"

namespace recops::dense {

struct Sizes {
  explicit Sizes(const Call& call)
      : rows(call.inputs[0].dim(0)),
        width(call.inputs[0].dim(1)),
        units(call.inputs[1].dim(1)),
        activation(static_cast<Activation>(call.options[0])),
        biased(call.options[1] != 0) {}
  int64_t rows, width, units;
  Activation activation;
  bool biased;
};

// The bias padded with zeros, or zeros where there is none.
template <typename T>
Scratch<Wide<T>> Bias(const Call& call, const Sizes& s, int64_t padded) {
  Scratch<Wide<T>> bias(padded), wide(ScratchSize<T>(s.units));
  const int64_t there = s.biased ? s.units : 0;
  Pad(Load(call.in<T>(2), there, wide.get()), 1, there, there, bias.get(), padded);
  return bias;
}

// The gradient of a row of sums, from that of their activations and the activations y themselves. A
// unit that is off passes nothing on, whatever comes from above.
template <typename A>
void Deactivate(Activation activation, const A* y, int64_t n, A* dy) {
  ForActivation(activation, [&](auto kind) {
    for (int64_t i = 0; i < n; i += kLanes<A>) {
      const Vec<A> out = LoadVec(y + i), above = LoadVec(dy + i);
      if constexpr (kind() == Activation::kRelu) {
        StoreVec(dy + i, out > A(0) ? above : Vec<A>{});
      } else {
        StoreVec(dy + i, above * Slope<A, kind()>(out));
      }
    }
  });
}

}  // namespace recops::dense
