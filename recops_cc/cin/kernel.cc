// One layer of a compressed interaction network: the products of all maps with all fields, times a
// kernel. A column is one dimension of one row of the batch; a block of columns makes its products
// a part at a time in the cache, where they are multiplied at once. Backward the parts are made
// again.
#include <type_traits>
#include <vector>

#include "../common/rooms.h"
#include "../common/sums.h"
#include "bfloat16.h"
#include "columns.h"

namespace recops {
namespace {

using namespace cin;

constexpr int64_t kGroups = 2;  // groups of columns a block, to read the kernel less often
// Products a part: what is made of them for a group's columns shall stay in the caches beside the
// rest, of which there is more in the backward.
constexpr int64_t kForwardPart = 192, kBackwardPart = 96;

// The kernel with a row a product, [products, stride].
template <typename T>
Scratch<Wide<T>> Turned(const Call& call, const Sizes<T>& s, const T* kernel) {
  using A = Wide<T>;
  const int64_t all = s.before * s.fields;
  Scratch<A> turned(s.products() * s.stride);
  call.parallel(s.maps, 16, [&](int64_t begin, int64_t end) {
    Scratch<A> wide(ScratchSize<T>(all));
    for (int64_t o = begin; o < end; ++o) {
      const A* row = Load(kernel + o * all, all, wide.get());
      for (int64_t p = 0; p < s.products(); ++p) {
        const auto [h, f] = s.pairs[p];
        A weight = row[h * s.fields + f];
        if (s.itself && h != f) weight += row[f * s.fields + h];
        turned[p * s.stride + o] = weight;
      }
    }
  });
  for (int64_t p = 0; s.maps < s.stride && p < s.products(); ++p) {
    std::memset(turned + p * s.stride + s.maps, 0, (s.stride - s.maps) * sizeof(A));
  }
  return turned;
}

// The products `first` to `last` of a group's columns.
template <typename T>
void Multiply(const Sizes<T>& s, int64_t first, int64_t last, const Wide<T>* x0, const Wide<T>* xk,
              Wide<T>* products) {
  using A = Wide<T>;
  constexpr int64_t C = kColumns<A>, L = kLanes<A>;
  for (int64_t p = first; p < last; ++p, products += C) {
    const A *map = xk + s.pairs[p].first * C, *field = x0 + s.pairs[p].second * C;
    for (int64_t c = 0; c < C; c += L) {
      StoreVec(products + c, LoadVec(map + c) * LoadVec(field + c));
    }
  }
}

template <typename T>
void Compress(const Call& call) {
  using A = Wide<T>;
  if (std::is_same_v<T, bfloat16> && PairedCompress(call)) return;
  constexpr int64_t C = kColumns<A>;
  const Sizes<T> s(call.inputs[0].dims, call.inputs[1].dims, call.inputs[2].dims, call.options[0]);
  Scratch<A> kernel = Turned(call, s, call.in<T>(2));
  call.parallel(s.columns(), kGroups * C, [&](int64_t begin, int64_t end) {
    Scratch<A> x0(kGroups * s.fields * C), xk(s.itself ? 0 : kGroups * s.before * C);
    Scratch<A> y(kGroups * s.maps * C), products(kForwardPart * C);
    const int64_t groups = (end - begin + C - 1) / C;
    auto count = [&](int64_t g) { return std::min(C, end - begin - g * C); };
    for (int64_t g = 0; g < groups; ++g) {
      ReadGroup(call.in<T>(0), s.fields, s.dim, begin + g * C, count(g), x0 + g * s.fields * C);
      if (s.itself) continue;
      ReadGroup(call.in<T>(1), s.before, s.dim, begin + g * C, count(g), xk + g * s.before * C);
    }
    std::memset(y.get(), 0, groups * s.maps * C * sizeof(A));
    for (int64_t p = 0; p < s.products(); p += kForwardPart) {
      const int64_t last = std::min(p + kForwardPart, s.products());
      for (int64_t g = 0; g < groups; ++g) {
        const A* fields = x0 + g * s.fields * C;
        Multiply(s, p, last, fields, s.itself ? fields : xk + g * s.before * C, products.get());
        MatMul<A>(s.maps, C, last - p, kernel + p * s.stride, 1, s.stride, products, C,
                  y + g * s.maps * C, C, true);
      }
    }
    for (int64_t g = 0; g < groups; ++g) {
      WriteGroup(y + g * s.maps * C, s.maps, s.dim, begin + g * C, count(g), call.out<T>(0));
    }
  });
}

// The backward of blocks of columns, which adds to the kernel's gradient [products, stride].
template <typename T>
class CompressBackward {
 public:
  using A = Wide<T>;
  static constexpr int64_t C = kColumns<A>;

  CompressBackward(const Call& call, const Sizes<T>& s, const A* kernel, A* dkernel)
      : call_(call), s_(s), kernel_(kernel), dkernel_(dkernel), products_(kBackwardPart * C) {
    for (int64_t g = 0; g < kGroups; ++g) groups_.emplace_back(s);
  }

  void Columns(int64_t begin, int64_t end) {
    const int64_t groups = (end - begin + C - 1) / C;
    auto count = [&](int64_t g) { return std::min(C, end - begin - g * C); };
    for (int64_t g = 0; g < groups; ++g) Read(begin + g * C, count(g), groups_[g]);
    for (int64_t p = 0; p < s_.products(); p += kBackwardPart) {
      const int64_t last = std::min(p + kBackwardPart, s_.products());
      for (int64_t g = 0; g < groups; ++g) Part(p, last, groups_[g]);
    }
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = begin + g * C;
      WriteGroup(groups_[g].dx0.get(), s_.fields, s_.dim, at, count(g), call_.out<T>(0));
      if (s_.itself) continue;
      WriteGroup(groups_[g].dxk.get(), s_.before, s_.dim, at, count(g), call_.out<T>(1));
    }
  }

 private:
  struct Group {
    explicit Group(const Sizes<T>& s)
        : x0(s.fields * C),
          xk(s.itself ? 0 : s.before * C),
          dx0(s.fields * C),
          dxk(s.itself ? 0 : s.before * C),
          dy(s.maps * C),
          dy_turned(C * s.stride) {}
    Scratch<A> x0, xk, dx0, dxk, dy, dy_turned;
  };

  void Read(int64_t begin, int64_t count, Group& g) {
    ReadGroup(call_.in<T>(0), s_.fields, s_.dim, begin, count, g.x0.get());
    std::memset(g.dx0.get(), 0, s_.fields * C * sizeof(A));
    ReadGroup(call_.in<T>(3), s_.maps, s_.dim, begin, count, g.dy.get());
    Transpose<A>(g.dy.get(), s_.maps, C, C, g.dy_turned.get(), s_.stride);
    if (s_.itself) return;
    ReadGroup(call_.in<T>(1), s_.before, s_.dim, begin, count, g.xk.get());
    std::memset(g.dxk.get(), 0, s_.before * C * sizeof(A));
  }

  void Part(int64_t first, int64_t last, Group& g) {
    const A* maps = s_.itself ? g.x0.get() : g.xk.get();
    A* dmaps = s_.itself ? g.dx0.get() : g.dxk.get();
    Multiply(s_, first, last, g.x0.get(), maps, products_.get());
    MatMul<A>(last - first, s_.stride, C, products_, C, 1, g.dy_turned, s_.stride,
              dkernel_ + first * s_.stride, s_.stride, true);
    MatMul<A>(last - first, C, s_.maps, kernel_ + first * s_.stride, s_.stride, 1, g.dy, C,
              products_, C);
    MultiplyBack(s_, first, last, products_.get(), g.x0.get(), maps, g.dx0.get(), dmaps);
  }

  const Call& call_;
  const Sizes<T>& s_;
  const A* kernel_;
  A* dkernel_;
  std::vector<Group> groups_;
  Scratch<A> products_;
};

template <typename T>
void CompressGrad(const Call& call) {
  using A = Wide<T>;
  if (std::is_same_v<T, bfloat16> && PairedCompressGrad(call)) return;
  constexpr int64_t kBlock = kGroups * kColumns<A>;
  const Sizes<T> s(call.inputs[0].dims, call.inputs[1].dims, call.inputs[2].dims, call.options[0]);
  const int64_t size = s.products() * s.stride;
  Scratch<A> kernel = Turned(call, s, call.in<T>(2)), dkernel(size);
  SumOverRows(call, s.columns(), kBlock, 1, size, dkernel.get(),
              [&](int64_t begin, int64_t end, A* sums) {
                CompressBackward<T> backward(call, s, kernel, sums);
                for (int64_t n = begin; n < end; n += kBlock) {
                  backward.Columns(n, std::min(n + kBlock, end));
                }
              });
  TurnBack(call, s, dkernel.get(), call.out<T>(2));
}

// x0, xk, kernel; the option says that xk is x0.
std::vector<Dims> CompressShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  Check(options.size() == 1, "options: expected whether xk is x0");
  Check(in[0].size() == 3 && in[1].size() == 3 && in[2].size() == 3,
        "x0, xk, kernel: expected rank 3");
  CheckSize(in[1][0], in[0][0], "xk");
  CheckSize(in[1][2], in[0][2], "xk");
  CheckSize(in[2][1], in[1][1], "kernel");
  CheckSize(in[2][2], in[0][1], "kernel");
  if (options[0] != 0) CheckSize(in[1][1], in[0][1], "xk");
  return {{in[0][0], in[2][0], in[0][2]}};
}

// With the gradient of the result. Where xk is x0 its gradient is in that of x0.
std::vector<Dims> CompressGradShapes(const std::vector<Dims>& in,
                                     const std::vector<int64_t>& options) {
  const Dims want = CompressShapes({in[0], in[1], in[2]}, options)[0];
  Check(in[3].size() == 3, "dy: expected rank 3");
  for (size_t axis = 0; axis < 3; ++axis) CheckSize(in[3][axis], want[axis], "dy");
  return {in[0], options[0] != 0 ? Dims{0, 0, 0} : in[1], in[2]};
}

}  // namespace

std::vector<Op> CinOps() {
  return {
      {"CompressedInteraction",
       {"x0: T", "xk: T", "kernel: T"},
       {"y: T"},
       CompressShapes,
       RECOPS_RUN(Compress)},
      {"CompressedInteractionGrad",
       {"x0: T", "xk: T", "kernel: T", "dy: T"},
       {"dx0: T", "dxk: T", "dkernel: T"},
       CompressGradShapes,
       RECOPS_RUN(CompressGrad)},
  };
}

}  // namespace recops
