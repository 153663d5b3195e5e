// Products of field pairs with a matrix between: (x_i W) * x_j.
// A block's left field is multiplied by all its matrices at once, so that they are read once a block;
// what comes of it stays in the cache, forward and backward.
#include "../common/numeric.h"
#include "../common/rooms.h"
#include "../common/sums.h"
#include "../common/vector.h"

namespace recops {
namespace {

// Rows a block, multiples of six as MatMul takes them. Forward, more rows would have more pages
// written in turns than memory likes.
constexpr int64_t kForwardRows = 12;

int64_t Pairs(int64_t fields) { return fields * (fields - 1) / 2; }

// Which matrix turns a pair: one for all, that of its left field, or its own.
enum Kind : int64_t { kAll = 0, kEach = 1, kInteraction = 2 };

int64_t Matrices(int64_t kind, int64_t fields) {
  return kind == kAll ? 1 : kind == kEach ? fields - 1 : Pairs(fields);
}

// The sizes of a call.
template <typename T>
struct Sizes {
  using A = Wide<T>;

  explicit Sizes(const Call& call)
      : rows(call.inputs[0].dim(0)),
        fields(call.inputs[0].dim(1)),
        dim(call.inputs[0].dim(2)),
        stride(Padded<A>(dim)),
        pairs(Pairs(fields)),
        kind(call.options[0]),
        matrices(Matrices(kind, fields)),
        most(kind == kInteraction ? fields - 1 : 1) {}

  int64_t rows, fields, dim, stride, pairs, kind, matrices;
  // Matrices of a left field, at most.
  int64_t most;

  // Rows a block of the backward: few, so that they and their gradients stay in the first cache, but
  // where each pair has a matrix, more, since each block reads them all.
  int64_t BackwardRows() const { return kind == kInteraction ? 24 : 12; }
  // How many matrices left field i has, and the number of its first.
  int64_t Many(int64_t i) const { return kind == kInteraction ? fields - 1 - i : 1; }
  int64_t First(int64_t i) const {
    return kind == kInteraction ? i * fields - i * (i + 1) / 2 : kind == kEach ? i : 0;
  }
};

// The matrices of each left field side by side, [D, Many * stride], for one product of a field with
// all of them; and where asked for their transposes below each other, [Many * stride, stride].
template <typename T>
class Kernel {
 public:
  using A = Wide<T>;

  Kernel(const Sizes<T>& s, const T* from, bool turn)
      : s_(s),
        side_by_side_(s.matrices * s.dim * s.stride),
        turned_(turn ? s.matrices * s.stride * s.stride : 0) {
    const int64_t size = s.dim * s.dim;
    Scratch<A> wide(ScratchSize<T>(size));
    ForMatrices(s, [&](int64_t m, int64_t at, int64_t columns) {
      const A* matrix = Load(from + m * size, size, wide.get());
      for (int64_t k = 0; k < s.dim; ++k) {
        Pad(matrix + k * s.dim, 1, s.dim, s.dim, side_by_side_ + at + k * columns, s.stride);
      }
      if (!turn) return;
      A* below = turned_ + m * s.stride * s.stride;
      Transpose(matrix, s.dim, s.dim, s.dim, below, s.stride);
      std::memset(below + s.dim * s.stride, 0, (s.stride - s.dim) * s.stride * sizeof(A));
    });
  }
  const A* SideBySide(int64_t i) { return side_by_side_ + s_.First(i) * s_.dim * s_.stride; }
  const A* Turned(int64_t i) { return turned_ + s_.First(i) * s_.stride * s_.stride; }

  // Calls f(matrix, where its first row stands side by side with others, how far rows are apart).
  template <typename F>
  static void ForMatrices(const Sizes<T>& s, const F& f) {
    for (int64_t i = 0; i < (s.kind == kAll ? 1 : s.fields - 1); ++i) {
      for (int64_t n = 0; n < s.Many(i); ++n) {
        f(s.First(i) + n, (s.First(i) * s.dim + n) * s.stride, s.Many(i) * s.stride);
      }
    }
  }

 private:
  const Sizes<T>& s_;
  Scratch<A> side_by_side_, turned_;
};

// Values of a block of rows by field: [F, rows, stride].
template <typename T>
class Block {
 public:
  using A = Wide<T>;

  Block(const Sizes<T>& s, int64_t rows)
      : s_(s),
        rows_(rows),
        values_(s.fields * rows * s.stride),
        wide_(ScratchSize<T>(s.fields * s.dim)) {}
  A* At(int64_t i, int64_t row) { return values_ + (i * rows_ + row) * s_.stride; }

  void Clear() { std::memset(values_.get(), 0, s_.fields * rows_ * s_.stride * sizeof(A)); }
  void Read(const T* from, int64_t count) {
    for (int64_t r = 0; r < count; ++r, from += s_.fields * s_.dim) {
      const A* row = Load(from, s_.fields * s_.dim, wide_.get());
      for (int64_t i = 0; i < s_.fields; ++i) {
        Pad(row + i * s_.dim, 1, s_.dim, s_.dim, At(i, r), s_.stride);
      }
    }
  }
  void Write(T* to, int64_t count) {
    for (int64_t r = 0; r < count; ++r, to += s_.fields * s_.dim) {
      A* row = Target(to, wide_.get());
      for (int64_t i = 0; i < s_.fields; ++i) {
        std::memcpy(row + i * s_.dim, At(i, r), s_.dim * sizeof(A));
      }
      Store(row, to, s_.fields * s_.dim);
    }
  }

 private:
  const Sizes<T>& s_;
  int64_t rows_;
  Scratch<A> values_, wide_;
};

// One pair's product to the result, past the cache where whole vectors of it are written.
template <typename T>
inline void WriteProduct(const Wide<T>* left, const Wide<T>* right, int64_t dim, T* to,
                         Wide<T>* wide) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  A* target = Target(to, wide);
  int64_t k = 0;
  for (; k + L <= dim; k += L) {
    const Vec<A> product = LoadVec(left + k) * LoadVec(right + k);
    kNarrow<T> ? StoreVec(target + k, product) : Stream(target + k, product);
  }
  for (; k < dim; ++k) target[k] = left[k] * right[k];
  if constexpr (kNarrow<T>) Round(target, to, dim);
}

// One pair's gradient, padded: where it stands if that is how it stands, else in `scratch`, whose
// padding is zero.
template <typename T>
inline const Wide<T>* ReadGradient(const T* from, const Sizes<T>& s, Wide<T>* scratch) {
  if constexpr (kNarrow<T>) {
    Widen(from, scratch, s.dim);
    return scratch;
  } else {
    if (s.dim == s.stride) return from;
    std::memcpy(scratch, from, s.dim * sizeof(T));
    return scratch;
  }
}

template <typename T>
void Interact(const Call& call) {
  using A = Wide<T>;
  const Sizes<T> s(call);
  Kernel<T> kernel(s, call.in<T>(1), false);
  call.parallel(s.rows, kForwardRows, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    Block<T> x(s, kForwardRows);
    Scratch<A> turned(kForwardRows * s.most * s.stride), wide(ScratchSize<T>(s.dim));
    x.Read(call.in<T>(0) + begin * s.fields * s.dim, count);
    T* out = call.out<T>(0) + begin * s.pairs * s.dim;
    for (int64_t i = 0; i < s.fields - 1; ++i) {
      const int64_t columns = s.Many(i) * s.stride, step = columns > s.stride ? s.stride : 0;
      MatMul<A>(count, columns, s.dim, x.At(i, 0), s.stride, 1, kernel.SideBySide(i), columns,
                turned, columns);
      const A* left = turned;
      for (int64_t j = i + 1; j < s.fields; ++j, left += step, out += s.dim) {
        for (int64_t r = 0; r < count; ++r) {
          WriteProduct<T>(left + r * columns, x.At(j, r), s.dim, out + r * s.pairs * s.dim,
                          wide.get());
        }
      }
    }
  });
}

// The backward of blocks of rows, which adds to the gradients of the matrices, side by side.
template <typename T>
class InteractBackward {
 public:
  using A = Wide<T>;
  static constexpr int64_t L = kLanes<A>;

  InteractBackward(const Call& call, const Sizes<T>& s, Kernel<T>& kernel, A* dkernel)
      : call_(call),
        s_(s),
        kernel_(kernel),
        dkernel_(dkernel),
        x_(s, s.BackwardRows()),
        dx_(s, s.BackwardRows()),
        turned_(s.BackwardRows() * s.most * s.stride),
        dturned_(s.BackwardRows() * s.most * s.stride),
        scratch_(s.stride) {
    std::memset(scratch_.get(), 0, s.stride * sizeof(A));
  }

  void Rows(int64_t begin, int64_t count) {
    x_.Read(call_.in<T>(0) + begin * s_.fields * s_.dim, count);
    dx_.Clear();
    const T* dy = call_.in<T>(2) + begin * s_.pairs * s_.dim;
    for (int64_t i = 0; i < s_.fields - 1; dy += (s_.fields - 1 - i) * s_.dim, ++i) {
      const int64_t columns = s_.Many(i) * s_.stride;
      Turn(dy, i, count);
      for (int64_t r = 0; r < count; ++r) {
        const T* from = dy + r * s_.pairs * s_.dim;
        if (s_.kind == kInteraction) {
          Products<true>(from, i, r, turned_ + r * columns, dturned_ + r * columns);
        } else {
          Products<false>(from, i, r, turned_ + r * columns, dturned_ + r * columns);
        }
      }
      MatMul<A>(count, s_.stride, columns, dturned_, columns, 1, kernel_.Turned(i), s_.stride,
                dx_.At(i, 0), s_.stride, true);
      MatMul<A>(s_.dim, columns, count, x_.At(i, 0), 1, s_.stride, dturned_, columns,
                dkernel_ + s_.First(i) * s_.dim * s_.stride, columns, true);
    }
    dx_.Write(call_.out<T>(0) + begin * s_.fields * s_.dim, count);
  }

 private:
  // Left field i times its matrices. Meanwhile its pairs' gradients are on their way: the rows of a
  // block lie too far apart for the processor to see by itself what is read next.
  void Turn(const T* dy, int64_t i, int64_t count) {
    const int64_t columns = s_.Many(i) * s_.stride, most = 4 * L;
    for (int64_t c = 0; c < columns; c += most) {
      const int64_t width = std::min(most, columns - c);
      for (int64_t first = 0; first < count; first += 6) {
        const int64_t rows = std::min<int64_t>(6, count - first);
        for (int64_t r = first; r < first + rows; ++r) {
          const T* from = dy + r * s_.pairs * s_.dim;
          const int64_t values = s_.kind == kInteraction ? s_.dim : 0;
          const int64_t end = (c + width) / s_.stride * values;
          for (int64_t at = c / s_.stride * values; at < end; at += 64 / sizeof(T)) {
            __builtin_prefetch(from + at);
          }
        }
        MatMul<A>(rows, width, s_.dim, x_.At(i, first), s_.stride, 1, kernel_.SideBySide(i) + c,
                  columns, turned_ + first * columns + c, columns);
      }
    }
  }

  // Through the products of a row's left field i, turned by a matrix each or by the same.
  template <bool kApart>
  void Products(const T* dy, int64_t i, int64_t r, const A* turned, A* dturned) {
    if (!kApart) std::memset(dturned, 0, s_.stride * sizeof(A));
    for (int64_t j = i + 1; j < s_.fields; ++j, dy += s_.dim) {
      if (!kApart) __builtin_prefetch(dy + 16 * s_.dim);
      const A *g = ReadGradient<T>(dy, s_, scratch_.get()), *right = x_.At(j, r);
      A* dright = dx_.At(j, r);
      for (int64_t k = 0; k < s_.stride; k += L) {
        const Vec<A> gradient = LoadVec(g + k);
        const Vec<A> before = kApart ? Vec<A>{} : LoadVec(dturned + k);
        StoreVec(dturned + k, before + gradient * LoadVec(right + k));
        StoreVec(dright + k, LoadVec(dright + k) + gradient * LoadVec(turned + k));
      }
      if (kApart) turned += s_.stride, dturned += s_.stride;
    }
  }

  const Call& call_;
  const Sizes<T>& s_;
  Kernel<T>& kernel_;
  A* dkernel_;
  Block<T> x_, dx_;
  Scratch<A> turned_, dturned_, scratch_;
};

template <typename T>
void InteractGrad(const Call& call) {
  using A = Wide<T>;
  const Sizes<T> s(call);
  Kernel<T> kernel(s, call.in<T>(1), true);
  const int64_t size = s.matrices * s.dim * s.stride;
  Scratch<A> total(size), wide(ScratchSize<T>(s.dim * s.dim));
  const int64_t block = s.BackwardRows();
  const int64_t passes = s.kind == kAll ? s.fields - 1 : 1;
  SumOverRows(call, s.rows, block, passes, size, total.get(),
              [&](int64_t begin, int64_t end, A* sums) {
                InteractBackward<T> backward(call, s, kernel, sums);
                for (int64_t b = begin; b < end; b += block) {
                  backward.Rows(b, std::min(block, end - b));
                }
              });
  Kernel<T>::ForMatrices(s, [&](int64_t m, int64_t at, int64_t columns) {
    T* to = call.out<T>(1) + m * s.dim * s.dim;
    A* rows = Target(to, wide.get());
    for (int64_t k = 0; k < s.dim; ++k) {
      std::memcpy(rows + k * s.dim, total + at + k * columns, s.dim * sizeof(A));
    }
    Store(rows, to, s.dim * s.dim);
  });
}

// x, kernel; the option is the kind.
std::vector<Dims> InteractShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  Check(options.size() == 1 && options[0] >= kAll && options[0] <= kInteraction,
        "options: expected 0, 1 or 2");
  Check(in[0].size() == 3 && in[0][1] >= 2, "x: expected rank 3 with two or more fields");
  const size_t rank = options[0] == kAll ? 2 : 3;
  Check(in[1].size() == rank, "kernel: expected rank ", rank);
  if (rank == 3) CheckSize(in[1][0], Matrices(options[0], in[0][1]), "kernel");
  CheckSize(in[1][rank - 2], in[0][2], "kernel");
  CheckSize(in[1][rank - 1], in[0][2], "kernel");
  return {{in[0][0], Pairs(in[0][1]), in[0][2]}};
}

std::vector<Dims> InteractGradShapes(const std::vector<Dims>& in,
                                     const std::vector<int64_t>& options) {
  const Dims want = InteractShapes({in[0], in[1]}, options)[0];
  Check(in[2].size() == 3, "dy: expected rank 3");
  for (size_t axis = 0; axis < 3; ++axis) CheckSize(in[2][axis], want[axis], "dy");
  return {in[0], in[1]};
}

}  // namespace

std::vector<Op> BilinearOps() {
  return {
      {"BilinearInteraction", {"x: T", "kernel: T"}, {"y: T"}, InteractShapes, RECOPS_RUN(Interact)},
      {"BilinearInteractionGrad",
       {"x: T", "kernel: T", "dy: T"},
       {"dx: T", "dkernel: T"},
       InteractGradShapes,
       RECOPS_RUN(InteractGrad)},
  };
}

}  // namespace recops
