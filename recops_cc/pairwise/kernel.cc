// Inner and Hadamard products of field pairs, bi-interaction, FM and field-aware FM.
// Fields are padded to whole vectors once a row; everything else of a row stays in the first cache.
#include "../common/rooms.h"
#include "inner.h"

namespace recops {
namespace {

template <typename T>
void Hadamard(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(2);
  const int64_t p = Pairs(f);
  call.parallel(rows, kRows, [&](int64_t begin, int64_t end) {
    Fields<T> x(f, d);
    Scratch<A> wide(ScratchSize<T>(f * d));
    for (int64_t b = begin; b < end; ++b) {
      const A* fields = x.At(call.in<T>(0) + b * f * d);
      T* out = call.out<T>(0) + b * p * d;
      for (int64_t i = 0; i < f - 1; ++i) {
        const A* left = fields + i * x.stride;
        A* to = Target(out, wide.get());
        for (int64_t j = i + 1; j < f; ++j, to += d) {
          const A* right = fields + j * x.stride;
          int64_t k = 0;
          for (; k + L <= d; k += L) {
            const Vec<A> product = LoadVec(left + k) * LoadVec(right + k);
            kNarrow<T> ? StoreVec(to + k, product) : Stream(to + k, product);
          }
          for (; k < d; ++k) to[k] = left[k] * right[k];
        }
        if (kNarrow<T>) Store(wide.get(), out, (f - 1 - i) * d);
        out += (f - 1 - i) * d;
      }
    }
  });
}

template <typename T>
void HadamardGrad(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(2);
  const int64_t p = Pairs(f);
  call.parallel(rows, kRows, [&](int64_t begin, int64_t end) {
    Fields<T> x(f, d);
    Scratch<A> dx(f * x.stride), wide(ScratchSize<T>(f * d));
    for (int64_t b = begin; b < end; ++b) {
      const A* fields = x.At(call.in<T>(0) + b * f * d);
      std::memset(dx.get(), 0, f * x.stride * sizeof(A));
      const T* dy = call.in<T>(1) + b * p * d;
      for (int64_t i = 0; i < f - 1; ++i) {
        const A* left = fields + i * x.stride;
        const A* from = Load(dy, (f - 1 - i) * d, wide.get());
        A* dleft = dx + i * x.stride;
        int64_t k = 0;
        for (; k + L <= d; k += L) {
          const Vec<A> own = LoadVec(left + k);
          Vec<A> sum = LoadVec(dleft + k);
          for (int64_t j = i + 1; j < f; ++j) {
            const Vec<A> g = LoadVec(from + (j - i - 1) * d + k);
            A* dright = dx + j * x.stride + k;
            sum += g * LoadVec(fields + j * x.stride + k);
            StoreVec(dright, LoadVec(dright) + g * own);
          }
          StoreVec(dleft + k, sum);
        }
        for (; k < d; ++k) {
          for (int64_t j = i + 1; j < f; ++j) {
            const A g = from[(j - i - 1) * d + k];
            dleft[k] += g * fields[j * x.stride + k];
            dx[j * x.stride + k] += g * left[k];
          }
        }
        dy += (f - 1 - i) * d;
      }
      x.Write(dx.get(), call.out<T>(0) + b * f * d);
    }
  });
}

// Sum over the fields of a row, into `sum` [stride].
template <typename A>
void SumFields(const A* x, int64_t fields, int64_t stride, A* sum) {
  for (int64_t k = 0; k < stride; k += kLanes<A>) {
    Vec<A> total{};
    for (int64_t i = 0; i < fields; ++i) total += LoadVec(x + i * stride + k);
    StoreVec(sum + k, total);
  }
}

// ((sum_i x_i)^2 - sum_i x_i^2) / 2, summed over D too where `kScalar`.
template <typename T, bool kScalar>
void Bi(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(2);
  call.parallel(rows, 4 * kRows, [&](int64_t begin, int64_t end) {
    Fields<T> x(f, d);
    Scratch<A> half_difference(x.stride);
    for (int64_t b = begin; b < end; ++b) {
      const A* fields = x.At(call.in<T>(0) + b * f * d);
      Vec<A> all{};
      for (int64_t k = 0; k < x.stride; k += L) {
        Vec<A> sum{}, squares{};
        for (int64_t i = 0; i < f; ++i) {
          const Vec<A> value = LoadVec(fields + i * x.stride + k);
          sum += value;
          squares += value * value;
        }
        const Vec<A> result = A(0.5) * (sum * sum - squares);
        StoreVec(half_difference + k, result);
        all += result;
      }
      if (kScalar) {
        const A total = SumLanes<A>(all);
        Store(&total, call.out<T>(0) + b, 1);
      } else {
        Store(half_difference.get(), call.out<T>(0) + b * d, d);
      }
    }
  });
}

template <typename T, bool kScalar>
void BiGrad(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(2);
  const int64_t width = kScalar ? 1 : d;
  call.parallel(rows, 4 * kRows, [&](int64_t begin, int64_t end) {
    Fields<T> x(f, d);
    Scratch<A> sum(x.stride), dy(x.stride), wide(ScratchSize<T>(d));
    std::memset(dy.get(), 0, x.stride * sizeof(A));
    for (int64_t b = begin; b < end; ++b) {
      const A* fields = x.At(call.in<T>(0) + b * f * d);
      SumFields<A>(fields, f, x.stride, sum.get());
      const A* from = Load(call.in<T>(1) + b * width, width, wide.get());
      for (int64_t k = 0; k < d; ++k) dy[k] = from[kScalar ? 0 : k];
      A* dx = x.For(call.out<T>(0) + b * f * d);
      for (int64_t i = 0; i < f; ++i) {
        for (int64_t k = 0; k < x.stride; k += L) {
          const int64_t place = i * x.stride + k;
          StoreVec(dx + place, LoadVec(dy + k) * (LoadVec(sum + k) - LoadVec(fields + place)));
        }
      }
      x.Write(dx, call.out<T>(0) + b * f * d);
    }
  });
}

template <typename T>
void FieldAware(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(3);
  call.parallel(rows, kRows, [&](int64_t begin, int64_t end) {
    Scratch<A> wide(ScratchSize<T>(f * f * d));
    for (int64_t b = begin; b < end; ++b) {
      const A* x = Load(call.in<T>(0) + b * f * f * d, f * f * d, wide.get());
      Vec<A> sums{};
      A rest = 0;
      for (int64_t i = 0; i < f; ++i) {
        for (int64_t j = i + 1; j < f; ++j) {
          const A *left = x + (i * f + j) * d, *right = x + (j * f + i) * d;
          int64_t k = 0;
          for (; k + L <= d; k += L) sums += LoadVec(left + k) * LoadVec(right + k);
          for (; k < d; ++k) rest += left[k] * right[k];
        }
      }
      const A total = SumLanes<A>(sums) + rest;
      Store(&total, call.out<T>(0) + b, 1);
    }
  });
}

template <typename T>
void FieldAwareGrad(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rows = call.inputs[0].dim(0), f = call.inputs[0].dim(1), d = call.inputs[0].dim(3);
  call.parallel(rows, kRows, [&](int64_t begin, int64_t end) {
    Scratch<A> wide(ScratchSize<T>(f * f * d)), result(ScratchSize<T>(f * f * d));
    A dy_wide;
    for (int64_t b = begin; b < end; ++b) {
      const A* x = Load(call.in<T>(0) + b * f * f * d, f * f * d, wide.get());
      const A dy = *Load(call.in<T>(1) + b, 1, &dy_wide);
      A* dx = Target(call.out<T>(0) + b * f * f * d, result.get());
      for (int64_t i = 0; i < f; ++i) {
        for (int64_t j = 0; j < f; ++j) {
          A* to = dx + (i * f + j) * d;
          const A* from = x + (j * f + i) * d;
          int64_t k = 0;
          if (i == j) {
            std::memset(to, 0, d * sizeof(A));
            continue;
          }
          for (; k + L <= d; k += L) {
            const Vec<A> value = dy * LoadVec(from + k);
            kNarrow<T> ? StoreVec(to + k, value) : Stream(to + k, value);
          }
          for (; k < d; ++k) to[k] = dy * from[k];
        }
      }
      Store(dx, call.out<T>(0) + b * f * f * d, f * f * d);
    }
  });
}

void CheckFields(const Dims& x, size_t rank) {
  Check(x.size() == rank && x[1] >= 2, "x: expected rank ", rank, " with two or more fields");
}

std::vector<Dims> PairScalars(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckFields(in[0], 3);
  return {{in[0][0], Pairs(in[0][1])}};
}

std::vector<Dims> PairVectors(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckFields(in[0], 3);
  return {{in[0][0], Pairs(in[0][1]), in[0][2]}};
}

std::vector<Dims> OneVector(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckFields(in[0], 3);
  return {{in[0][0], in[0][2]}};
}

std::vector<Dims> OneScalar(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckFields(in[0], 3);
  return {{in[0][0], 1}};
}

std::vector<Dims> OneScalarOfAware(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckFields(in[0], 4);
  CheckSize(in[0][2], in[0][1], "fields of x");
  return {{in[0][0], 1}};
}

// The gradient has the shape of x; dy must have that of the result.
template <std::vector<Dims> (*forward)(const std::vector<Dims>&, const std::vector<int64_t>&)>
std::vector<Dims> LikeX(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  const Dims want = forward({in[0]}, options)[0];
  Check(in[1].size() == want.size(), "dy: expected rank ", want.size());
  for (size_t i = 0; i < want.size(); ++i) CheckSize(in[1][i], want[i], "dy");
  return {in[0]};
}

template <typename T>
void BiVector(const Call& call) { Bi<T, false>(call); }
template <typename T>
void BiScalar(const Call& call) { Bi<T, true>(call); }
template <typename T>
void BiVectorGrad(const Call& call) { BiGrad<T, false>(call); }
template <typename T>
void BiScalarGrad(const Call& call) { BiGrad<T, true>(call); }

}  // namespace

std::vector<Op> PairwiseOps() {
  const std::vector<std::string> x = {"x: T"}, both = {"x: T", "dy: T"}, y = {"y: T"};
  return {
      {"PairwiseInner", x, y, PairScalars, RECOPS_RUN(Inner)},
      {"PairwiseInnerGrad", both, y, LikeX<PairScalars>, RECOPS_RUN(InnerGrad)},
      {"PairwiseHadamard", x, y, PairVectors, RECOPS_RUN(Hadamard)},
      {"PairwiseHadamardGrad", both, y, LikeX<PairVectors>, RECOPS_RUN(HadamardGrad)},
      {"BiInteraction", x, y, OneVector, RECOPS_RUN(BiVector)},
      {"BiInteractionGrad", both, y, LikeX<OneVector>, RECOPS_RUN(BiVectorGrad)},
      {"FmInteraction", x, y, OneScalar, RECOPS_RUN(BiScalar)},
      {"FmInteractionGrad", both, y, LikeX<OneScalar>, RECOPS_RUN(BiScalarGrad)},
      {"FieldAwareInteraction", x, y, OneScalarOfAware, RECOPS_RUN(FieldAware)},
      {"FieldAwareInteractionGrad", both, y, LikeX<OneScalarOfAware>, RECOPS_RUN(FieldAwareGrad)},
  };
}

}  // namespace recops

