// One step of an optimizer on the rows of a table that a batch used, where the table stands, and the
// sums of a batch's slices by row. Rows stand anywhere in arrays larger than every cache, so each is
// asked for long before it is written.
#include <array>
#include <cmath>

#include "../common/pages.h"
#include "../common/prefetch.h"
#include "../common/rooms.h"
#include "../common/vector.h"
#include "groups.h"
#include "rules.h"

namespace recops {
namespace {

constexpr int64_t kAhead = 16;  // rows on their way while one is written

// The results of an update stand where its arguments do, or are copies of them.
void CopyToOutputs(const Call& call) {
  for (size_t i = 0; i < call.outputs.size(); ++i) {
    const Buffer &from = call.inputs[i], &to = call.outputs[i];
    if (from.data == to.data) continue;
    std::memcpy(to.data, from.data, from.size() * SizeOf(from.type));
  }
}

// The slices of a row summed in the order of the batch: `sum` wide, or the only slice itself.
template <typename T, typename A = Wide<T>>
const A* SumOf(const T* values, int64_t n, const Groups::Slice* slices, int64_t count, A* sum,
               A* scratch) {
  const A* first = Load(values + slices[0].place * n, n, sum);
  if (count == 1) return first;
  if (first != sum) std::memcpy(sum, first, n * sizeof(A));
  for (int64_t i = 1; i < count; ++i) {
    const A* more = Load(values + slices[i].place * n, n, scratch);
    for (int64_t k = 0; k < n; ++k) sum[k] += more[k];
  }
  return sum;
}

// One step of `rule` on row[n]; g and the slots are of the same length.
template <typename Rule, typename A>
void MoveRow(const Rule& rule, int64_t n, A* row, const A* g, A* slot_0, A* slot_1) {
  constexpr int64_t L = kLanes<A>;
  int64_t k = 0;
  for (; k + L <= n; k += L) rule.template Move<L>(row + k, g + k, slot_0 + k, slot_1 + k);
  for (; k < n; ++k) rule.template Move<1>(row + k, g + k, slot_0 + k, slot_1 + k);
}

// table, slots, row slots, (last uses,) ids, values, scalars -> the first of them, changed.
template <typename T, template <typename> class RuleOf, bool kCatchUp>
void Update(const Call& call) {
  using A = Wide<T>;
  using Rule = RuleOf<A>;
  constexpr int kArrays = 1 + Rule::kSlots, kFixed = kArrays + Rule::kRowSlots + kCatchUp;
  const Buffer &ids = call.inputs[kFixed], &values = call.inputs[kFixed + 1];
  Check(!call.inputs[0].dims.empty(), "table: expected [R, ...]");
  const double* scalars = call.in<double>(kFixed + 2);
  for (int i = 0; i < kArrays + Rule::kRowSlots; ++i) {
    Check(call.inputs[i].type == values.type, "a slot is not of the type of its table");
  }
  Check(!kCatchUp || call.inputs[kFixed - 1].type == Type::kInt64, "last uses: expected int64");
  const int64_t rows = call.inputs[0].dim(0), n = rows ? call.inputs[0].size() / rows : 0;
  Groups groups(call, ids, rows);
  // Nothing is written before every id is known to be good.
  CopyToOutputs(call);
  const T* slices = values.as<const T>();
  const int64_t step = kCatchUp ? static_cast<int64_t>(scalars[Rule::kScalars]) : 0;
  groups.ForEachTask(call, [&](const std::vector<int64_t>& at, const Groups::Slice* places) {
    Rule rule(scalars);
    const int64_t count = at.size();
    Scratch<A> sum(n), more(ScratchSize<T>(n));
    std::array<Scratch<A>, 3> wide = {Scratch<A>(ScratchSize<T>(n)), Scratch<A>(ScratchSize<T>(n)),
                                      Scratch<A>(ScratchSize<T>(n))};
    std::array<T*, 3> to = {};
    const auto fetch = [&](int64_t i) {
      for (int s = 0; s < kArrays; ++s) Prefetch<true>(call.out<T>(s) + at[i] * n, n);
      if (Rule::kRowSlots) Prefetch<true>(call.out<T>(kArrays) + at[i], 1);
      if (kCatchUp) Prefetch<true>(call.out<int64_t>(kFixed - 1) + at[i], 1);
      Prefetch<false>(slices + places[i].place * n, n);
    };
    for (int64_t i = 0; i < std::min(kAhead, count); ++i) fetch(i);
    for (int64_t i = 0, end; i < count; i = end) {
      for (end = i + 1; end < count && at[end] == at[i]; ++end) {
      }
      for (int64_t f = i; f < end && f + kAhead < count; ++f) fetch(f + kAhead);
      const int64_t row = at[i];
      const A* g = SumOf(slices, n, places + i, end - i, sum.get(), more.get());
      if constexpr (kCatchUp) {
        int64_t* last = call.out<int64_t>(kFixed - 1) + row;
        const A missed = static_cast<A>(std::max<int64_t>(*last > 0 ? step - 1 - *last : 0, 0));
        rule.fade_1 = std::pow(rule.beta_1, missed);
        rule.fade_2 = std::pow(rule.beta_2, missed);
        *last = step;
      }
      A row_sum = 0;
      T* kept = Rule::kRowSlots ? call.out<T>(kArrays) + row : nullptr;
      if (kept != nullptr) row_sum = *Load(kept, 1, &row_sum);
      rule.Begin(g, n, &row_sum);
      if (kept != nullptr) Store(&row_sum, kept, 1);
      std::array<A*, 3> moved = {};
      for (int s = 0; s < kArrays; ++s) {
        to[s] = call.out<T>(s) + row * n;
        if constexpr (kNarrow<T>) Widen(to[s], wide[s].get(), n);
        moved[s] = Target(to[s], wide[s].get());
      }
      for (int s = kArrays; s < 3; ++s) moved[s] = moved[0];  // a rule that has no such slot
      MoveRow(rule, n, moved[0], g, moved[1], moved[2]);
      for (int s = 0; s < kArrays; ++s) Store(moved[s], to[s], n);
    }
  });
}

// ids, values -> at the first place of each id the sum of its slices and zero at its others; and of
// each place the first one of its id.
template <typename T>
void Sums(const Call& call) {
  using A = Wide<T>;
  const Buffer& ids = call.inputs[0];
  const int64_t count = ids.size(), n = count ? call.inputs[1].size() / count : 0;
  int64_t rows = 0;
  for (int64_t i = 0; i < count; ++i) rows = std::max(rows, IdAt(ids, i) + 1);
  Groups groups(call, ids, rows);
  const T* slices = call.in<T>(1);
  groups.ForEachTask(call, [&](const std::vector<int64_t>& at, const Groups::Slice* places) {
    Scratch<A> sum(n), more(ScratchSize<T>(n));
    const int64_t in_task = at.size();
    for (int64_t i = 0, end; i < in_task; i = end) {
      for (end = i + 1; end < in_task && at[end] == at[i]; ++end) {
      }
      const int64_t first = places[i].place;
      const A* g = SumOf(slices, n, places + i, end - i, sum.get(), more.get());
      Store(g, call.out<T>(0) + first * n, n);
      SetId(call.outputs[1], first, first);
      for (int64_t j = i + 1; j < end; ++j) {
        std::memset(call.out<T>(0) + places[j].place * n, 0, n * sizeof(T));
        SetId(call.outputs[1], places[j].place, first);
      }
    }
  });
}

// Rows that are read here and there in a long array cost more by its 4 KiB pages than by its bytes.
void LargePages(const Call& call) {
  const Buffer& array = call.outputs[0];
  PreferLargePages(array.data, array.size() * SizeOf(array.type), true);
}

std::vector<Dims> SameShape(const std::vector<Dims>& in, const std::vector<int64_t>&) { return in; }

void CheckSlices(const Dims& ids, const Dims& values) {
  Check(ids.size() == 1, "ids: expected rank 1");
  Check(!values.empty(), "values: expected [N, ...]");
  CheckSize(values[0], ids[0], "values");
}

std::vector<Dims> SumsShapes(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  CheckSlices(in[0], in[1]);
  return {in[1], in[0]};
}

// The shapes of what is updated, where they are known: a graph knows no variable's shape.
template <int kArrays, int kRowArrays, int kScalars>
std::vector<Dims> UpdateShapes(const std::vector<Dims>& in, const std::vector<int64_t>&) {
  constexpr int kFixed = kArrays + kRowArrays;
  const Dims &table = in[0], &values = in[kFixed + 1], &scalars = in[kFixed + 2];
  CheckSlices(in[kFixed], values);
  Check(scalars.size() == 1, "scalars: expected rank 1");
  CheckSize(scalars[0], kScalars, "scalars");
  if (!table.empty()) {
    Check(values.size() == table.size(), "values: expected the rank of the table");
    for (size_t i = 1; i < table.size(); ++i) CheckSize(values[i], table[i], "values");
    for (int s = 1; s < kArrays; ++s) {
      Check(in[s].size() == table.size(), "a slot has another rank than its table");
      for (size_t i = 0; i < table.size(); ++i) CheckSize(in[s][i], table[i], "a slot");
    }
    for (int s = kArrays; s < kFixed; ++s) {
      Check(in[s].size() == 1, "a slot of rows: expected rank 1");
      CheckSize(in[s][0], table[0], "a slot of rows");
    }
  }
  return {in.begin(), in.begin() + kFixed};
}

// The op on tensors, and the one that writes to variables.
template <template <typename> class Rule, bool kCatchUp>
void Add(const std::string& name, const std::vector<std::string>& slots, std::vector<Op>* ops) {
  using R = Rule<float>;
  constexpr int kArrays = 1 + R::kSlots, kRowArrays = R::kRowSlots + kCatchUp;
  const auto shapes = UpdateShapes<kArrays, kRowArrays, R::kScalars + kCatchUp>;
  Op tensors{name, {}, {}, shapes, [](const Call& call) {
               ForType(call.inputs[kArrays + kRowArrays + 1].type, [&](auto type) {
                 Update<decltype(type), Rule, kCatchUp>(call);
               });
             }};
  Op variables = tensors;
  variables.name += "Variable";
  for (size_t s = 0; s < slots.size(); ++s) {
    const std::string type = kCatchUp && s + 1 == slots.size() ? ": int64" : ": T";
    tensors.inputs.push_back(slots[s] + type);
    tensors.outputs.push_back("new_" + slots[s] + type);
    variables.inputs.push_back(slots[s] + ": resource");
  }
  variables.writes = slots.size();
  for (Op* op : {&tensors, &variables}) {
    for (const char* input : {"ids: I", "values: T", "scalars: double"}) op->inputs.push_back(input);
    ops->push_back(*op);
  }
}

}  // namespace

std::vector<Op> RowUpdateOps() {
  std::vector<Op> ops = {{"RowSums", {"ids: I", "values: T"}, {"sums: T", "first: I"}, SumsShapes,
                          RECOPS_RUN_BY(1, Sums)},
                         {"LargePagesVariable", {"array: resource"}, {}, SameShape, LargePages, 1}};
  Add<Adam, false>("RowUpdateAdam", {"table", "m", "v"}, &ops);
  Add<Adam, true>("RowUpdateAdamCatchUp", {"table", "m", "v", "last"}, &ops);
  Add<Adagrad, false>("RowUpdateAdagrad", {"table", "accumulator"}, &ops);
  Add<RowwiseAdagrad, false>("RowUpdateRowwiseAdagrad", {"table", "accumulator"}, &ops);
  Add<Ftrl, false>("RowUpdateFtrl", {"table", "accumulator", "linear"}, &ops);
  return ops;
}

}  // namespace recops
