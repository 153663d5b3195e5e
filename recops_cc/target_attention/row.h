// A row of the activation unit on its way through the network, a block of kept steps at a time.
#pragma once

#include <memory>
#include <vector>

#include "../common/activations.h"
#include "../common/engine.h"
#include "../common/math.h"
#include "../common/numeric.h"
#include "../common/transpose.h"
#include "../common/vector.h"
#include "network.h"

namespace recops::target_attention {

constexpr int64_t kSteps = 64;  // steps that pass through the network together

// out[r] = sum over the columns of what `term(r, column)` gives for whole vectors of them.
template <typename A, typename Term>
void SumRows(int64_t rows, int64_t columns, A* out, const Term& term) {
  constexpr int64_t L = kLanes<A>;
  for (int64_t r = 0; r < rows; r += L) {
    Vec<A> sums[L];
    for (int64_t i = 0; i < L; ++i) {
      sums[i] = Vec<A>{};
      if (r + i >= rows) continue;
      for (int64_t c = 0; c < columns; c += L) sums[i] += term(r + i, c);
    }
    TransposeSquare<A>(sums);
    Vec<A> total = sums[0];
    for (int64_t i = 1; i < L; ++i) total += sums[i];
    for (int64_t i = 0; i < L && r + i < rows; ++i) out[r + i] = total[i];
  }
}

// A row: its kept steps, its own first layer, and a block of steps' outputs of each hidden layer.
template <typename T>
class Row {
  using A = Wide<T>;
  static constexpr int64_t L = kLanes<A>;

 public:
  Row(const Shape& n, const Network<A>& network)
      : n_(n),
        network_(network),
        stride(Padded<A>(n.dim)),
        query(stride),
        own_(n.dim * network.layout.padded[0]),
        first_(network.layout.padded[0]),
        copy_(n.steps * stride),
        wide_(ScratchSize<T>(n.dim)) {
    steps.reserve(n.steps);
    int64_t all = 0;
    for (int64_t width : network.layout.padded) all += kSteps * width;
    outputs_.reset(new Scratch<A>(all));
    A* next = outputs_->get();
    for (int64_t width : network.layout.padded) {
      hidden.push_back(next);
      next += kSteps * width;
    }
  }

  void Read(const Call& call, int64_t b) {
    steps.clear();
    const bool* mask = call.in<bool>(2) + b * n_.steps;
    for (int64_t t = 0; t < n_.steps; ++t) {
      if (mask[t]) steps.push_back(t);
    }
    Pad(Load(call.in<T>(0) + b * n_.dim, n_.dim, wide_.get()), 1, n_.dim, n_.dim, query.get(),
        stride);
    const T* from = call.in<T>(1) + b * n_.steps * n_.dim;
    const bool together = steps.empty() || steps.back() - steps.front() + 1 == count();
    if constexpr (!kNarrow<T>) {
      if (together && stride == n_.dim) {
        keys = steps.empty() ? from : from + steps.front() * n_.dim;
        return;
      }
    }
    for (int64_t i = 0; i < count(); ++i) {
      Pad(Load(from + steps[i] * n_.dim, n_.dim, wide_.get()), 1, n_.dim, n_.dim,
          copy_ + i * stride, stride);
    }
    keys = copy_;
  }

  // The query's part of the first layer: a kernel for the keys, and what is added.
  void Fold() {
    const int64_t width = network_.layout.padded[0], d = n_.dim;
    const A *key = network_.kernel(0) + d * width, *product = key + d * width;
    for (int64_t r = 0; r < d; ++r) {
      for (int64_t c = 0; c < width; c += L) {
        const int64_t i = r * width + c;
        StoreVec(own_ + i, LoadVec(key + i) + query[r] * LoadVec(product + i));
      }
    }
    std::memcpy(first_.get(), network_.bias(0), width * sizeof(A));
    MatMul<A>(1, width, d, query.get(), d, 1, network_.kernel(0), width, first_.get(), width, true);
  }

  // Steps [begin, begin + count) of the kept ones through the hidden layers; and their scores, if
  // asked for.
  void Forward(int64_t begin, int64_t count, A* scores) {
    const int64_t last = n_.layers() - 1;
    for (int64_t i = 0; i < std::max<int64_t>(last, 1); ++i) {
      const int64_t width = network_.layout.padded[i];
      const A* input = i == 0 ? keys + begin * stride : hidden[i - 1];
      MatMul<A>(count, width, i == 0 ? n_.dim : n_.before(i), input,
                i == 0 ? stride : network_.layout.padded[i - 1], 1,
                i == 0 ? own_.get() : network_.kernel(i), width, hidden[i], width);
      const A* bias = i == 0 ? first_.get() : network_.bias(i);
      if (last == 0) {
        for (int64_t s = 0; s < count && scores != nullptr; ++s) {
          scores[s] = hidden[0][s * width] + bias[0];
        }
        return;
      }
      ForActivation(n_.activation, [&](auto activation) {
        ActivateRows<A, activation()>(hidden[i], count, width, bias);
      });
    }
    if (scores == nullptr) return;
    const int64_t width = network_.layout.padded[last - 1];
    const A *input = hidden[last - 1], *kernel = network_.kernel(last);
    SumRows<A>(count, width, scores, [&](int64_t r, int64_t c) {
      return LoadVec(input + r * width + c) * LoadVec(kernel + c);
    });
    for (int64_t s = 0; s < count; ++s) scores[s] += network_.bias(last)[0];
  }

  int64_t count() const { return static_cast<int64_t>(steps.size()); }

 private:
  Shape n_;
  const Network<A>& network_;

 public:
  std::vector<int64_t> steps;  // the kept ones
  int64_t stride;
  Scratch<A> query;
  const A* keys = nullptr;  // [kept, D padded]

 private:
  Scratch<A> own_, first_, copy_, wide_;
  std::unique_ptr<Scratch<A>> outputs_;

 public:
  std::vector<A*> hidden;  // [kSteps, A padded] each
};

}  // namespace recops::target_attention
