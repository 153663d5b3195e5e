// What a head of attention reads and writes: its vectors, the keys it keeps, and what comes next.
#pragma once

#include <vector>

#include "../common/numeric.h"
#include "../common/vector.h"

namespace recops::attention {

// Scores of a block of queries: small enough for the second cache with all that is made of them.
constexpr int64_t kScores = 1 << 14;
// Results above this size are written past the cache.
constexpr int64_t kStreamed = 1 << 23;

struct Sizes {
  int64_t batch, steps, sources, heads, dim;
  int64_t row() const { return heads * dim; }  // from one step to the next
};

inline Sizes SizesOf(const Call& call) {
  const Buffer& q = call.inputs[0];
  return {q.dim(0), q.dim(1), call.inputs[1].dim(1), q.dim(2), q.dim(3)};
}

// Queries of a block, whole vectors.
template <typename A>
int64_t BlockOf(const Sizes& n) {
  const int64_t fit = kScores / std::max<int64_t>(n.sources, 1) / kLanes<A> * kLanes<A>;
  return std::max(kLanes<A>, std::min(Padded<A>(n.steps), fit));
}

// Vectors [E] of one head, wide and padded to whole vectors: where they stand, or a copy.
template <typename T>
class Vectors {
  using A = Wide<T>;

 public:
  Vectors(int64_t most, const Sizes& n)
      : n_(n),
        padded_(Padded<A>(n.dim)),
        in_place_(!kNarrow<T> && padded_ == n.dim),
        copy_(most * padded_) {}

  // `count` of them from `from` on, or those named by `steps`.
  void Read(const T* from, int64_t count, const int64_t* steps = nullptr) {
    if constexpr (!kNarrow<T>) {
      if (in_place_ && steps == nullptr) {
        data = from;
        stride = n_.row();
        return;
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      const T* vector = from + (steps == nullptr ? i : steps[i]) * n_.row();
      A* to = copy_ + i * padded_;
      const A* wide = Load(vector, n_.dim, to);
      if (wide != to) std::memcpy(to, wide, n_.dim * sizeof(A));
      for (int64_t k = n_.dim; k < padded_; ++k) to[k] = 0;
    }
    data = copy_;
    stride = padded_;
  }

  const A* data = nullptr;
  int64_t stride = 0;

 private:
  Sizes n_;
  int64_t padded_;
  bool in_place_;
  Scratch<A> copy_;
};

// Writes padded vectors [count, E] to the steps of one head, each times a factor if there are any.
template <typename T>
class Writer {
  using A = Wide<T>;

 public:
  explicit Writer(const Sizes& n)
      : n_(n),
        padded_(Padded<A>(n.dim)),
        streamed_(!kNarrow<T> && padded_ == n.dim &&
                  n.batch * n.steps * n.row() * int64_t{sizeof(T)} > kStreamed),
        wide_(ScratchSize<T>(padded_)) {}

  void Write(const A* from, int64_t count, T* to, const A* factors, const int64_t* steps) {
    for (int64_t i = 0; i < count; ++i) {
      Put(from + i * padded_, factors == nullptr ? A(1) : factors[i],
          to + (steps == nullptr ? i : steps[i]) * n_.row());
    }
  }

  // Zeros at every step that is not among the `count` ascending ones.
  void Clear(T* to, int64_t all, const int64_t* steps, int64_t count) {
    for (int64_t step = 0, i = 0; step < all; ++step) {
      if (i < count && steps[i] == step) {
        ++i;
      } else {
        std::memset(static_cast<void*>(to + step * n_.row()), 0, n_.dim * sizeof(T));
      }
    }
  }

 private:
  void Put(const A* from, A factor, T* to) {
    constexpr int64_t L = kLanes<A>;
    if constexpr (kNarrow<T>) {
      for (int64_t k = 0; k < padded_; k += L) StoreVec(wide_ + k, LoadVec(from + k) * factor);
      Store(wide_.get(), to, n_.dim);
    } else {
      int64_t k = 0;
      for (; k + L <= n_.dim; k += L) {
        const Vec<A> value = LoadVec(from + k) * factor;
        streamed_ ? Stream(to + k, value) : StoreVec(to + k, value);
      }
      for (; k < n_.dim; ++k) to[k] = from[k] * factor;
    }
  }

  Sizes n_;
  int64_t padded_;
  bool streamed_;
  Scratch<A> wide_;
};

// Which keys a head keeps. A mask is [B or 1, N or 1, T or 1, S].
template <typename A>
class Kept {
 public:
  Kept(const Buffer& mask, const Sizes& n, int64_t block)
      : mask_(mask), n_(n), block_(block), keep_(mask.dim(2) == 1 ? 0 : n.sources * block) {}

  // The keys that some query of the head keeps.
  void Select(int64_t b, int64_t n) {
    const int64_t m = (mask_.dim(0) == 1 ? 0 : b) * mask_.dim(1) + (mask_.dim(1) == 1 ? 0 : n);
    const bool* from = mask_.as<const bool>() + m * mask_.dim(2) * n_.sources;
    if (from == from_) return;
    from_ = from;
    first_ = -1;
    some_.assign(n_.sources, 0);
    for (int64_t t = 0; t < mask_.dim(2); ++t) {
      for (int64_t s = 0; s < n_.sources; ++s) some_[s] |= from[t * n_.sources + s];
    }
    keys.clear();
    for (int64_t s = 0; s < n_.sources; ++s) {
      if (some_[s]) keys.push_back(s);
    }
    all = static_cast<int64_t>(keys.size()) == n_.sources;
  }

  // Which of the queries [first, first + count) keep which of the keys: [keys, block], 1 or 0.
  const A* Queries(int64_t first, int64_t count) {
    if (mask_.dim(2) == 1) return nullptr;
    if (first == first_) return keep_;
    first_ = first;
    const bool* from = from_ + first * n_.sources;
    for (size_t i = 0; i < keys.size(); ++i) {
      A* to = keep_ + i * block_;
      for (int64_t t = 0; t < count; ++t) to[t] = from[t * n_.sources + keys[i]];
      for (int64_t t = count; t < block_; ++t) to[t] = 0;
    }
    return keep_;
  }

  int64_t count() const { return static_cast<int64_t>(keys.size()); }
  const int64_t* steps() const { return all ? nullptr : keys.data(); }

  std::vector<int64_t> keys;
  bool all = false;

 private:
  Buffer mask_;
  Sizes n_;
  int64_t block_;
  Scratch<A> keep_;
  std::vector<uint8_t> some_;
  const bool* from_ = nullptr;
  int64_t first_ = -1;  // of the queries that `keep_` is for
};

// Fetches what the next row reads while this one computes: a row is strewn over memory in pieces of
// E values, which the processor does not foresee.
class Ahead {
 public:
  // The `part`th of `parts` of the row after row b, of each tensor.
  void Aim(const std::vector<Buffer>& tensors, int64_t b, int64_t part, int64_t parts) {
    count_ = 0;
    line_ = lines_ = 0;
    if (b + 1 >= tensors[0].dim(0)) return;
    for (const Buffer& tensor : tensors) {
      if (tensor.type == Type::kBool) continue;
      const int64_t size = tensor.size() / tensor.dim(0) * SizeOf(tensor.type);
      const int64_t lines = (size / parts + 63) / 64;
      lines_ = std::max(lines_, lines);
      at_[count_++] = tensor.as<const char>() + (b + 1) * size + part * lines * 64;
    }
  }
  void Fetch(int64_t lines) {
    for (const int64_t end = std::min(line_ + lines, lines_); line_ < end; ++line_) {
      for (int i = 0; i < count_; ++i) __builtin_prefetch(at_[i] + line_ * 64, 0, 2);
    }
  }
  int64_t lines() const { return lines_; }

 private:
  const char* at_[4];
  int count_ = 0;
  int64_t line_ = 0, lines_ = 0;
};

// Heads of a unit of work, the same whatever the threads.
inline int64_t HeadsAtOnce(const Sizes& n) {
  const double work = static_cast<double>(n.steps) * n.sources * n.dim;
  return std::max<int64_t>(1, static_cast<int64_t>((1 << 20) / std::max(work, 1.0)));
}

// Attention of bfloat16 and its gradient by a unit of the processor for them; false without one.
bool PairedAttention(const Call& call);
bool PairedAttentionGrad(const Call& call);

}  // namespace recops::attention
