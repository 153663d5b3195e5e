// A row's fields, padded to whole vectors, and how many pairs they make.
#pragma once

#include "../common/numeric.h"
#include "../common/vector.h"

namespace recops {
namespace {

constexpr int64_t kRows = 32;  // rows a block: enough work to share, little enough to balance

int64_t Pairs(int64_t fields) { return fields * (fields - 1) / 2; }

// One row's fields [F, D], padded to [F, stride].
template <typename T>
class Fields {
 public:
  Fields(int64_t fields, int64_t dim)
      : fields_(fields),
        dim_(dim),
        stride(Padded<Wide<T>>(dim)),
        wide_(ScratchSize<T>(fields * dim)),
        values(fields * stride) {}
  void Read(const T* row) {
    Pad(Load(row, fields_ * dim_, wide_.get()), fields_, dim_, dim_, values.get(), stride);
  }
  // The same without a copy where a row stands in memory as it shall.
  const Wide<T>* At(const T* row) {
    if constexpr (!kNarrow<T>) {
      if (dim_ == stride) return row;
    }
    Read(row);
    return values;
  }
  // Where to compute a result of the same shape, which `Write` then puts at `row`.
  Wide<T>* For(T* row) {
    if constexpr (!kNarrow<T>) {
      if (dim_ == stride) return row;
    }
    return values;
  }
  // Writes a result of the same shape.
  void Write(const Wide<T>* from, T* row) {
    if (static_cast<const void*>(from) == row) return;
    Wide<T>* to = Target(row, wide_.get());
    for (int64_t f = 0; f < fields_; ++f) {
      std::memcpy(to + f * dim_, from + f * stride, dim_ * sizeof(Wide<T>));
    }
    Store(to, row, fields_ * dim_);
  }

 private:
  int64_t fields_, dim_;

 public:
  int64_t stride;

 private:
  Scratch<Wide<T>> wide_;

 public:
  Scratch<Wide<T>> values;
};

}  // namespace
}  // namespace recops
