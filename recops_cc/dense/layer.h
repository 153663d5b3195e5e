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

// Up to a vector of values from where they stand, zeros beyond them; and back.
template <typename A>
Vec<A> LoadPart(const A* from, int64_t n) {
  if (n >= kLanes<A>) return LoadVec(from);
  A part[kLanes<A>] = {};
  std::memcpy(part, from, n * sizeof(A));
  return LoadVec(part);
}

template <typename A>
void StorePart(Vec<A> v, A* to, int64_t n) {
  if (n >= kLanes<A>) return StoreVec(to, v);
  std::memcpy(to, &v, n * sizeof(A));
}

// y[r, :n] = activation(sums[r] + bias) for rows of sums, padded to whole vectors, and rows of y.
// Flat: a call of Exp would cost as much as it does.
template <typename T, Activation activation>
[[gnu::flatten]] void Finish(Wide<T>* sums, int64_t rows, int64_t n, int64_t sums_stride,
                             const Wide<T>* bias, T* y, int64_t y_stride) {
  using A = Wide<T>;
  for (int64_t r = 0; r < rows; ++r, sums += sums_stride, y += y_stride) {
    for (int64_t i = 0; i < n; i += kLanes<A>) {
      const Vec<A> out = Activate<A, activation>(LoadVec(sums + i) + LoadVec(bias + i));
      if constexpr (kNarrow<T>) {
        StoreVec(sums + i, out);
      } else {
        StorePart(out, y + i, n - i);
      }
    }
    if constexpr (kNarrow<T>) Round(sums, y, n);
  }
}

// The gradient of a row of n sums from that of their activations and the activations y themselves,
// in whole vectors; dbias grows by it. A unit that is off passes nothing on, whatever comes from
// above. `wide` has room for two rows where T is narrow.
template <typename T, Activation activation>
void Unfinish(const T* dy, const T* y, int64_t n, Wide<T>* wide, Wide<T>* to, Wide<T>* dbias) {
  using A = Wide<T>;
  const A* above = Load(dy, n, wide);
  const A* out = activation == Activation::kLinear ? nullptr : Load(y, n, wide + n);
  for (int64_t i = 0; i < n; i += kLanes<A>) {
    Vec<A> g = LoadPart(above + i, n - i);
    if constexpr (activation == Activation::kRelu) {
      g = LoadPart(out + i, n - i) > A(0) ? g : Vec<A>{};
    } else if constexpr (activation != Activation::kLinear) {
      g *= Slope<A, activation>(LoadPart(out + i, n - i));
    }
    StoreVec(to + i, g);
    StoreVec(dbias + i, LoadVec(dbias + i) + g);
  }
}

}  // namespace recops::dense
