// The backward of attentional pooling.
#pragma once

#include <algorithm>
#include <cstring>

#include "../common/lanes.h"
#include "network.h"

namespace recops {
namespace pooling {

// A compiler that reads a vector again for each of its uses needs more loads than products.
template <typename A>
inline void KeepInRegister([[maybe_unused]] Vec<A>& v) {
#ifdef __AVX512F__
  asm("" : "+v"(v));
#endif
}

// The backward of a few rows at a time, which adds its part of the network's gradients.
template <typename T>
class PoolBackward {
 public:
  using A = Wide<T>;
  static constexpr int64_t L = kLanes<A>;

  PoolBackward(const Call& call, const Network<T>& network)
      : call_(call),
        network_(network),
        f_(call.inputs[0].dim(1)),
        d_(network.dim),
        pairs_(Pairs(f_)),
        field_(d_ * L),
        gradients_(d_ * network.units + 2 * network.units),
        x_(f_ * field_),
        dx_(f_ * field_),
        weights_(pairs_ * L),
        dscores_(pairs_ * L),
        dhidden_(pairs_ * std::min<int64_t>(network.units, 8) * L),
        dpooled_(field_),
        sum_(field_),
        sums_(gradients_ * L),
        wide_(ScratchSize<T>(L * std::max(f_ * d_, pairs_))) {
    std::memset(sums_.get(), 0, gradients_ * L * sizeof(A));
  }

  void Rows(int64_t begin, int64_t count) {
    Read(begin, count);
    Scores();
    Weighted();
    ByUnits(network_.units, [&](int64_t u, auto units) {
      HiddenGradient(u, units);
      for (int64_t i = 0; i < f_; ++i) {
        // Two by two rather than leave one alone.
        int64_t k = 0;
        for (; d_ - k > 4 || d_ - k == 3; k += 3) Field<units.value, 3>(u, i, k);
        for (; d_ - k >= 2; k += 2) Field<units.value, 2>(u, i, k);
        if (k < d_) Field<units.value, 1>(u, i, k);
      }
    });
    T* to = call_.out<T>(0) + begin * f_ * d_;
    A* rows = Target(to, wide_.get());
    FromLanes(dx_.get(), count, f_ * d_, rows);
    Store(rows, to, count * f_ * d_);
  }

  // The gradients of kernel, bias and projection, one after the other.
  void Sums(A* sums) {
    for (int64_t i = 0; i < gradients_; ++i) sums[i] += SumLanes<A>(LoadVec(sums_ + i * L));
  }

 private:
  const T* in(int i) const { return call_.in<T>(i); }

  void Read(int64_t begin, int64_t count) {
    const A* weights = call_.inputs[kNarrow<T> ? 5 : 4].template as<const A>();
    auto read = [&](const T* from, int64_t n, A* to) {
      ToLanes(Load(from + begin * n, count * n, wide_.get()), count, n, to);
    };
    read(in(0), f_ * d_, x_);
    read(in(6), d_, dpooled_);
    read(in(7), pairs_, dscores_);
    ToLanes(weights + begin * pairs_, count, pairs_, weights_.get());
  }

  // From the gradients of the weights to those of the scores.
  void Scores() {
    Vec<A> centre{};  // what all weights gain on average
    for (int64_t i = 0, p = 0; i < f_ - 1; ++i) {
      for (int64_t k = 0; k < field_; k += L) {
        StoreVec(sum_ + k, LoadVec(dpooled_ + k) * LoadVec(x_ + i * field_ + k));
      }
      for (int64_t j = i + 1; j < f_; ++j, ++p) {
        const A* right = x_ + j * field_;
        Vec<A> gain[2] = {LoadVec(dscores_ + p * L), Vec<A>{}};
        int64_t k = 0;
        for (; k + 2 * L <= field_; k += 2 * L) {
          gain[0] += LoadVec(sum_ + k) * LoadVec(right + k);
          gain[1] += LoadVec(sum_ + k + L) * LoadVec(right + k + L);
        }
        if (k < field_) gain[0] += LoadVec(sum_ + k) * LoadVec(right + k);
        StoreVec(dscores_ + p * L, gain[0] + gain[1]);
        centre += LoadVec(weights_ + p * L) * (gain[0] + gain[1]);
      }
    }
    for (int64_t at = 0; at < pairs_ * L; at += L) {
      StoreVec(dscores_ + at, LoadVec(weights_ + at) * (LoadVec(dscores_ + at) - centre));
    }
  }

  int64_t PairOf(int64_t i, int64_t j) const {
    return i < j ? FirstPair(i, f_) + j - i - 1 : FirstPair(j, f_) + i - j - 1;
  }

  // dx: the part that goes through the sum of the products.
  void Weighted() {
    for (int64_t i = 0; i < f_; ++i) {
      A* dx = dx_ + i * field_;
      WeightedSum<A>(
          x_.get(), f_, d_,
          [&](int64_t j) { return i == j ? Vec<A>{} : LoadVec(weights_ + PairOf(i, j) * L); }, dx);
      for (int64_t k = 0; k < field_; k += L) {
        StoreVec(dx + k, LoadVec(dx + k) * LoadVec(dpooled_ + k));
      }
    }
  }

  // The hidden layer again, its gradient [P, C, L], and those of projection and bias.
  template <typename Units>
  void HiddenGradient(int64_t u, Units) {
    constexpr int C = Units::value;
    A* dbias = sums_ + (d_ * network_.units + u) * L;
    A* dprojection = dbias + network_.units * L;
    ByPairs(x_.get(), f_, field_, [&](int64_t p, const A* left, const A* right, auto many) {
      constexpr int R = many.value;
      Vec<A> hidden[R][C];
      Hidden<C, R>(network_, u, left, right, hidden);
      Vec<A> dscore[R];
      for (int r = 0; r < R; ++r) dscore[r] = LoadVec(dscores_ + (p + r) * L);
      for (int c = 0; c < C; ++c) {
        const A weight = network_.projection[u + c];
        Vec<A> to_bias = LoadVec(dbias + c * L), to_projection = LoadVec(dprojection + c * L);
        for (int r = 0; r < R; ++r) {
          to_projection += dscore[r] * Relu<A>(hidden[r][c]);
          const Vec<A> gradient = hidden[r][c] > A(0) ? dscore[r] * weight : Vec<A>{};
          to_bias += gradient;
          StoreVec(dhidden_ + ((p + r) * C + c) * L, gradient);
        }
        StoreVec(dbias + c * L, to_bias);
        StoreVec(dprojection + c * L, to_projection);
      }
    });
  }

  // Field i, dimensions k to k + R: the sum over all other fields of their value times the hidden
  // layer's gradient gives both the gradient of x and, each pair twice, that of the kernel.
  template <int C, int R>
  void Field(int64_t u, int64_t i, int64_t k) {
    Vec<A> sum[R][C] = {};
    auto add = [&](int64_t j, const A* dhidden) {
      const A* other = x_ + j * field_ + k * L;
      Vec<A> value[R];
      for (int r = 0; r < R; ++r) value[r] = LoadVec(other + r * L);
      for (int c = 0; c < C; ++c) {
        Vec<A> gradient = LoadVec(dhidden + c * L);
        KeepInRegister<A>(gradient);
        for (int r = 0; r < R; ++r) sum[r][c] += value[r] * gradient;
      }
    };
    for (int64_t j = 0; j < i; ++j) add(j, dhidden_ + PairOf(j, i) * C * L);
    const A* after = dhidden_ + FirstPair(i, f_) * C * L;
    for (int64_t j = i + 1; j < f_; ++j, after += C * L) add(j, after);
    // Unrolled, or the sums would leave their registers.
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<A> half = A(0.5) * LoadVec(x_ + i * field_ + (k + r) * L);
      A* to_x = dx_ + i * field_ + (k + r) * L;
      Vec<A> dx = LoadVec(to_x);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const int64_t at = (k + r) * network_.units + u + c;
        dx += sum[r][c] * network_.kernel[at];
        StoreVec(sums_ + at * L, LoadVec(sums_ + at * L) + half * sum[r][c]);
      }
      StoreVec(to_x, dx);
    }
  }

  const Call& call_;
  const Network<T>& network_;
  int64_t f_, d_, pairs_, field_, gradients_;
  Scratch<A> x_, dx_, weights_, dscores_, dhidden_, dpooled_, sum_, sums_, wide_;
};

}  // namespace pooling
}  // namespace recops
