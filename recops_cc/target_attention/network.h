// The network of the activation unit: its weights as the kernels read them, and their gradients.
//
// The first layer is folded. With W = [Wq; Wk; Wd; Wp] in rows of D,
//     [q, k, q - k, q * k] W = q (Wq + Wd) + k ((Wk - Wd) + diag(q) Wp)
#pragma once

#include <vector>

#include "../common/activations.h"
#include "../common/numeric.h"
#include "../common/transpose.h"
#include "../common/vector.h"

namespace recops::target_attention {

struct Shape {
  int64_t batch, steps, dim;
  Activation activation;
  bool normalize;
  std::vector<int64_t> widths;  // of every layer; the last is 1

  int64_t layers() const { return static_cast<int64_t>(widths.size()); }
  int64_t before(int64_t layer) const { return layer == 0 ? 4 * dim : widths[layer - 1]; }
  int64_t parameters() const {
    int64_t count = 0;
    for (int64_t i = 0; i < layers(); ++i) count += (before(i) + 1) * widths[i];
    return count;
  }
};

// Options: the activation, whether to normalize, whether weights are kept wide, the widths.
constexpr int kFixedOptions = 3;

inline Shape ShapeOf(const Dims& keys, const std::vector<int64_t>& options) {
  return {keys[0],
          keys[1],
          keys[2],
          static_cast<Activation>(options[0]),
          options[1] != 0,
          {options.begin() + kFixedOptions, options.end()}};
}

// Where the parts of the folded and padded network stand: of the first layer the kernels for the
// query, the key and their product, [D, A] each; of the others one, [before, A]; a bias each.
template <typename A>
class Layout {
 public:
  explicit Layout(const Shape& n) {
    for (int64_t i = 0; i < n.layers(); ++i) {
      const int64_t rows = i == 0 ? 3 * n.dim : n.before(i);
      // The kernel of the last layer of several is a vector and lies along the lanes.
      const bool vector = i > 0 && i == n.layers() - 1;
      padded.push_back(Padded<A>(n.widths[i]));
      kernels.push_back(size);
      size += vector ? Padded<A>(rows) : rows * padded.back();
      biases.push_back(size);
      size += padded.back();
    }
  }
  int64_t size = 0;
  std::vector<int64_t> padded, kernels, biases;
};

template <typename A>
class Network {
 public:
  // `flat` holds all kernels and then all biases. Transposed kernels are for the backward.
  template <typename T>
  Network(const Shape& n, const T* flat, bool backward)
      : layout(n), values_(layout.size), turned_(backward ? TurnedSize(n) : 0) {
    const int64_t d = n.dim, last = n.layers() - 1;
    Scratch<A> wide(ScratchSize<T>(n.parameters()));
    const A* from = Load(flat, n.parameters(), wide.get());
    std::memset(values_.get(), 0, layout.size * sizeof(A));
    for (int64_t i = 0; i <= last; ++i) {
      const int64_t width = n.widths[i], stride = layout.padded[i];
      A* to = values_ + layout.kernels[i];
      if (i == 0) {
        const int64_t part = d * width;
        for (int64_t r = 0; r < d; ++r) {
          for (int64_t c = 0; c < width; ++c) {
            const A* at = from + r * width + c;
            to[r * stride + c] = at[0] + at[2 * part];
            to[(d + r) * stride + c] = at[part] - at[2 * part];
            to[(2 * d + r) * stride + c] = at[3 * part];
          }
        }
      } else if (i == last) {
        std::memcpy(to, from, n.before(i) * sizeof(A));
      } else {
        Pad(from, n.before(i), width, width, to, stride);
      }
      from += n.before(i) * width;
    }
    for (int64_t i = 0; i <= last; ++i) {
      std::memcpy(values_ + layout.biases[i], from, n.widths[i] * sizeof(A));
      from += n.widths[i];
    }
    if (!backward) return;
    A* to = turned_;
    for (int part : {1, 2}) {
      turned.push_back(to);
      Transpose(kernel(0) + part * d * layout.padded[0], d, n.widths[0], layout.padded[0], to,
                Padded<A>(d));
      to += n.widths[0] * Padded<A>(d);
    }
    for (int64_t i = 1; i < last; ++i) {
      turned.push_back(to);
      Transpose(kernel(i), n.before(i), n.widths[i], layout.padded[i], to, Padded<A>(n.before(i)));
      to += n.widths[i] * Padded<A>(n.before(i));
    }
  }

  const A* kernel(int64_t layer) const { return values() + layout.kernels[layer]; }
  const A* bias(int64_t layer) const { return values() + layout.biases[layer]; }

  Layout<A> layout;
  // [A, D] for the key and for the product, then [A, before] of each layer but the first and last.
  std::vector<const A*> turned;

 private:
  const A* values() const { return const_cast<Scratch<A>&>(values_).get(); }
  static int64_t TurnedSize(const Shape& n) {
    int64_t size = 2 * n.widths[0] * Padded<A>(n.dim);
    for (int64_t i = 1; i < n.layers() - 1; ++i) size += n.widths[i] * Padded<A>(n.before(i));
    return size;
  }

  Scratch<A> values_, turned_;
};

// Gradients as they were summed, in the folded layout, to the order in which the weights came.
template <typename T>
void Unfold(const Shape& n, const Wide<T>* sums, T* flat) {
  using A = Wide<T>;
  const Layout<A> layout(n);
  const int64_t d = n.dim, last = n.layers() - 1;
  Scratch<A> wide(ScratchSize<T>(n.parameters()));
  A* to = Target(flat, wide.get());
  A* const begin = to;
  for (int64_t i = 0; i <= last; ++i) {
    const int64_t width = n.widths[i], stride = layout.padded[i];
    const A* from = sums + layout.kernels[i];
    if (i == 0) {
      const A *query = from, *key = query + d * stride, *product = key + d * stride;
      for (int64_t r = 0; r < d; ++r) {
        for (int64_t c = 0; c < width; ++c) {
          A* at = to + r * width + c;
          const int64_t k = r * stride + c;
          at[0] = query[k];
          at[d * width] = key[k];
          at[2 * d * width] = query[k] - key[k];
          at[3 * d * width] = product[k];
        }
      }
    } else if (i == last) {
      std::memcpy(to, from, n.before(i) * sizeof(A));
    } else {
      for (int64_t r = 0; r < n.before(i); ++r) {
        std::memcpy(to + r * width, from + r * stride, width * sizeof(A));
      }
    }
    to += n.before(i) * width;
  }
  for (int64_t i = 0; i <= last; ++i) {
    std::memcpy(to, sums + layout.biases[i], n.widths[i] * sizeof(A));
    to += n.widths[i];
  }
  Store(begin, flat, n.parameters());
}

}  // namespace recops::target_attention
