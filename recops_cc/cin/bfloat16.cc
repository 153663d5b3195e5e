// A layer of bfloat16 by pairs of values, on tiles where the processor has them; kernel.cc has the
// plan, which is the same. Products are rounded to bfloat16 as they are made, which is what
// multiplies faster; sums and the gradients of the products are float32.
#include "bfloat16.h"

#include <vector>

#include "../common/lanes.h"
#include "../common/sums.h"
#include "../common/tiles.h"
#include "columns.h"

namespace recops::cin {

#ifdef RECOPS_BFLOAT16_PAIRS

namespace {

using Layer = Sizes<bfloat16>;

constexpr int64_t L = kLanes<float>, C = kColumns<float>;
constexpr auto kAllLanes = std::make_integer_sequence<int, L>();
constexpr int64_t kGroups = 2, kBlock = kGroups * C;
// Pairs of products a part forward, and products a part backward.
constexpr int64_t kForwardPart = 96, kBackwardPart = 96;

Layer LayerOf(const Call& call) {
  return Layer(call.inputs[0].dims, call.inputs[1].dims, call.inputs[2].dims, call.options[0]);
}

// The weights of a map's products with the fields [first, fields), from the kernel's row of one
// result. Where the maps are the fields, (h, f) has those of (f, h) as well, which has none.
void Weights(const Layer& s, const bfloat16* row, int64_t h, int64_t first, bfloat16* to) {
  const int64_t F = s.fields;
  if (!s.itself) {
    std::memcpy(to, row + h * F + first, (F - first) * sizeof(bfloat16));
    return;
  }
  for (int64_t f = first; f < F; ++f, ++to) {
    float both[2];
    Widen(row + h * F + f, both, 1);
    Widen(row + f * F + h, both + 1, 1);
    const float weight = f < h ? 0 : f == h ? both[0] : both[0] + both[1];
    Round(&weight, to, 1);
  }
}

// Forward two products of a map with neighbouring fields are a pair. Of an odd number of fields the
// last has a neighbour that is zero.
struct FieldPair {
  int32_t map, pair;
};

std::vector<FieldPair> FieldPairs(const Layer& s) {
  std::vector<FieldPair> all;
  for (int32_t h = 0; h < s.before; ++h) {
    for (int32_t i = s.itself ? h / 2 : 0; i < (s.fields + 1) / 2; ++i) all.push_back({h, i});
  }
  return all;
}

// The kernel by parts of these pairs: [parts, stride, kForwardPart], zeros beyond what there is.
Scratch<Pair> ByParts(const Call& call, const Layer& s, int64_t pairs) {
  const auto* kernel = call.in<bfloat16>(2);
  const int64_t parts = (pairs + kForwardPart - 1) / kForwardPart;
  Scratch<Pair> by_parts(parts * s.stride * kForwardPart);
  std::memset(by_parts.get(), 0, parts * s.stride * kForwardPart * sizeof(Pair));
  call.parallel(s.maps, 16, [&](int64_t begin, int64_t end) {
    Scratch<bfloat16> weights(2 * pairs);
    for (int64_t o = begin; o < end; ++o) {
      bfloat16* to = weights;
      for (int64_t h = 0; h < s.before; ++h) {
        const int64_t first = s.itself ? h / 2 * 2 : 0;
        Weights(s, kernel + o * s.before * s.fields, h, first, to);
        to += s.fields - first;
        if (s.fields % 2 == 1) *to++ = bfloat16{0};
      }
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t first = part * kForwardPart;
        std::memcpy(by_parts + (part * s.stride + o) * kForwardPart, weights + 2 * first,
                    std::min(kForwardPart, pairs - first) * sizeof(Pair));
      }
    }
  });
  return by_parts;
}

int64_t PairsOfMaps(const Layer& s) { return WholeTiles((s.maps + 1) / 2); }

// Backward the kernel has a row a product, of pairs of results: [products, maps / 2], zeros around.
Scratch<Pair> ByProducts(const Call& call, const Layer& s) {
  const auto* kernel = call.in<bfloat16>(2);
  const int64_t all = s.before * s.fields, pairs = PairsOfMaps(s);
  const int64_t size = WholeTiles(s.products()) * pairs;
  Scratch<Pair> by_products(size);
  std::memset(by_products.get(), 0, size * sizeof(Pair));
  call.parallel((s.maps + 1) / 2, 16, [&](int64_t begin, int64_t end) {
    Scratch<bfloat16> weights(2 * s.products());
    bfloat16 *const low = weights, *const high = low + s.products();
    for (int64_t i = begin; i < end; ++i) {
      const bfloat16* row = kernel + 2 * i * all;
      const bool both = 2 * i + 1 < s.maps;
      if (!both) std::memset(static_cast<void*>(high), 0, s.products() * sizeof(bfloat16));
      for (int64_t h = 0, at = 0; h < s.before; ++h) {
        const int64_t first = s.itself ? h : 0;
        Weights(s, row, h, first, low + at);
        if (both) Weights(s, row + all, h, first, high + at);
        at += s.fields - first;
      }
      for (int64_t p = 0; p < s.products(); ++p) {
        by_products[p * pairs + i] = Pair{low[p].bits} | Pair{high[p].bits} << 16;
      }
    }
  });
  return by_products;
}

// Rows [n, C] with the columns of two neighbours in turns: [n / 2, 2 C].
void Interlace(const float* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; i += 2) {
    for (int64_t c = 0; c < C; c += L, to += 2 * L) {
      const Vec<float> one = LoadVec(from + i * C + c);
      const Vec<float> other = i + 1 < n ? LoadVec(from + (i + 1) * C + c) : Vec<float>{};
      StoreVec(to, internal::Interleave<float, 0>(one, other, kAllLanes));
      StoreVec(to + L, internal::Interleave<float, L / 2>(one, other, kAllLanes));
    }
  }
}

// The pairs of products `first` to `last` of a group's columns, from the fields as Interlace leaves
// them.
void MultiplyPairs(const std::vector<FieldPair>& pairs, int64_t first, int64_t last,
                   const float* fields, const float* maps, Pair* to) {
  for (int64_t p = first; p < last;) {
    const int64_t h = pairs[p].map, begin = p;
    while (p < last && pairs[p].map == h) ++p;
    for (int64_t c = 0; c < C; c += L) {
      const Vec<float> own = LoadVec(maps + h * C + c);
      const Vec<float> low = internal::Interleave<float, 0>(own, own, kAllLanes);
      const Vec<float> high = internal::Interleave<float, L / 2>(own, own, kAllLanes);
      const float* field = fields + 2 * (pairs[begin].pair * C + c);
      for (int64_t i = begin; i < p; ++i, field += 2 * C) {
        StorePairs(to + (i - first) * C + c,
                   PairWithin(low * LoadVec(field), high * LoadVec(field + L)));
      }
    }
  }
}

// The products `first` to `last` of a group's columns, pairs along these: rows of kBlock / 2.
void MultiplyColumns(const Layer& s, int64_t first, int64_t last, const float* x0,
                     const float* maps, Pair* to) {
  for (int64_t p = first; p < last;) {
    const int64_t h = s.pairs[p].first, begin = p;
    while (p < last && s.pairs[p].first == h) ++p;
    for (int64_t c = 0; c < C; c += 2 * L) {
      const Vec<float> low = LoadVec(maps + h * C + c), high = LoadVec(maps + h * C + c + L);
      const float* field = x0 + s.pairs[begin].second * C + c;
      for (int64_t i = begin; i < p; ++i, field += C) {
        StorePairs(to + (i - first) * kBlock / 2 + c / 2,
                   PairWithin(low * LoadVec(field), high * LoadVec(field + L)));
      }
    }
  }
}

// The backward of blocks of columns, which adds to the kernel's gradient [products, stride].
class PairedBackward {
 public:
  PairedBackward(const Call& call, const Layer& s, const Pair* kernel, bool tiles, float* dkernel)
      : call_(call),
        s_(s),
        kernel_(kernel),
        tiles_(tiles),
        dkernel_(dkernel),
        kernel_row_(PairsOfMaps(s)),
        // Not a power of two: of such rows few would fit the first cache.
        turned_row_(s.stride + L),
        dy_(2 * kernel_row_ * kBlock),
        dy_turned_(kBlock / 2 * turned_row_),
        products_(kBackwardPart * kBlock / 2),
        dproducts_(kBackwardPart * C) {
    for (int64_t g = 0; g < kGroups; ++g) groups_.emplace_back(s);
    std::memset(static_cast<void*>(dy_.get()), 0, 2 * kernel_row_ * kBlock * sizeof(bfloat16));
    std::memset(products_.get(), 0, kBackwardPart * kBlock / 2 * sizeof(Pair));
  }

  void Columns(int64_t begin, int64_t end) {
    const int64_t groups = (end - begin + C - 1) / C;
    auto count = [&](int64_t g) { return std::min(C, end - begin - g * C); };
    ReadDy(begin, end);
    for (int64_t g = 0; g < groups; ++g) Read(begin + g * C, count(g), g);
    for (int64_t p = 0; p < s_.products(); p += kBackwardPart) {
      const int64_t last = std::min(p + kBackwardPart, s_.products());
      for (int64_t g = 0; g < groups; ++g) {
        MultiplyColumns(s_, p, last, groups_[g].x0, Maps(groups_[g]), products_ + g * C / 2);
      }
      MultiplyPairs(tiles_, WholeTiles(last - p), s_.stride, groups * C / 2, products_, kBlock / 2,
                    dy_turned_, turned_row_, dkernel_ + p * s_.stride, s_.stride, true);
      for (int64_t g = 0; g < groups; ++g) Back(p, last, groups_[g]);
    }
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = begin + g * C;
      WriteGroup(groups_[g].dx0.get(), s_.fields, s_.dim, at, count(g), call_.out<bfloat16>(0));
      if (s_.itself) continue;
      WriteGroup(groups_[g].dxk.get(), s_.before, s_.dim, at, count(g), call_.out<bfloat16>(1));
    }
  }

 private:
  struct Group {
    explicit Group(const Layer& s)
        : x0(s.fields * C),
          xk(s.itself ? 0 : s.before * C),
          dx0(s.fields * C),
          dxk(s.itself ? 0 : s.before * C),
          dy(PairsOfMaps(s) * C) {}
    Scratch<float> x0, xk, dx0, dxk;
    Scratch<Pair> dy;  // pairs of results: [maps / 2, C]
  };

  const float* Maps(const Group& g) const { return s_.itself ? g.x0.get() : g.xk.get(); }

  // [maps, kBlock] as it stands, and turned: pairs of columns, [kBlock / 2, maps].
  void ReadDy(int64_t begin, int64_t end) {
    if (end - begin < kBlock) {
      std::memset(static_cast<void*>(dy_.get()), 0, s_.maps * kBlock * sizeof(bfloat16));
    }
    ByRuns(begin, end - begin, s_.dim, [&](int64_t row, int64_t d, int64_t c, int64_t run) {
      const bfloat16* source = call_.in<bfloat16>(3) + row * s_.maps * s_.dim + d;
      for (int64_t o = 0; o < s_.maps; ++o) {
        std::memcpy(dy_ + o * kBlock + c, source + o * s_.dim, run * sizeof(bfloat16));
      }
    });
    const auto* from = reinterpret_cast<const float*>(dy_.get());
    auto* to = reinterpret_cast<float*>(dy_turned_.get());
    for (int64_t o = 0; o < s_.maps; o += L) {
      for (int64_t c = 0; c < kBlock / 2; c += L) {
        CopySquare<float>(from + o * kBlock / 2 + c, kBlock / 2, std::min(L, s_.maps - o),
                          to + c * turned_row_ + o, turned_row_, L);
      }
    }
  }

  void Read(int64_t begin, int64_t count, int64_t group) {
    Group& g = groups_[group];
    for (int64_t i = 0; i < kernel_row_; ++i) {
      for (int64_t c = 0; c < C; c += L) {
        const bfloat16* low = dy_ + 2 * i * kBlock + group * C + c;
        StorePairs(g.dy + i * C + c, PairUp(low, low + kBlock));
      }
    }
    ReadGroup(call_.in<bfloat16>(0), s_.fields, s_.dim, begin, count, g.x0.get());
    std::memset(g.dx0.get(), 0, s_.fields * C * sizeof(float));
    if (s_.itself) return;
    ReadGroup(call_.in<bfloat16>(1), s_.before, s_.dim, begin, count, g.xk.get());
    std::memset(g.dxk.get(), 0, s_.before * C * sizeof(float));
  }

  void Back(int64_t first, int64_t last, Group& g) {
    MultiplyPairs(tiles_, WholeTiles(last - first), C, kernel_row_, kernel_ + first * kernel_row_,
                  kernel_row_, g.dy, C, dproducts_, C);
    MultiplyBack(s_, first, last, dproducts_.get(), g.x0.get(), Maps(g), g.dx0.get(),
                 s_.itself ? g.dx0.get() : g.dxk.get());
  }

  const Call& call_;
  const Layer& s_;
  const Pair* kernel_;
  bool tiles_;
  float* dkernel_;
  int64_t kernel_row_, turned_row_;
  Scratch<bfloat16> dy_;
  Scratch<Pair> dy_turned_, products_;
  Scratch<float> dproducts_;
  std::vector<Group> groups_;
};

}  // namespace

bool PairedCompress(const Call& call) {
  if (!PairsPay()) return false;
  const Layer s = LayerOf(call);
  const std::vector<FieldPair> pairs = FieldPairs(s);
  const auto all = static_cast<int64_t>(pairs.size());
  const Scratch<Pair> kernel = ByParts(call, s, all);
  const bool tiles = HasTiles();
  call.parallel(s.columns(), kBlock, [&](int64_t begin, int64_t end) {
    const Tiles on(tiles);
    const int64_t laced = (s.fields + 1) / 2 * 2 * C, before = s.itself ? s.fields : s.before;
    Scratch<float> x0(s.fields * C), fields(kGroups * laced), maps(kGroups * before * C);
    Scratch<float> y(kGroups * s.stride * C);
    Scratch<Pair> products(kForwardPart * C);
    const int64_t groups = (end - begin + C - 1) / C;
    auto count = [&](int64_t g) { return std::min(C, end - begin - g * C); };
    for (int64_t g = 0; g < groups; ++g) {
      float* xk = maps + g * before * C;
      float* x = s.itself ? xk : x0.get();
      ReadGroup(call.in<bfloat16>(0), s.fields, s.dim, begin + g * C, count(g), x);
      Interlace(x, s.fields, fields + g * laced);
      if (s.itself) continue;
      ReadGroup(call.in<bfloat16>(1), before, s.dim, begin + g * C, count(g), xk);
    }
    std::memset(y.get(), 0, groups * s.stride * C * sizeof(float));
    for (int64_t p = 0; p < all; p += kForwardPart) {
      const int64_t last = std::min(p + kForwardPart, all), whole = WholeTiles(last - p);
      std::memset(products + (last - p) * C, 0, (whole - (last - p)) * C * sizeof(Pair));
      for (int64_t g = 0; g < groups; ++g) {
        MultiplyPairs(pairs, p, last, fields + g * laced, maps + g * before * C, products);
        MultiplyPairs(tiles, s.stride, C, whole, kernel + p * s.stride, kForwardPart, products, C,
                      y + g * s.stride * C, C, true);
      }
    }
    for (int64_t g = 0; g < groups; ++g) {
      WriteGroup(y + g * s.stride * C, s.maps, s.dim, begin + g * C, count(g), call.out<bfloat16>(0));
    }
  });
  return true;
}

bool PairedCompressGrad(const Call& call) {
  if (!PairsPay()) return false;
  const Layer s = LayerOf(call);
  const int64_t size = WholeTiles(s.products()) * s.stride;
  const Scratch<Pair> kernel = ByProducts(call, s);
  const bool tiles = HasTiles();
  Scratch<float> dkernel(size);
  SumOverRows(call, s.columns(), kBlock, 1, size, dkernel.get(),
              [&](int64_t begin, int64_t end, float* sums) {
                const Tiles on(tiles);
                PairedBackward backward(call, s, kernel, tiles, sums);
                for (int64_t n = begin; n < end; n += kBlock) {
                  backward.Columns(n, std::min(n + kBlock, end));
                }
              });
  TurnBack(call, s, dkernel.get(), call.out<bfloat16>(2));
  return true;
}

#else

bool PairedCompress(const Call&) { return false; }
bool PairedCompressGrad(const Call&) { return false; }

#endif

}  // namespace recops::cin
