// What the kernels of this room share: the order of products and columns, and the way of a group of
// columns from and to [B, n, D].
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "../common/numeric.h"
#include "../common/vector.h"

namespace recops::cin {

// Columns of a group, as many as MatMul takes at once.
template <typename A>
constexpr int64_t kColumns = 4 * kLanes<A>;

// The sizes of a call and the products' order: maps h, then fields f. Where the maps are the fields
// themselves, (h, f) and (f, h) are one product.
template <typename T>
struct Sizes {
  using A = Wide<T>;

  Sizes(const Dims& x0, const Dims& xk, const Dims& kernel, bool itself)
      : rows(x0[0]),
        fields(x0[1]),
        dim(x0[2]),
        before(xk[1]),
        maps(kernel[0]),
        stride(Padded<A>(maps)),
        itself(itself) {
    for (int64_t h = 0; h < before; ++h) {
      for (int64_t f = itself ? h : 0; f < fields; ++f) pairs.emplace_back(h, f);
    }
  }

  int64_t products() const { return static_cast<int64_t>(pairs.size()); }
  int64_t columns() const { return rows * dim; }

  int64_t rows, fields, dim, before, maps, stride;
  bool itself;
  std::vector<std::pair<int32_t, int32_t>> pairs;
};

// The kernel's gradient [maps, before, fields] from a row a product, [products, stride].
template <typename T>
void TurnBack(const Call& call, const Sizes<T>& s, const Wide<T>* turned, T* kernel) {
  using A = Wide<T>;
  const int64_t all = s.before * s.fields;
  call.parallel(s.maps, 16, [&](int64_t begin, int64_t end) {
    Scratch<A> wide(ScratchSize<T>(all));
    for (int64_t o = begin; o < end; ++o) {
      A* row = Target(kernel + o * all, wide.get());
      for (int64_t p = 0; p < s.products(); ++p) {
        const auto [h, f] = s.pairs[p];
        row[h * s.fields + f] = turned[p * s.stride + o];
        if (s.itself) row[f * s.fields + h] = turned[p * s.stride + o];
      }
      Store(row, kernel + o * all, all);
    }
  });
}

// Calls f(row, dimension, column of the group, count) for runs of a group's columns in one row.
template <typename F>
void ByRuns(int64_t begin, int64_t count, int64_t dim, const F& f) {
  for (int64_t c = 0; c < count;) {
    const int64_t row = (begin + c) / dim, d = (begin + c) % dim;
    const int64_t run = std::min(dim - d, count - c);
    f(row, d, c, run);
    c += run;
  }
}

// A group's columns of a tensor [B, n, D], as [n, kColumns]; those beyond `count` are zero.
template <typename T>
void ReadGroup(const T* from, int64_t n, int64_t dim, int64_t begin, int64_t count, Wide<T>* to) {
  using A = Wide<T>;
  constexpr int64_t C = kColumns<A>;
  if (count < C) std::memset(to, 0, n * C * sizeof(A));
  ByRuns(begin, count, dim, [&](int64_t row, int64_t d, int64_t c, int64_t run) {
    const T* source = from + row * n * dim + d;
    for (int64_t i = 0; i < n; ++i) {
      if constexpr (kNarrow<T>) {
        Widen(source + i * dim, to + i * C + c, run);
      } else {
        std::memcpy(to + i * C + c, source + i * dim, run * sizeof(A));
      }
    }
  });
}

template <typename T>
void WriteGroup(const Wide<T>* from, int64_t n, int64_t dim, int64_t begin, int64_t count, T* to) {
  constexpr int64_t C = kColumns<Wide<T>>;
  ByRuns(begin, count, dim, [&](int64_t row, int64_t d, int64_t c, int64_t run) {
    T* target = to + row * n * dim + d;
    for (int64_t i = 0; i < n; ++i) Store(from + i * C + c, target + i * dim, run);
  });
}

// From the gradients of the products `first` to `last` of a group's columns to those of maps and
// fields.
template <typename T>
void MultiplyBack(const Sizes<T>& s, int64_t first, int64_t last, const Wide<T>* dproducts,
                  const Wide<T>* x0, const Wide<T>* xk, Wide<T>* dx0, Wide<T>* dxk) {
  using A = Wide<T>;
  constexpr int64_t C = kColumns<A>, L = kLanes<A>;
  for (int64_t p = first; p < last;) {
    const int64_t h = s.pairs[p].first;
    const A* map = xk + h * C;
    int64_t end = p;
    while (end < last && s.pairs[end].first == h) ++end;
    for (int64_t c = 0; c < C; c += L) {
      const Vec<A> own = LoadVec(map + c);
      const A* gradient = dproducts + (p - first) * C + c;
      const int64_t field = s.pairs[p].second * C + c;
      Vec<A> sum{};
      for (int64_t i = 0; i < (end - p) * C; i += C) {
        const Vec<A> g = LoadVec(gradient + i);
        sum += g * LoadVec(x0 + field + i);
        StoreVec(dx0 + field + i, LoadVec(dx0 + field + i) + g * own);
      }
      // Where maps are fields both gradients go to the same place.
      A* to = dxk + h * C + c;
      StoreVec(to, LoadVec(to) + sum);
    }
    p = end;
  }
}

}  // namespace recops::cin
