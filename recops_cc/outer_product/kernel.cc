// PNN's outer product: s = sum_i x_i, out_u = sum_de kernel_u[d, e] s_d s_e. The products s_d s_e are
// symmetric, so the kernel is folded to d <= e, which halves the matrix product; they are formed for
// a block of rows in cache, in the forward and again in the backward.
#include "../common/numeric.h"
#include "../common/rooms.h"
#include "../common/sums.h"
#include "../common/vector.h"

namespace recops {
namespace {

constexpr int64_t kRows = 64;

template <typename T>
struct Folded {
  using A = Wide<T>;
  explicit Folded(const Call& call)
      : units(call.inputs[1].dim(0)),
        dim(call.inputs[1].dim(1)),
        terms(dim * (dim + 1) / 2),
        unit_stride(Padded<A>(units)),
        term_stride(Padded<A>(terms)),
        by_unit(units * term_stride),
        by_term(terms * unit_stride) {
    const int64_t square = dim * dim;
    call.parallel(units, 8, [&](int64_t begin, int64_t end) {
      Scratch<A> wide(ScratchSize<T>(square));
      for (int64_t u = begin; u < end; ++u) {
        const A* kernel = Load(call.in<T>(1) + u * square, square, wide.get());
        A* to = by_unit + u * term_stride;
        for (int64_t d = 0; d < dim; ++d) {
          *to++ = kernel[d * dim + d];
          for (int64_t e = d + 1; e < dim; ++e) *to++ = kernel[d * dim + e] + kernel[e * dim + d];
        }
        for (A* rest = to; rest < by_unit + (u + 1) * term_stride; ++rest) *rest = 0;
      }
    });
    Transpose<A>(by_unit.get(), units, terms, term_stride, by_term.get(), unit_stride);
  }
  int64_t units, dim, terms, unit_stride, term_stride;
  Scratch<A> by_unit, by_term;
};

// Field sums [rows, dim] of a block and their products [rows, terms].
template <typename T>
void Products(const Call& call, const Folded<T>& k, int64_t begin, int64_t end, Wide<T>* sums,
              Wide<T>* products) {
  using A = Wide<T>;
  const int64_t fields = call.inputs[0].dim(1), dim = k.dim;
  Scratch<A> wide(ScratchSize<T>(fields * dim));
  for (int64_t b = begin; b < end; ++b) {
    const A* x = Load(call.in<T>(0) + b * fields * dim, fields * dim, wide.get());
    A* s = sums + (b - begin) * dim;
    std::memset(s, 0, dim * sizeof(A));
    for (int64_t f = 0; f < fields; ++f) {
      for (int64_t d = 0; d < dim; ++d) s[d] += x[f * dim + d];
    }
    A* to = products + (b - begin) * k.term_stride;
    for (int64_t d = 0; d < dim; ++d) {
      for (int64_t e = d; e < dim; ++e) *to++ = s[d] * s[e];
    }
    for (A* last = products + (b - begin + 1) * k.term_stride; to < last; ++to) *to = 0;
  }
}

template <typename T>
void Forward(const Call& call) {
  using A = Wide<T>;
  const Folded<T> k(call);
  call.parallel(call.inputs[0].dim(0), kRows, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    Scratch<A> sums(rows * k.dim), products(rows * k.term_stride), out(rows * k.unit_stride);
    Products<T>(call, k, begin, end, sums, products);
    MatMul<A>(rows, k.unit_stride, k.terms, products.get(), k.term_stride, 1, k.by_term.get(),
              k.unit_stride, out.get(), k.unit_stride);
    for (int64_t r = 0; r < rows; ++r) {
      Store(out + r * k.unit_stride, call.out<T>(0) + (begin + r) * k.units, k.units);
    }
  });
}

template <typename T>
void Backward(const Call& call) {
  using A = Wide<T>;
  const Folded<T> k(call);
  const int64_t fields = call.inputs[0].dim(1), dim = k.dim, width = fields * dim;
  Scratch<A> total(k.terms * k.unit_stride);
  SumOverRows<A>(call, call.inputs[0].dim(0), kRows, 1, k.terms * k.unit_stride, total.get(),
                 [&](int64_t from, int64_t to, A* dkernel) {
    Scratch<A> sums(kRows * dim), products(kRows * k.term_stride), dproducts(kRows * k.term_stride);
    Scratch<A> dy(kRows * k.unit_stride), wide(ScratchSize<T>(k.units)), ds(dim), dx(width);
    for (int64_t begin = from; begin < to; begin += kRows) {
      const int64_t end = std::min(to, begin + kRows), rows = end - begin;
      Products<T>(call, k, begin, end, sums, products);
      for (int64_t r = 0; r < rows; ++r) {
        Pad(Load(call.in<T>(2) + (begin + r) * k.units, k.units, wide.get()), 1, k.units, k.units,
            dy + r * k.unit_stride, k.unit_stride);
      }
      MatMul<A>(k.terms, k.unit_stride, rows, products.get(), 1, k.term_stride, dy.get(),
                k.unit_stride, dkernel, k.unit_stride, true);
      MatMul<A>(rows, k.term_stride, k.units, dy.get(), k.unit_stride, 1, k.by_unit.get(),
                k.term_stride, dproducts.get(), k.term_stride);
      for (int64_t r = 0; r < rows; ++r) {
        const A *s = sums + r * dim, *g = dproducts + r * k.term_stride;
        std::memset(ds.get(), 0, dim * sizeof(A));
        for (int64_t d = 0; d < dim; ++d) {
          A own = 2 * *g++ * s[d];
          for (int64_t e = d + 1; e < dim; ++e, ++g) {
            own += *g * s[e];
            ds[e] += *g * s[d];
          }
          ds[d] += own;
        }
        for (int64_t f = 0; f < fields; ++f) std::memcpy(dx + f * dim, ds.get(), dim * sizeof(A));
        Store(dx.get(), call.out<T>(0) + (begin + r) * width, width);
      }
    }
  });
  call.parallel(k.units, 8, [&](int64_t begin, int64_t end) {
    Scratch<A> square(dim * dim);
    for (int64_t u = begin; u < end; ++u) {
      int64_t term = 0;
      for (int64_t d = 0; d < dim; ++d) {
        for (int64_t e = d; e < dim; ++e, ++term) {
          square[d * dim + e] = square[e * dim + d] = total[term * k.unit_stride + u];
        }
      }
      Store(square.get(), call.out<T>(1) + u * dim * dim, dim * dim);
    }
  });
}

// x [B, F, D], kernel [U, D, D] (and dy [B, U])
void CheckShapes(const std::vector<Dims>& in) {
  Check(in[0].size() == 3 && in[1].size() == 3, "x and kernel: expected rank 3");
  CheckSize(in[1][1], in[0][2], "rows of the kernel");
  CheckSize(in[1][2], in[0][2], "columns of the kernel");
}

std::vector<Dims> Output(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckShapes(in);
  return {{in[0][0], in[1][0]}};
}

std::vector<Dims> Gradients(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckShapes(in);
  Check(in[2].size() == 2, "dy: expected rank 2");
  CheckSize(in[2][0], in[0][0], "rows of dy");
  CheckSize(in[2][1], in[1][0], "units of dy");
  return {in[0], in[1]};
}

}  // namespace

std::vector<Op> OuterProductOps() {
  return {
      {"OuterProduct", {"x: T", "kernel: T"}, {"y: T"}, Output, RECOPS_RUN(Forward)},
      {"OuterProductGrad",
       {"x: T", "kernel: T", "dy: T"},
       {"dx: T", "dkernel: T"},
       Gradients,
       RECOPS_RUN(Backward)},
  };
}

}  // namespace recops
