// The GRU back through time, from the gates that the forward recorded and from its outputs.
#pragma once

#include "forward.h"

namespace recops::gru {

// Packed steps whose weight gradients are added at once: a product deep enough to be worth its
// sums, of operands that still fit the cache.
constexpr int64_t kDepth = 64;

// The weights turned round: what flows back from [dz, dr] to [h, x], and from dc to [x, r h].
template <typename T>
struct Turned {
  using A = Wide<T>;

  explicit Turned(Gru<T>& gru)
      : gates(2 * gru.s.units * gru.s.back), candidate(gru.s.units * gru.s.back) {
    const Sizes<A>& s = gru.s;
    const A *from = gru.weights.gates, *right = gru.weights.candidate;
    for (int64_t j = 0; j < 2 * s.units; ++j) {
      A* to = gates + j * s.back;
      for (int64_t k = 0; k < s.back; ++k) {
        // The 1 between state and input has no gradient.
        const int64_t row = k < s.units ? k : k + 1;
        to[k] = row < s.left ? from[row * s.two + j] : A(0);
      }
    }
    for (int64_t j = 0; j < s.units; ++j) {
      A* to = candidate + j * s.back;
      for (int64_t k = 0; k < s.back; ++k) {
        to[k] = k + 1 < s.left ? right[(k + 1) * s.wide_units + j] : A(0);
      }
    }
  }

  Scratch<A> gates, candidate;
};

// Further inputs: the outputs, the record, and the gradients of outputs and last state. Outputs:
// those of x, kernel, recurrent_kernel, bias, attention and initial_state.
template <typename T>
class Backward {
 public:
  using A = Wide<T>;

  // Sums of weight gradients, in the layout of Weights, one after the other.
  static int64_t SumsSize(const Sizes<A>& s) { return s.left * s.two + s.right * s.wide_units; }

  Backward(Gru<T>& gru, Turned<T>& turned, const Call& call, int64_t block, A* sums)
      : gru_(gru),
        turned_(turned),
        block_(block),
        rows_(gru.packing.size(block)),
        depth_(std::max(kDepth, rows_)),
        positions_(gru.packing, block, gru.mask, gru.steps, gru.options.backwards),
        outputs_(call.in<T>(7)),
        record_(call.in<T>(8) + gru.packing.start(block) * 3 * gru.s.units),
        doutputs_(call.in<T>(9)),
        dlast_(call.in<T>(10)),
        dx_(call.out<T>(0)),
        dscores_(call.out<T>(4)),
        dinitial_(call.out<T>(5)),
        sums_(sums),
        left_(depth_ * gru.s.row),
        dgates_(depth_ * gru.s.gates),
        dcandidate_(depth_ * gru.s.wide_units),
        dinner_(gru.options.reset_after ? depth_ * gru.s.wide_units : 0),
        gates_(rows_ * gru.s.gates),
        candidate_(rows_ * gru.s.wide_units),
        inner_(gru.options.reset_after ? rows_ * gru.s.wide_units : 0),
        dstate_(rows_ * gru.s.wide_units),
        from_gates_(rows_ * gru.s.back),
        from_candidate_(rows_ * gru.s.back),
        narrow_(ScratchSize<T>(std::max(gru.s.wide_units, gru.s.inputs))),
        score_(rows_),
        dscore_(rows_) {
    for (int64_t k = 0; k < kLanes<A>; ++k) {
      inside_[k] = gru.s.wide_units - kLanes<A> + k < gru.s.units ? -1 : 0;
    }
  }

  void Run() {
    const Sizes<A>& s = gru_.s;
    int64_t steps = 0, end = 0;
    for (int64_t i = 0; i < rows_; ++i) {
      const int64_t b = gru_.packing.row(block_, i);
      A* state = dstate_ + i * s.wide_units;
      std::memset(state, 0, s.wide_units * sizeof(A));
      ReadRow(dlast_ + b * s.units, s.units, state);
      steps = std::max(steps, gru_.packing.count(block_, i));
      end += gru_.packing.count(block_, i);
      ClearMasked(b);
    }
    for (int64_t n = steps - 1, active = 0; n >= 0; --n) {
      while (active < rows_ && gru_.packing.count(block_, active) > n) ++active;
      end -= active;
      if (used_ + active > depth_) AddToSums();
      Step(n, active, record_ + end * 3 * s.units);
      used_ += active;
    }
    AddToSums();
    for (int64_t i = 0; i < rows_; ++i) {
      const int64_t b = gru_.packing.row(block_, i);
      WriteRow(dstate_ + i * s.wide_units, s.units, dinitial_ + b * s.units);
    }
  }

 private:
  // What is under the mask has no gradient.
  void ClearMasked(int64_t b) {
    const int64_t n = gru_.s.inputs;
    for (int64_t at = b * gru_.steps; at < (b + 1) * gru_.steps; ++at) {
      if (!gru_.mask[at]) std::memset(dx_ + at * n, 0, n * sizeof(T));
    }
    std::memset(dscores_ + b * gru_.steps, 0, gru_.steps * sizeof(T));
  }

  void Step(int64_t n, int64_t active, const T* record) {
    const Sizes<A>& s = gru_.s;
    A* left = left_ + used_ * s.row;
    A *dgates = dgates_ + used_ * s.gates, *dcandidate = dcandidate_ + used_ * s.wide_units;
    for (int64_t i = 0; i < active; ++i) {
      Read(n, i, active, record + i * 3 * s.units, left + i * s.row);
    }
    ForShare(gru_.options.share, [&](auto share) {
      Gates<share.value>(active, left, dgates, dcandidate);
    });
    const A* turned = turned_.candidate;
    if (gru_.options.reset_after) {
      A* dinner = dinner_ + used_ * s.wide_units;
      const A* state_weights = gru_.weights.candidate + s.state_rows * s.wide_units;
      MatMul<A>(active, s.wide_units, s.x, left, s.row, 1, state_weights, s.wide_units, inner_,
                s.wide_units);
      InnerProduct(active, dgates, dcandidate, dinner);
      MatMul<A>(active, Padded<A>(s.inputs), s.units, dcandidate, s.wide_units, 1, turned, s.back,
                from_candidate_, s.back);
      MatMul<A>(active, s.wide_units, s.units, dinner, s.wide_units, 1, turned + s.inputs, s.back,
                dstate_, s.wide_units, true);
    } else {
      MatMul<A>(active, Padded<A>(s.inputs + s.units), s.units, dcandidate, s.wide_units, 1, turned,
                s.back, from_candidate_, s.back);
      ResetProduct(active, left, dgates);
    }
    MatMul<A>(active, Padded<A>(s.inputs + s.units), 2 * s.units, dgates, s.gates, 1, turned_.gates,
              s.back, from_gates_, s.back);
    for (int64_t i = 0; i < active; ++i) Write(n, i);
  }

  // The forward's values of a row's step, and the gradients that reach its state from outside.
  void Read(int64_t n, int64_t i, int64_t active, const T* record, A* left) {
    const Sizes<A>& s = gru_.s;
    const int64_t b = gru_.packing.row(block_, i), first = b * gru_.steps;
    const int64_t now = positions_(i, n), next = positions_(i, n + 1);
    const T* before = n > 0 ? outputs_ + (first + positions_(i, n - 1)) * s.units
                            : gru_.initial + b * s.units;
    ReadRow(before, s.units, left);
    score_[i] = gru_.Score(first + gru_.time(now));
    gru_.ReadInput(first + gru_.time(now), score_[i], left);
    if (n > 0) {
      const int64_t then = positions_(i, n - 1);
      Prefetch<false>(gru_.x + (first + gru_.time(then)) * s.inputs, s.inputs);
      Prefetch<true>(dx_ + (first + gru_.time(then)) * s.inputs, s.inputs);
      Prefetch<false>(doutputs_ + (first + then) * s.units, s.units);
      Prefetch<false>(record - active * 3 * s.units, 3 * s.units);
      if (n > 1) Prefetch<false>(outputs_ + (first + positions_(i, n - 2)) * s.units, s.units);
    }
    ReadRow(record, 2 * s.units, gates_ + i * s.gates);
    ReadRow(record + 2 * s.units, s.units, candidate_ + i * s.wide_units);
    A* state = dstate_ + i * s.wide_units;
    // The output of a masked step is that of the kept one before it.
    for (int64_t p = now; p < (gru_.options.zero_output ? now + 1 : next); ++p) {
      const A* from = Load(doutputs_ + (first + p) * s.units, s.units, narrow_.get());
      int64_t k = 0;
      for (; k + kLanes<A> <= s.units; k += kLanes<A>) {
        StoreVec(state + k, LoadVec(state + k) + LoadVec(from + k));
      }
      for (; k < s.units; ++k) state[k] += from[k];
    }
  }

  // Gradients of the arguments of z and c; the state's becomes what the kept share lets through.
  template <Share kShare>
  void Gates(int64_t active, A* left, A* dgates, A* dcandidate) {
    const Sizes<A>& s = gru_.s;
    for (int64_t i = 0; i < active; ++i, left += s.row, dgates += s.gates) {
      const A *gates = gates_ + i * s.gates, *candidate = candidate_ + i * s.wide_units;
      A *state = dstate_ + i * s.wide_units, *dc = dcandidate + i * s.wide_units;
      const A score = score_[i];
      Vec<A> all{};
      for (int64_t k = 0; k < s.wide_units; k += kLanes<A>) {
        const Vec<A> z = LoadVec(gates + k), c = LoadVec(candidate + k), h = LoadVec(left + k);
        const Vec<A> d = LoadVec(state + k), keep = Keep<A, kShare>::Value(z, score);
        const Vec<A> dkeep = d * (h - c);
        StoreVec(dgates + k, dkeep * Keep<A, kShare>::ByUpdate(score) * z * (1 - z));
        StoreVec(dc + k, d * (1 - keep) * (1 - c * c));
        StoreVec(state + k, keep * d);
        if (!gru_.options.reset_after) {
          StoreVec(left + s.reset_state + k, LoadVec(gates + s.units + k) * h);
        }
        const Vec<A> by_score = dkeep * Keep<A, kShare>::ByScore(z);
        all += k + kLanes<A> < s.wide_units ? by_score : (inside_ ? by_score : Vec<A>{});
      }
      dscore_[i] = SumLanes<A>(all);
    }
  }

  // c = tanh(x W + r (h U)): gradients of r's argument and of the product.
  void InnerProduct(int64_t active, A* dgates, const A* dcandidate, A* dinner) {
    const Sizes<A>& s = gru_.s;
    for (int64_t i = 0; i < active; ++i) {
      for (int64_t k = 0; k < s.wide_units; k += kLanes<A>) {
        const Vec<A> r = LoadVec(gates_ + i * s.gates + s.units + k);
        const Vec<A> dc = LoadVec(dcandidate + i * s.wide_units + k);
        const Vec<A> product = LoadVec(inner_ + i * s.wide_units + k);
        StoreVec(dgates + i * s.gates + s.units + k, dc * product * r * (1 - r));
        StoreVec(dinner + i * s.wide_units + k, dc * r);
      }
    }
  }

  // c = tanh(x W + (r h) U): the gradient of r's argument, and the state's share of r h.
  void ResetProduct(int64_t active, const A* left, A* dgates) {
    const Sizes<A>& s = gru_.s;
    for (int64_t i = 0; i < active; ++i) {
      A* state = dstate_ + i * s.wide_units;
      for (int64_t k = 0; k < s.wide_units; k += kLanes<A>) {
        const Vec<A> r = LoadVec(gates_ + i * s.gates + s.units + k);
        const Vec<A> d = LoadVec(from_candidate_ + i * s.back + s.inputs + k);
        StoreVec(dgates + i * s.gates + s.units + k,
                 d * LoadVec(left + i * s.row + k) * r * (1 - r));
        StoreVec(state + k, LoadVec(state + k) + d * r);
      }
    }
  }

  // The gradients of a row's input and score; the state's is carried to the step before.
  void Write(int64_t n, int64_t i) {
    const Sizes<A>& s = gru_.s;
    const int64_t at = gru_.packing.row(block_, i) * gru_.steps + gru_.time(positions_(i, n));
    A *state = dstate_ + i * s.wide_units, *dx = from_candidate_ + i * s.back;
    const A* back = from_gates_ + i * s.back;
    for (int64_t k = 0; k < s.wide_units; k += kLanes<A>) {
      StoreVec(state + k, LoadVec(state + k) + LoadVec(back + k));
    }
    for (int64_t k = 0; k < s.inputs; k += kLanes<A>) {
      StoreVec(dx + k, LoadVec(dx + k) + LoadVec(back + s.units + k));
    }
    if (gru_.options.scaled) {
      const A* x = Load(gru_.x + at * s.inputs, s.inputs, narrow_.get());
      A sum = 0;
      for (int64_t k = 0; k < s.inputs; ++k) {
        sum += dx[k] * x[k];
        dx[k] *= score_[i];
      }
      dscore_[i] = sum;
    }
    WriteRow(dx, s.inputs, dx_ + at * s.inputs);
    if (gru_.options.scaled || gru_.options.attentive()) WriteRow(&dscore_[i], 1, dscores_ + at);
  }

  void AddToSums() {
    const Sizes<A>& s = gru_.s;
    A* right = sums_ + s.left * s.two;
    MatMul<A>(s.left, s.two, used_, left_.get(), 1, s.row, dgates_, s.gates, sums_, s.two, true);
    if (gru_.options.reset_after) {
      MatMul<A>(1 + s.inputs, s.wide_units, used_, left_ + s.one, 1, s.row, dcandidate_,
                s.wide_units, right, s.wide_units, true);
      MatMul<A>(s.x, s.wide_units, used_, left_.get(), 1, s.row, dinner_, s.wide_units,
                right + s.state_rows * s.wide_units, s.wide_units, true);
    } else {
      MatMul<A>(s.left, s.wide_units, used_, left_ + s.one, 1, s.row, dcandidate_, s.wide_units,
                right, s.wide_units, true);
    }
    used_ = 0;
  }

  Gru<T>& gru_;
  Turned<T>& turned_;
  int64_t block_, rows_, depth_, used_ = 0;
  Positions positions_;
  const T *outputs_, *record_, *doutputs_, *dlast_;
  T *dx_, *dscores_, *dinitial_;
  A* sums_;
  Scratch<A> left_, dgates_, dcandidate_, dinner_, gates_, candidate_, inner_, dstate_;
  Scratch<A> from_gates_, from_candidate_, narrow_, score_, dscore_;
  IntVec<A> inside_;
};

}  // namespace recops::gru
