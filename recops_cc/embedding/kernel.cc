// Rows of an embedding table: all fields' by one pass, and pooled bags. Rows stand anywhere in a
// table larger than every cache, so each is asked for long before it is read.
#include <algorithm>
#include <cmath>
#include <vector>

#include "../common/ids.h"
#include "../common/numeric.h"
#include "../common/prefetch.h"
#include "../common/rooms.h"
#include "../common/vector.h"

namespace recops {
namespace {

constexpr int64_t kRows = 64;    // rows of ids a block
constexpr int64_t kAhead = 16;   // table rows on their way while one is read

void CheckId(const Buffer& ids, int64_t id, int64_t column, int64_t rows) {
  Check(id >= 0 && id < rows, "id ", id, " in column ", column, " of ids [", ids.dim(0), ", ",
        ids.dim(1), "] has no row: the table has ", rows, " rows there, so ids run 0..", rows - 1);
}

// For few bytes a call takes longer than the copy.
template <typename T>
void CopyRow(const T* from, T* to, int64_t n) {
  using A = Wide<T>;
  if (!kNarrow<T> && n % kLanes<A> == 0) {
    for (int64_t k = 0; k < n; k += kLanes<A>) {
      StoreVec(reinterpret_cast<A*>(to + k), LoadVec(reinterpret_cast<const A*>(from + k)));
    }
  } else {
    std::memcpy(to, from, n * sizeof(T));
  }
}

// First row and number of rows of each column's field: a field ends where the next one begins.
// Neighbours are often of one field, the steps of a history, so that runs are sorted, not columns.
struct Fields {
  Fields(const Buffer& offsets, int64_t columns, int64_t rows) : starts(columns), sizes(columns) {
    std::vector<int64_t> ordered;
    for (int64_t i = 0; i < columns; ++i) {
      starts[i] = IdAt(offsets, i);
      Check(starts[i] >= 0 && starts[i] <= rows, "offsets: field ", i, " begins at row ", starts[i],
            " of a table of ", rows, " rows");
      if (i == 0 || starts[i] != starts[i - 1]) ordered.push_back(starts[i]);
    }
    std::sort(ordered.begin(), ordered.end());
    for (int64_t i = 0; i < columns; ++i) {
      if (i > 0 && starts[i] == starts[i - 1]) {
        sizes[i] = sizes[i - 1];
        continue;
      }
      const auto next = std::upper_bound(ordered.begin(), ordered.end(), starts[i]);
      sizes[i] = (next == ordered.end() ? rows : *next) - starts[i];
    }
  }
  std::vector<int64_t> starts, sizes;
};

// The results of a variable's table have their width from the tensor that is like it.
void CheckTable(const Dims& table, int64_t width) {
  Check(table.size() == 2, "table: expected rank 2");
  CheckSize(table[1], width, "width of the table");
}

// table, ids, offsets -> the embeddings, and the row of each.
template <typename T>
void Lookup(const Call& call) {
  const Buffer &ids = call.inputs[1], &offsets = call.inputs[2], &found = call.outputs[1];
  const T* table = call.in<T>(0);
  CheckTable(call.inputs[0].dims, call.outputs[0].dims.back());
  const int64_t rows = call.inputs[0].dim(0), d = call.inputs[0].dim(1), f = ids.dim(1);
  const Fields fields(offsets, f, rows);
  call.parallel(ids.dim(0), kRows, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> at((end - begin) * f);
    for (int64_t b = begin, n = 0; b < end; ++b) {
      for (int64_t i = 0; i < f; ++i, ++n) {
        const int64_t id = IdAt(ids, b * f + i);
        CheckId(ids, id, i, fields.sizes[i]);
        at[n] = fields.starts[i] + id;
        SetId(found, b * f + i, at[n]);
      }
    }
    const int64_t all = at.size();
    T* to = call.out<T>(0) + begin * f * d;
    for (int64_t n = 0; n < std::min(kAhead, all); ++n) Prefetch<false>(table + at[n] * d, d);
    for (int64_t n = 0; n < all; ++n) {
      if (n + kAhead < all) Prefetch<false>(table + at[n + kAhead] * d, d);
      CopyRow(table + at[n] * d, to + n * d, d);
    }
  });
}

enum class Combiner { kMean, kSum, kSqrtn };

// The kept ids of a bag, what each is multiplied by, and the scale that this has in it.
template <typename A>
struct Bag {
  explicit Bag(int64_t steps) : rows(steps), steps(steps), factors(steps) {}
  Scratch<int64_t> rows, steps;
  Scratch<A> factors;
  int64_t size = 0;
  A inverse = 1;
};

// Weights without elements are 1. Rows are checked only where the table is known.
template <typename T, typename A = Wide<T>>
void ReadBag(const Buffer& ids, const bool* mask, const Buffer& weights, int64_t table_rows,
             Combiner combiner, int64_t b, Bag<A>* bag) {
  const int64_t steps = ids.dim(1);
  A sum = 0, squares = 0;
  int64_t n = 0;
  for (int64_t t = 0; t < steps; ++t) {
    if (!mask[b * steps + t]) continue;
    const int64_t id = IdAt(ids, b * steps + t);
    if (table_rows >= 0) CheckId(ids, id, t, table_rows);
    A wide;
    const A w = weights.size() ? *Load(weights.as<const T>() + b * steps + t, 1, &wide) : A(1);
    bag->rows[n] = id;
    bag->steps[n] = t;
    bag->factors[n++] = w;
    sum += w;
    squares += w * w;
  }
  bag->size = n;
  bag->inverse = 1;
  if (combiner == Combiner::kMean) bag->inverse = sum != 0 ? 1 / sum : A(0);
  if (combiner == Combiner::kSqrtn) bag->inverse = squares > 0 ? 1 / std::sqrt(squares) : A(0);
  for (int64_t k = 0; k < n; ++k) bag->factors[k] *= bag->inverse;
}

Combiner CombinerOf(const Call& call) {
  Check(call.options.size() == 1 && call.options[0] >= 0 && call.options[0] < 3,
        "options: expected one combiner");
  return static_cast<Combiner>(call.options[0]);
}

// table, ids, mask, weights -> bags [B, D].
template <typename T>
void Pool(const Call& call) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const Buffer& ids = call.inputs[1];
  const Combiner combiner = CombinerOf(call);
  const T* table = call.in<T>(0);
  CheckTable(call.inputs[0].dims, call.outputs[0].dims.back());
  const int64_t table_rows = call.inputs[0].dim(0), d = call.inputs[0].dim(1);
  call.parallel(ids.dim(0), kRows / 4, [&](int64_t begin, int64_t end) {
    // The rows of the next bag come in while this one is summed.
    Bag<A> bags[] = {Bag<A>(ids.dim(1)), Bag<A>(ids.dim(1))};
    Scratch<A> sum(Padded<A>(d)), wide(ScratchSize<T>(d));
    const auto read = [&](int64_t b) {
      Bag<A>* bag = &bags[b % 2];
      ReadBag<T>(ids, call.in<bool>(2), call.inputs[3], table_rows, combiner, b, bag);
      for (int64_t n = 0; n < bag->size; ++n) Prefetch<false>(table + bag->rows[n] * d, d);
    };
    read(begin);
    for (int64_t b = begin; b < end; ++b) {
      if (b + 1 < end) read(b + 1);
      Bag<A>& bag = bags[b % 2];
      std::memset(sum.get(), 0, Padded<A>(d) * sizeof(A));
      for (int64_t n = 0; n < bag.size; ++n) {
        const A* row = Load(table + bag.rows[n] * d, d, wide.get());
        const A factor = bag.factors[n];
        int64_t k = 0;
        for (; k + L <= d; k += L) StoreVec(sum + k, LoadVec(sum + k) + factor * LoadVec(row + k));
        for (; k < d; ++k) sum[k] += factor * row[k];
      }
      Store(sum.get(), call.out<T>(0) + b * d, d);
    }
  });
}

// ids, mask, dy -> the gradient of each id's row [B, T, D], and the row: 0 where it is not kept.
template <typename T>
void PoolGrad(const Call& call, const Buffer& ids, const bool* mask, const Buffer& weights,
              const T* dy, const T* table, int64_t table_rows, T* dweights) {
  using A = Wide<T>;
  constexpr int64_t L = kLanes<A>;
  const Combiner combiner = CombinerOf(call);
  const int64_t steps = ids.dim(1), d = call.outputs[0].dim(2);
  call.parallel(ids.dim(0), kRows / 4, [&](int64_t begin, int64_t end) {
    Bag<A> bag(steps);
    Scratch<A> wide(ScratchSize<T>(d)), value(d), row_wide(ScratchSize<T>(d)), along(steps);
    for (int64_t b = begin; b < end; ++b) {
      ReadBag<T>(ids, mask, weights, table_rows, combiner, b, &bag);
      const A* from = Load(dy + b * d, d, wide.get());
      T* out = call.out<T>(0) + b * steps * d;
      int64_t n = 0;
      const int64_t kept = bag.size;
      for (int64_t t = 0; t < steps; ++t, out += d) {
        const bool keep = n < kept && bag.steps[n] == t;
        SetId(call.outputs[1], b * steps + t, keep ? bag.rows[n] : 0);
        if (!keep) {
          std::memset(out, 0, d * sizeof(T));
          continue;
        }
        const A factor = bag.factors[n++];
        A* to = Target(out, value.get());
        int64_t k = 0;
        for (; k + L <= d; k += L) {
          const Vec<A> scaled = factor * LoadVec(from + k);
          kNarrow<T> ? StoreVec(to + k, scaled) : Stream(to + k, scaled);
        }
        for (; k < d; ++k) to[k] = factor * from[k];
        Store(to, out, d);
      }
      if (dweights == nullptr) continue;
      // out = sum w e / s: the scale's own share is <out, dy> times ds/dw / s.
      A share = 0;
      for (n = 0; n < kept; ++n) {
        const A* row = Load(table + bag.rows[n] * d, d, row_wide.get());
        Vec<A> sums{};
        A dot = 0;
        int64_t k = 0;
        for (; k + L <= d; k += L) sums += LoadVec(row + k) * LoadVec(from + k);
        for (; k < d; ++k) dot += row[k] * from[k];
        along[n] = dot + SumLanes<A>(sums);
        share += bag.factors[n] * along[n];
      }
      std::memset(dweights + b * steps, 0, steps * sizeof(T));
      for (n = 0; n < kept; ++n) {
        A d_weight = along[n];
        if (combiner == Combiner::kMean) d_weight -= share;
        if (combiner == Combiner::kSqrtn) d_weight -= share * bag.factors[n];
        d_weight *= bag.inverse;
        Store(&d_weight, dweights + b * steps + bag.steps[n], 1);
      }
    }
  });
}

template <typename T>
void PlainPoolGrad(const Call& call) {
  const Buffer none{Type::kFloat, {0}, nullptr};
  PoolGrad<T>(call, call.inputs[0], call.in<bool>(1), none, call.in<T>(2), nullptr, -1, nullptr);
}

template <typename T>
void WeightedPoolGrad(const Call& call) {
  PoolGrad<T>(call, call.inputs[1], call.in<bool>(2), call.inputs[3], call.in<T>(4), call.in<T>(0),
              call.inputs[0].dim(0), call.out<T>(2));
}

void CheckRank(const Dims& dims, size_t rank, const char* what) {
  Check(dims.size() == rank, what, ": expected rank ", rank);
}
void CheckLike(const Dims& dims, const Dims& want, const char* what) {
  CheckRank(dims, want.size(), what);
  for (size_t i = 0; i < want.size(); ++i) CheckSize(dims[i], want[i], what);
}

// Of a variable a graph knows the shape by an empty tensor like it alone.
template <int kLike>
std::vector<Dims> LookupShapes(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckRank(in[kLike], 2, "table");
  CheckRank(in[1], 2, "ids");
  CheckLike(in[2], {in[1][1]}, "offsets");
  return {{in[1][0], in[1][1], in[kLike][1]}, in[1]};
}

template <int kLike>
std::vector<Dims> PoolShapes(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckRank(in[kLike], 2, "table");
  CheckRank(in[1], 2, "ids");
  CheckLike(in[2], in[1], "mask");
  if (in[3] != Dims{0}) CheckLike(in[3], in[1], "weights");
  return {{in[1][0], in[kLike][1]}};
}

std::vector<Dims> PlainPoolGradShapes(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckRank(in[0], 2, "ids");
  CheckLike(in[1], in[0], "mask");
  CheckRank(in[2], 2, "dy");
  CheckSize(in[2][0], in[0][0], "dy");
  return {{in[0][0], in[0][1], in[2][1]}, in[0]};
}

std::vector<Dims> WeightedPoolGradShapes(const std::vector<Dims>& in,
                                         const std::vector<int64_t>& options) {
  CheckLike(in[4], PoolShapes<0>(in, options)[0], "dy");
  CheckLike(in[3], in[1], "weights");
  return {{in[1][0], in[1][1], in[0][1]}, in[1], in[3]};
}

}  // namespace

std::vector<Op> EmbeddingOps() {
  const std::vector<std::string> found = {"y: T", "rows: I"}, bags = {"y: T"};
  return {
      {"EmbeddingLookup", {"table: T", "ids: I", "offsets: I"}, found, LookupShapes<0>,
       RECOPS_RUN(Lookup)},
      {"EmbeddingLookupVariable", {"table: resource", "ids: I", "offsets: I", "like: T"}, found,
       LookupShapes<3>, RECOPS_RUN(Lookup)},
      {"EmbeddingBag", {"table: T", "ids: I", "mask: bool", "weights: T"}, bags, PoolShapes<0>,
       RECOPS_RUN(Pool)},
      {"EmbeddingBagVariable",
       {"table: resource", "ids: I", "mask: bool", "weights: T", "like: T"}, bags, PoolShapes<4>,
       RECOPS_RUN(Pool)},
      {"EmbeddingBagGrad", {"ids: I", "mask: bool", "dy: T"}, {"dvalues: T", "rows: I"},
       PlainPoolGradShapes, RECOPS_RUN_BY(2, PlainPoolGrad)},
      {"EmbeddingBagWeightedGrad", {"table: T", "ids: I", "mask: bool", "weights: T", "dy: T"},
       {"dvalues: T", "rows: I", "dweights: T"}, WeightedPoolGradShapes,
       RECOPS_RUN(WeightedPoolGrad)},
  };
}

}  // namespace recops
