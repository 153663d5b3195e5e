// The GRU forward: a block of rows goes through all its steps on one thread.
#pragma once

#include "../common/math.h"
#include "gates.h"
#include "packing.h"

namespace recops::gru {

// Inputs of both kernels: x, kernel, recurrent_kernel, bias, attention, mask, initial_state.
template <typename T>
struct Gru {
  using A = Wide<T>;

  explicit Gru(const Call& call)
      : options(call.options),
        rows(call.inputs[0].dim(0)),
        steps(call.inputs[0].dim(1)),
        s(call.inputs[0].dim(2), call.inputs[2].dim(0)),
        x(call.in<T>(0)),
        scores(call.in<T>(4)),
        mask(call.in<bool>(5)),
        initial(call.in<T>(6)),
        packing(mask, rows, steps),
        weights(s, call.in<T>(1), call.in<T>(2), call.in<T>(3), options.reset_after) {}

  int64_t time(int64_t position) const {
    return options.backwards ? steps - 1 - position : position;
  }

  // The input of a step, times its score for AIGRU, after a 1, into a row of what the gates see.
  void ReadInput(int64_t at, A score, A* left) const {
    left[s.one] = 1;
    ReadRow(x + at * s.inputs, s.inputs, left + s.x);
    for (int64_t k = 0; k < s.inputs && options.scaled; ++k) left[s.x + k] *= score;
  }

  A Score(int64_t at) const {
    A wide;
    return options.attentive() || options.scaled ? *Load(scores + at, 1, &wide) : A(0);
  }

  Options options;
  int64_t rows, steps;
  Sizes<A> s;
  const T *x, *scores;
  const bool* mask;
  const T* initial;
  Packing packing;
  Weights<T> weights;
};

// Outputs: the states in the order of processing, the last of them, and a record [B, T, 3H] of
// z, r, c at the kept steps, block by block and step by step, of which what is left is not written;
// without a backward it is empty.
template <typename T>
class Forward {
 public:
  using A = Wide<T>;

  Forward(Gru<T>& gru, const Call& call, int64_t block)
      : gru_(gru),
        block_(block),
        rows_(gru.packing.size(block)),
        positions_(gru.packing, block, gru.mask, gru.steps, gru.options.backwards),
        outputs_(call.out<T>(0)),
        last_(call.out<T>(1)),
        record_(call.out<T>(2) + gru.packing.start(block) * 3 * gru.s.units),
        left_(rows_ * gru.s.row),
        gates_(rows_ * gru.s.gates),
        candidate_(rows_ * gru.s.wide_units),
        inner_(gru.options.reset_after ? rows_ * gru.s.wide_units : 0),
        score_(rows_) {}

  void Run() {
    const Sizes<A>& s = gru_.s;
    for (int64_t i = 0; i < rows_; ++i) {
      const int64_t b = gru_.packing.row(block_, i);
      ReadRow(gru_.initial + b * s.units, s.units, left_ + i * s.row);
      std::memset(outputs_ + b * gru_.steps * s.units, 0,
                  positions_(i, 0) * s.units * sizeof(T));
    }
    int64_t active = rows_;
    for (int64_t n = 0; (active = gru_.packing.active(block_, n, active)) > 0; ++n) {
      Step(n, active);
      record_ += active * 3 * s.units;
    }
    for (int64_t i = 0; i < rows_; ++i) {
      const int64_t b = gru_.packing.row(block_, i);
      WriteRow(left_ + i * s.row, s.units, last_ + b * s.units);
    }
  }

 private:
  void Step(int64_t n, int64_t active) {
    const Sizes<A>& s = gru_.s;
    for (int64_t i = 0; i < active; ++i) {
      const int64_t at =
          gru_.packing.row(block_, i) * gru_.steps + gru_.time(positions_(i, n));
      score_[i] = gru_.Score(at);
      gru_.ReadInput(at, score_[i], left_ + i * s.row);
      const int64_t next = positions_(i, n + 1);
      if (next < gru_.steps) {
        const int64_t b = gru_.packing.row(block_, i) * gru_.steps;
        Prefetch<false>(gru_.x + (b + gru_.time(next)) * s.inputs, s.inputs);
        Prefetch<true>(outputs_ + (b + next) * s.units, s.units);
      }
    }
    MatMul<A>(active, s.two, s.left, left_.get(), s.row, 1, gru_.weights.gates, s.two,
              gates_.get(), s.gates);
    Gates(active);
    const A* weights = gru_.weights.candidate;
    if (gru_.options.reset_after) {
      MatMul<A>(active, s.wide_units, 1 + s.inputs, left_ + s.one, s.row, 1, weights, s.wide_units,
                candidate_, s.wide_units);
      MatMul<A>(active, s.wide_units, s.x, left_.get(), s.row, 1,
                weights + s.state_rows * s.wide_units, s.wide_units, inner_, s.wide_units);
    } else {
      MatMul<A>(active, s.wide_units, s.left, left_ + s.one, s.row, 1, weights, s.wide_units,
                candidate_, s.wide_units);
    }
    ForShare(gru_.options.share, [&](auto share) { States<share.value>(n, active); });
  }

  // z and r where their arguments were; r h to the right of the input.
  void Gates(int64_t active) {
    const Sizes<A>& s = gru_.s;
    for (int64_t i = 0; i < active; ++i) {
      A *gates = gates_ + i * s.gates, *left = left_ + i * s.row;
      for (int64_t k = 0; k < s.two; k += kLanes<A>) {
        StoreVec(gates + k, Sigmoid<A>(LoadVec(gates + k)));
      }
      if (gru_.options.record) StreamRow(gates, 2 * s.units, record_ + i * 3 * s.units);
      if (gru_.options.reset_after) continue;
      for (int64_t k = 0; k < s.wide_units; k += kLanes<A>) {
        StoreVec(left + s.reset_state + k, LoadVec(gates + s.units + k) * LoadVec(left + k));
      }
    }
  }

  template <Share kShare>
  void States(int64_t n, int64_t active) {
    const Sizes<A>& s = gru_.s;
    for (int64_t i = 0; i < active; ++i) {
      A *gates = gates_ + i * s.gates, *left = left_ + i * s.row;
      A *candidate = candidate_ + i * s.wide_units, *inner = inner_ + i * s.wide_units;
      for (int64_t k = 0; k < s.wide_units; k += kLanes<A>) {
        Vec<A> c = LoadVec(candidate + k);
        if (gru_.options.reset_after) c += LoadVec(gates + s.units + k) * LoadVec(inner + k);
        c = Tanh<A>(c);
        const Vec<A> keep = Keep<A, kShare>::Value(LoadVec(gates + k), score_[i]);
        StoreVec(candidate + k, c);
        StoreVec(left + k, keep * LoadVec(left + k) + (1 - keep) * c);
      }
      if (gru_.options.record) StreamRow(candidate, s.units, record_ + (i * 3 + 2) * s.units);
      T* out = outputs_ + gru_.packing.row(block_, i) * gru_.steps * s.units;
      const int64_t now = positions_(i, n), next = positions_(i, n + 1);
      WriteRow(left, s.units, out + now * s.units);
      if (gru_.options.zero_output) {
        std::memset(out + (now + 1) * s.units, 0, (next - now - 1) * s.units * sizeof(T));
      } else {
        for (int64_t p = now + 1; p < next; ++p) WriteRow(left, s.units, out + p * s.units);
      }
    }
  }

  Gru<T>& gru_;
  int64_t block_, rows_;
  Positions positions_;
  T *outputs_, *last_, *record_;
  Scratch<A> left_, gates_, candidate_, inner_, score_;
};

}  // namespace recops::gru
