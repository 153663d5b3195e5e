// How each optimizer moves one row: a[k] is the row, g[k] the sum of its gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../common/numeric.h"

namespace recops {

// A rule: kSlots arrays like the table and kRowSlots of one number a row; kScalars numbers of the
// step, of which the first is what a row is multiplied by before (1 without weight decay).
// `Begin` sees the whole gradient and the row's own number once, `Move` then N of the row's numbers.

template <typename A>
struct Adam {
  static constexpr int kSlots = 2, kRowSlots = 0, kScalars = 5;
  explicit Adam(const double* s)
      : keep(s[0]),
        alpha(s[1]),
        share_1(s[2]),
        share_2(s[3]),
        epsilon(s[4]),
        beta_1(1 - s[2]),
        beta_2(1 - s[3]) {}

  void Begin(const A*, int64_t, A*) {}

  template <int N>
  void Move(A* __restrict a, const A* __restrict g, A* __restrict m, A* __restrict v) const {
    for (int k = 0; k < N; ++k) {
      m[k] = fade_1 * m[k];
      v[k] = fade_2 * v[k];
      m[k] += (g[k] - m[k]) * share_1;
      v[k] += (g[k] * g[k] - v[k]) * share_2;
      a[k] = keep * a[k] - alpha * m[k] / (std::sqrt(v[k]) + epsilon);
    }
  }

  // share_1 is 1 - beta_1, to all its digits.
  A keep, alpha, share_1, share_2, epsilon, beta_1, beta_2;
  // What the moments lost in the steps that did not use the row.
  A fade_1 = 1, fade_2 = 1;
};

template <typename A>
struct Adagrad {
  static constexpr int kSlots = 1, kRowSlots = 0, kScalars = 3;
  explicit Adagrad(const double* s) : keep(s[0]), rate(s[1]), epsilon(s[2]) {}

  void Begin(const A*, int64_t, A*) {}

  template <int N>
  void Move(A* __restrict a, const A* __restrict g, A* __restrict sum, A*) const {
    for (int k = 0; k < N; ++k) {
      sum[k] += g[k] * g[k];
      a[k] = keep * a[k] - rate * g[k] / std::sqrt(sum[k] + epsilon);
    }
  }

  A keep, rate, epsilon;
};

template <typename A>
struct RowwiseAdagrad {
  static constexpr int kSlots = 0, kRowSlots = 1, kScalars = 3;
  explicit RowwiseAdagrad(const double* s) : keep(s[0]), rate(s[1]), epsilon(s[2]) {}

  void Begin(const A* g, int64_t n, A* sum) {
    A squares = 0;
    for (int64_t k = 0; k < n; ++k) squares += g[k] * g[k];
    *sum += squares / static_cast<A>(std::max<int64_t>(n, 1));
    scaled = rate / std::sqrt(*sum + epsilon);
  }

  template <int N>
  void Move(A* __restrict a, const A* __restrict g, A*, A*) const {
    for (int k = 0; k < N; ++k) a[k] = keep * a[k] - scaled * g[k];
  }

  A keep, rate, epsilon, scaled = 0;
};

template <typename A>
struct Ftrl {
  static constexpr int kSlots = 2, kRowSlots = 0, kScalars = 6;
  explicit Ftrl(const double* s)
      : keep(s[0]), rate(s[1]), power(-s[2]), l1(s[3]), l2(s[4] + s[5] / (2 * s[1])) {}

  void Begin(const A*, int64_t, A*) {}

  template <int N>
  void Move(A* __restrict a, const A* __restrict g, A* __restrict sum,
            A* __restrict linear) const {
    for (int k = 0; k < N; ++k) {
      const A before = Power(sum[k]);
      sum[k] += g[k] * g[k];
      const A after = Power(sum[k]);
      linear[k] += g[k] - (after - before) / rate * (keep * a[k]);
      const A clipped = std::min(std::max(linear[k], -l1), l1);
      a[k] = (clipped - linear[k]) / (after / rate + 2 * l2);
    }
  }

  A Power(A x) const { return power == A(0.5) ? std::sqrt(x) : std::pow(x, power); }

  A keep, rate, power, l1, l2;
};

}  // namespace recops
