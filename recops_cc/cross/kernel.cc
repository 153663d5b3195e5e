// The cross network with vector kernels. Every layer's state is a multiple of the input plus a row
// that all examples share, x_l = a_l x_0 + c_l, so that a row is read once for all its products
// t_l = x_0 . w_l, the layers are a recursion on numbers, and it is read once more for the result:
//   a_{l+1} = a_l (1 + t_l) + c_l . w_l      c_{l+1} = c_l + b_l
#include "../common/numeric.h"
#include "../common/rooms.h"
#include "../common/sums.h"
#include "../common/vector.h"

namespace recops {
namespace {

constexpr int64_t kRows = 64;

// Kernels and what depends on weights alone, wide and padded.
template <typename T>
struct Layers {
  using A = Wide<T>;
  explicit Layers(const Call& call)
      : count(call.inputs[1].dim(0)),
        width(call.inputs[1].dim(1)),
        stride(Padded<A>(width)),
        kernels(count * stride),
        shifts((count + 1) * stride),
        shared(count) {
    Scratch<A> wide(ScratchSize<T>(count * width)), biases(count * stride);
    Pad(Load(call.in<T>(1), count * width, wide.get()), count, width, width, kernels.get(), stride);
    Pad(Load(call.in<T>(2), count * width, wide.get()), count, width, width, biases.get(), stride);
    std::memset(shifts.get(), 0, stride * sizeof(A));
    for (int64_t l = 0; l < count; ++l) {
      A sum = 0;
      for (int64_t k = 0; k < stride; ++k) {
        sum += shifts[l * stride + k] * kernels[l * stride + k];
        shifts[(l + 1) * stride + k] = shifts[l * stride + k] + biases[l * stride + k];
      }
      shared[l] = sum;
    }
  }
  // products[l] = x . w_l and scales[l] = a_l, up to and with a_L.
  void Run(const A* x, A* products, A* scales) const {
    scales[0] = 1;
    for (int64_t l = 0; l < count; ++l) {
      Vec<A> sum{};
      for (int64_t k = 0; k < stride; k += kLanes<A>) {
        sum += LoadVec(x + k) * LoadVec(kernels.get() + l * stride + k);
      }
      products[l] = SumLanes<A>(sum);
      scales[l + 1] = scales[l] * (1 + products[l]) + shared.get()[l];
    }
  }
  int64_t count, width, stride;
  Scratch<A> kernels, shifts, shared;
};

template <typename T>
void Forward(const Call& call) {
  using A = Wide<T>;
  const Layers<T> layers(call);
  const int64_t n = layers.width, stride = layers.stride;
  call.parallel(call.inputs[0].dim(0), kRows, [&](int64_t begin, int64_t end) {
    Scratch<A> x(stride), wide(ScratchSize<T>(n)), products(layers.count), scales(layers.count + 1);
    const A* shift = layers.shifts.get() + layers.count * stride;
    for (int64_t b = begin; b < end; ++b) {
      Pad(Load(call.in<T>(0) + b * n, n, wide.get()), 1, n, n, x.get(), stride);
      layers.Run(x, products, scales);
      const A scale = scales[layers.count];
      A* y = Target(call.out<T>(0) + b * n, wide.get());
      for (int64_t k = 0; k < n; ++k) y[k] = scale * x[k] + shift[k];
      Store(y, call.out<T>(0) + b * n, n);
    }
  });
}

template <typename T>
void Backward(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const Layers<T> layers(call);
  const int64_t n = layers.width, stride = layers.stride, count = layers.count;
  // Sums over rows: of dt_l x [count, stride], of dy [stride], of da_{l+1} [count].
  const int64_t size = count * stride + stride + count;
  Scratch<A> total(size);
  SumOverRows<A>(call, call.inputs[0].dim(0), 1, 1, size, total.get(), [&](int64_t begin,
                                                                          int64_t end, A* sums) {
    Scratch<A> x(stride), dy(stride), wide(ScratchSize<T>(n));
    Scratch<A> products(count), scales(count + 1), dproducts(count);
    A *dy_sum = sums + count * stride, *dscale_sum = dy_sum + stride;
    for (int64_t b = begin; b < end; ++b) {
      Pad(Load(call.in<T>(0) + b * n, n, wide.get()), 1, n, n, x.get(), stride);
      Pad(Load(call.in<T>(3) + b * n, n, wide.get()), 1, n, n, dy.get(), stride);
      layers.Run(x, products, scales);
      Vec<A> dot{};
      for (int64_t k = 0; k < stride; k += L) {
        const Vec<A> g = LoadVec(dy + k);
        dot += g * LoadVec(x + k);
        StoreVec(dy_sum + k, LoadVec(dy_sum + k) + g);
      }
      A dscale = SumLanes<A>(dot);
      for (int64_t l = count - 1; l >= 0; --l) {
        dscale_sum[l] += dscale;
        dproducts[l] = dscale * scales[l];
        dscale *= 1 + products[l];
      }
      for (int64_t k = 0; k < stride; k += L) {
        const Vec<A> own = LoadVec(x + k);
        Vec<A> dx = scales[count] * LoadVec(dy + k);
        for (int64_t l = 0; l < count; ++l) {
          A* dkernel = sums + l * stride + k;
          dx += dproducts[l] * LoadVec(layers.kernels.get() + l * stride + k);
          StoreVec(dkernel, LoadVec(dkernel) + dproducts[l] * own);
        }
        StoreVec(dy + k, dx);
      }
      Store(dy.get(), call.out<T>(0) + b * n, n);
    }
  });
  // c_l is the sum of the biases below it, and enters a_{l+1} by its product with w_l.
  Scratch<A> row(stride);
  A *dshift = total + count * stride, *dscale = dshift + stride;
  for (int64_t l = count - 1; l >= 0; --l) {
    Store(dshift, call.out<T>(2) + l * n, n);
    for (int64_t k = 0; k < n; ++k) {
      row[k] = total[l * stride + k] + dscale[l] * layers.shifts.get()[l * stride + k];
      dshift[k] += dscale[l] * layers.kernels.get()[l * stride + k];
    }
    Store(row.get(), call.out<T>(1) + l * n, n);
  }
}

// x [B, n], kernels [L, n], biases [L, n] (and dy [B, n])
void CheckShapes(const std::vector<Dims>& in) {
  for (const Dims& dims : in) Check(dims.size() == 2, "expected matrices");
  CheckSize(in[1][1], in[0][1], "width of the kernels");
  CheckSize(in[2][1], in[0][1], "width of the biases");
  CheckSize(in[2][0], in[1][0], "layers");
}

std::vector<Dims> LikeX(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckShapes(in);
  return {in[0]};
}

std::vector<Dims> Gradients(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckShapes(in);
  CheckSize(in[3][0], in[0][0], "rows of dy");
  CheckSize(in[3][1], in[0][1], "width of dy");
  return {in[0], in[1], in[2]};
}

}  // namespace

std::vector<Op> CrossOps() {
  return {
      {"CrossNetwork",
       {"x: T", "kernels: T", "biases: T"},
       {"y: T"},
       LikeX,
       RECOPS_RUN(Forward)},
      {"CrossNetworkGrad",
       {"x: T", "kernels: T", "biases: T", "dy: T"},
       {"dx: T", "dkernels: T", "dbiases: T"},
       Gradients,
       RECOPS_RUN(Backward)},
  };
}

}  // namespace recops
