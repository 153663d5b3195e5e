// A dense layer with its bias and activation: a block of rows is multiplied by panels of the kernel
// and finished while it is in the cache. Backward a block makes the gradient of its sums once, for
// both products.
#include <type_traits>

#include "../common/rooms.h"
#include "../common/sums.h"
#include "../common/vector.h"
#include "bfloat16.h"
#include "layer.h"

namespace recops {
namespace {

using namespace dense;

constexpr int64_t kRows = 96;    // a block; of six rows each in the product
constexpr int64_t kDepth = 128;  // of a panel that stays in the first cache

// A matrix [depth, columns] in panels of a few vectors of columns, one behind the other.
template <typename A>
struct Panels {
  static constexpr int64_t kColumns = 4 * kLanes<A>;
  Panels(int64_t depth, int64_t columns)
      : depth(depth), columns(columns), padded(Padded<A>(columns)), values(depth * padded) {}
  int64_t count() const { return (padded + kColumns - 1) / kColumns; }
  int64_t width(int64_t panel) const { return std::min(kColumns, padded - panel * kColumns); }
  A* at(int64_t panel) { return values + panel * kColumns * depth; }
  const A* at(int64_t panel) const { return values + panel * kColumns * depth; }

  // c[rows, width] = a[rows, depth] times a panel, rows of `a` a stride apart.
  void Multiply(int64_t panel, int64_t rows, const A* a, int64_t stride, A* c) const {
    const int64_t n = width(panel);
    if (depth == 0) std::memset(c, 0, rows * n * sizeof(A));
    for (int64_t k = 0; k < depth; k += kDepth) {
      MatMul<A>(rows, n, std::min(kDepth, depth - k), a + k, stride, 1, at(panel) + k * n, n, c, n,
                k > 0);
    }
  }

  int64_t depth, columns, padded;
  Scratch<A> values;
};

template <typename T>
Panels<Wide<T>> Kernel(const Call& call, const Sizes& s) {
  using A = Wide<T>;
  Panels<A> panels(s.width, s.units);
  call.parallel(panels.count(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = p * panels.kColumns, n = panels.width(p);
      const int64_t columns = std::min(n, s.units - first);
      Scratch<A> wide(ScratchSize<T>(columns));
      for (int64_t i = 0; i < s.width; ++i) {
        const A* row = Load(call.in<T>(1) + i * s.units + first, columns, wide.get());
        Pad(row, 1, columns, columns, panels.at(p) + i * n, n);
      }
    }
  });
  return panels;
}

template <typename T>
Panels<Wide<T>> TurnedKernel(const Call& call, const Sizes& s) {
  using A = Wide<T>;
  Panels<A> panels(s.units, s.width);
  call.parallel(panels.count(), 1, [&](int64_t begin, int64_t end) {
    Scratch<A> wide(ScratchSize<T>(s.units));
    for (int64_t p = begin; p < end; ++p) {
      const int64_t n = panels.width(p);
      A* to = panels.at(p);
      for (int64_t c = 0; c < n; ++c) {
        const int64_t row = p * panels.kColumns + c;
        const bool there = row < s.width;
        const A* from = there ? Load(call.in<T>(1) + row * s.units, s.units, wide.get()) : nullptr;
        for (int64_t j = 0; j < s.units; ++j) to[j * n + c] = there ? from[j] : A(0);
      }
    }
  });
  return panels;
}

template <typename T>
void Forward(const Call& call) {
  using A = Wide<T>;
  if (std::is_same_v<T, bfloat16> && PairedForward(call)) return;
  const Sizes s(call);
  const Panels<A> kernel = Kernel<T>(call, s);
  const Scratch<A> bias = Bias<T>(call, s, kernel.padded);
  call.parallel(s.rows, kRows, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    Scratch<A> wide(ScratchSize<T>(rows * s.width)), sums(rows * kernel.kColumns);
    const A* x = Load(call.in<T>(0) + begin * s.width, rows * s.width, wide.get());
    for (int64_t p = 0; p < kernel.count(); ++p) {
      const int64_t first = p * kernel.kColumns, n = kernel.width(p);
      kernel.Multiply(p, rows, x, s.width, sums);
      ForActivation(s.activation, [&](auto kind) {
        Finish<T, kind()>(sums, rows, std::min(n, s.units - first), n, bias + first,
                          call.out<T>(0) + begin * s.units + first, s.units);
      });
    }
  });
}

// x [R, n], kernel [n, m], y [R, m] (empty where nothing is activated), dy [R, m]
template <typename T>
void Backward(const Call& call) {
  using A = Wide<T>;
  if (std::is_same_v<T, bfloat16> && PairedBackward(call)) return;
  const Sizes s(call);
  const Panels<A> turned = TurnedKernel<T>(call, s);
  const int64_t stride = Padded<A>(s.units);
  // The bias's gradient stands below the kernel's.
  Scratch<A> total((s.width + 1) * stride);
  SumOverRows<A>(call, s.rows, kRows, 1, (s.width + 1) * stride, total.get(),
                 [&](int64_t from, int64_t to, A* sums) {
    Scratch<A> wide(ScratchSize<T>(kRows * s.width)), g(kRows * stride);
    Scratch<A> row_wide(ScratchSize<T>(2 * s.units));
    Scratch<A> dx(kRows * turned.kColumns);
    for (int64_t begin = from; begin < to; begin += kRows) {
      const int64_t rows = std::min(kRows, to - begin);
      const A* x = Load(call.in<T>(0) + begin * s.width, rows * s.width, wide.get());
      ForActivation(s.activation, [&](auto kind) {
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t at = (begin + r) * s.units;
          Unfinish<T, kind()>(call.in<T>(3) + at, call.in<T>(2) + at, s.units, row_wide,
                              g + r * stride, sums + s.width * stride);
        }
      });
      MatMul<A>(s.width, stride, rows, x, 1, s.width, g, stride, sums, stride, true);
      for (int64_t p = 0; p < turned.count(); ++p) {
        const int64_t first = p * turned.kColumns, n = turned.width(p);
        turned.Multiply(p, rows, g, stride, dx);
        for (int64_t r = 0; r < rows; ++r) {
          Store(dx + r * n, call.out<T>(0) + (begin + r) * s.width + first,
                std::min(n, s.width - first));
        }
      }
    }
  });
  for (int64_t i = 0; i < s.width; ++i) {
    Store(total + i * stride, call.out<T>(1) + i * s.units, s.units);
  }
  if (s.biased) Store(total + s.width * stride, call.out<T>(2), s.units);
}

void CheckShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  Check(options.size() == 2 && options[0] >= 0 && options[0] < kActivations,
        "expected the options activation (0 to 3) and biased");
  Check(in[0].size() == 2 && in[1].size() == 2, "x and kernel: expected rank 2");
  CheckSize(in[1][0], in[0][1], "rows of the kernel");
}

std::vector<Dims> Output(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  CheckShapes(in, options);
  Check(in[2].size() == 1, "bias: expected rank 1");
  CheckSize(in[2][0], options[1] ? in[1][1] : 0, "bias");
  return {{in[0][0], in[1][1]}};
}

std::vector<Dims> Gradients(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  CheckShapes(in, options);
  Check(in[2].size() == 2 && in[3].size() == 2, "y and dy: expected rank 2");
  if (static_cast<Activation>(options[0]) != Activation::kLinear) {
    CheckSize(in[2][0], in[0][0], "rows of y");
    CheckSize(in[2][1], in[1][1], "columns of y");
  }
  CheckSize(in[3][0], in[0][0], "rows of dy");
  CheckSize(in[3][1], in[1][1], "columns of dy");
  return {in[0], in[1], {options[1] ? in[1][1] : 0}};
}

}  // namespace

std::vector<Op> DenseOps() {
  return {{"Dense", {"x: T", "kernel: T", "bias: T"}, {"y: T"}, Output, RECOPS_RUN(Forward)},
          {"DenseGrad", {"x: T", "kernel: T", "y: T", "dy: T"}, {"dx: T", "dkernel: T", "dbias: T"},
           Gradients, RECOPS_RUN(Backward)}};
}

}  // namespace recops
