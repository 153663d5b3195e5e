// The sizes of a GRU, its weights as the products want them, and the share of the state that stays.
#pragma once

#include "../common/numeric.h"
#include "../common/prefetch.h"
#include "../common/vector.h"

namespace recops::gru {

// How the share of the old state follows from the update gate z and the score a.
enum class Share { kUpdate, kScore, kPaper, kAlibaba };

struct Options {
  Share share;
  bool scaled;  // AIGRU: the input times the score
  bool reset_after, backwards, zero_output;
  bool record;  // of the forward: whether the backward will follow

  explicit Options(const std::vector<int64_t>& options) {
    Check(options.size() == 6 && options[0] >= 0 && options[0] < 4, "options: expected six");
    share = static_cast<Share>(options[0]);
    scaled = options[1];
    reset_after = options[2];
    backwards = options[3];
    zero_output = options[4];
    record = options[5];
  }
  bool attentive() const { return share != Share::kUpdate; }
};

// h' = keep h + (1 - keep) c, and the derivatives of keep.
template <typename A, Share kShare>
struct Keep {
  static Vec<A> Value(Vec<A> z, A a) {
    if constexpr (kShare == Share::kScore) return Vec<A>{} + (1 - a);
    if constexpr (kShare == Share::kPaper) return 1 - a * (1 - z);
    if constexpr (kShare == Share::kAlibaba) return (1 - a) * z;
    return z;
  }
  static Vec<A> ByUpdate(A a) {
    if constexpr (kShare == Share::kScore) return Vec<A>{};
    if constexpr (kShare == Share::kPaper) return Vec<A>{} + a;
    if constexpr (kShare == Share::kAlibaba) return Vec<A>{} + (1 - a);
    return Vec<A>{} + A(1);
  }
  static Vec<A> ByScore(Vec<A> z) {
    if constexpr (kShare == Share::kScore) return Vec<A>{} - A(1);
    if constexpr (kShare == Share::kPaper) return z - 1;
    if constexpr (kShare == Share::kAlibaba) return -z;
    return Vec<A>{};
  }
};

template <typename F>
void ForShare(Share share, const F& f) {
  switch (share) {
    case Share::kUpdate:
      return f(std::integral_constant<Share, Share::kUpdate>{});
    case Share::kScore:
      return f(std::integral_constant<Share, Share::kScore>{});
    case Share::kPaper:
      return f(std::integral_constant<Share, Share::kPaper>{});
    case Share::kAlibaba:
      return f(std::integral_constant<Share, Share::kAlibaba>{});
  }
}

// A row of what the gates see is [h, 1, x, r h], without padding between: the update and reset gate
// multiply [h, 1, x], the candidate [1, x, r h], and the 1 meets the bias. Storing whole vectors
// spills to the right, so a row is written from left to right.
template <typename A>
struct Sizes {
  int64_t units, inputs;
  int64_t one, x, reset_state;     // where a row's parts begin; h at 0
  int64_t row;                     // stride of such a row
  int64_t wide_units;              // H, padded
  int64_t gates, two;              // stride and columns of [z, r]
  int64_t left, right;             // rows of the weights of z and r, and of c
  int64_t state_rows;              // where in the latter those of the state begin
  int64_t back;                    // stride of what flows back to [h, x] or [x, r h]

  Sizes(int64_t inputs, int64_t units)
      : units(units),
        inputs(inputs),
        one(units),
        x(units + 1),
        reset_state(units + 1 + inputs),
        row(Padded<A>(units + 1 + inputs + Padded<A>(units))),
        wide_units(Padded<A>(units)),
        gates(Padded<A>(units + Padded<A>(units))),
        two(Padded<A>(2 * units)),
        left(units + 1 + inputs),
        right(1 + inputs + units + 1),
        state_rows(1 + inputs),
        back(Padded<A>(units + inputs + kLanes<A>)) {}
};

// Columns [from, from + n) of a matrix of 3H columns, as rows padded with zeros.
template <typename T>
void TakeColumns(const T* weights, int64_t rows, int64_t units, int64_t from, int64_t n,
                 Wide<T>* to, int64_t stride) {
  Scratch<Wide<T>> wide(ScratchSize<T>(n));
  for (int64_t r = 0; r < rows; ++r) {
    Pad(Load(weights + r * 3 * units + from, n, wide.get()), 1, n, n, to + r * stride, stride);
  }
}

// Weights of the gates [U; b; W] of 2H columns, of the candidate [b; W; U; b'] of H columns.
template <typename T>
class Weights {
 public:
  using A = Wide<T>;

  Weights(const Sizes<A>& s, const T* kernel, const T* recurrent, const T* bias,
             bool reset_after)
      : gates(s.left * s.two), candidate(s.right * s.wide_units) {
    const int64_t u = s.units;
    TakeColumns(recurrent, u, u, 0, 2 * u, gates.get(), s.two);
    TakeColumns(bias, 1, u, 0, 2 * u, gates + s.one * s.two, s.two);
    TakeColumns(kernel, s.inputs, u, 0, 2 * u, gates + s.x * s.two, s.two);
    const int64_t c = s.wide_units;
    A* last = candidate + (s.right - 1) * c;
    TakeColumns(bias, 1, u, 2 * u, u, candidate.get(), c);
    TakeColumns(kernel, s.inputs, u, 2 * u, u, candidate + c, c);
    TakeColumns(recurrent, u, u, 2 * u, u, candidate + (1 + s.inputs) * c, c);
    TakeColumns(bias + 3 * u, 1, u, 2 * u, u, last, c);
    // The second bias counts like the first, but that with reset_after it is inside the product.
    Scratch<A> inner(s.two);
    TakeColumns(bias + 3 * u, 1, u, 0, 2 * u, inner.get(), s.two);
    for (int64_t k = 0; k < 2 * u; ++k) gates[s.one * s.two + k] += inner[k];
    for (int64_t k = 0; k < u && !reset_after; ++k) candidate[k] += last[k];
  }

  Scratch<A> gates, candidate;
};

// Values of one row, between T and the wide type, whole vectors at a time.
template <typename T>
inline void ReadRow(const T* from, int64_t n, Wide<T>* to) {
  if constexpr (kNarrow<T>) {
    Widen(from, to, n);
  } else {
    int64_t k = 0;
    for (; k + kLanes<T> <= n; k += kLanes<T>) StoreVec(to + k, LoadVec(from + k));
    for (; k < n; ++k) to[k] = from[k];
  }
}
template <typename T>
inline void WriteRow(const Wide<T>* from, int64_t n, T* to) {
  if constexpr (kNarrow<T>) {
    Round(from, to, n);
  } else {
    ReadRow(from, n, to);
  }
}
template <typename T>
inline void StreamRow(const Wide<T>* from, int64_t n, T* to) {
  if constexpr (kNarrow<T>) {
    Round(from, to, n);
  } else {
    int64_t k = 0;
    for (; k + kLanes<T> <= n; k += kLanes<T>) Stream(to + k, LoadVec(from + k));
    for (; k < n; ++k) to[k] = from[k];
  }
}

}  // namespace recops::gru
