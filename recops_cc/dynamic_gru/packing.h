// Which steps are worked on: of every row the kept ones alone, rows with as many side by side.
#pragma once

#include <cstdint>
#include <vector>

#include "../common/engine.h"

namespace recops::gru {

// Rows a block: one thread takes it through all steps, with its state in the cache.
constexpr int64_t kRows = 32;

// Rows in order of how many steps they keep, the most first, cut into blocks. A block's n-th step
// is the n-th kept one of each of its rows, whenever that is: the rows that have one are a prefix.
class Packing {
 public:
  Packing(const bool* mask, int64_t rows, int64_t steps)
      : rows_(rows), steps_(steps), order_(rows), counts_(rows) {
    Check(steps < INT32_MAX, "x: too many steps, got ", steps);
    std::vector<int64_t> kept(rows), next(steps + 1);
    for (int64_t b = 0; b < rows; ++b) {
      for (int64_t t = 0; t < steps; ++t) kept[b] += mask[b * steps + t];
      ++next[kept[b]];
    }
    int64_t before = 0;
    for (int64_t n = steps; n >= 0; --n) {
      const int64_t same = next[n];
      next[n] = before;
      before += same;
    }
    for (int64_t b = 0; b < rows; ++b) order_[next[kept[b]]++] = b;
    for (int64_t i = 0, all = 0; i < rows; ++i) {
      counts_[i] = kept[order_[i]];
      if (i % kRows == 0) starts_.push_back(all);
      all += counts_[i];
    }
  }

  int64_t blocks() const { return starts_.size(); }
  int64_t first(int64_t block) const { return block * kRows; }
  int64_t size(int64_t block) const { return std::min(kRows, rows_ - first(block)); }
  // How many steps the blocks before this one have, over all their rows.
  int64_t start(int64_t block) const { return starts_[block]; }
  int64_t row(int64_t block, int64_t i) const { return order_[first(block) + i]; }
  int64_t count(int64_t block, int64_t i) const { return counts_[first(block) + i]; }
  // How many of a block's rows have an n-th step, given how many had the one before.
  int64_t active(int64_t block, int64_t n, int64_t before) const {
    while (before > 0 && count(block, before - 1) <= n) --before;
    return before;
  }

 private:
  int64_t rows_, steps_;
  std::vector<int64_t> order_, counts_, starts_;
};

// Where the kept steps of a block's rows stand in the order of processing, and `steps` at the end.
class Positions {
 public:
  Positions(const Packing& packing, int64_t block, const bool* mask, int64_t steps, bool backwards)
      : stride_(steps + 1), at_(packing.size(block) * stride_) {
    for (int64_t i = 0; i < packing.size(block); ++i) {
      const bool* kept = mask + packing.row(block, i) * steps;
      int32_t* to = at_.data() + i * stride_;
      for (int64_t p = 0; p < steps; ++p) {
        if (kept[backwards ? steps - 1 - p : p]) *to++ = p;
      }
      *to = steps;
    }
  }
  int64_t operator()(int64_t i, int64_t n) const { return at_[i * stride_ + n]; }

 private:
  int64_t stride_;
  std::vector<int32_t> at_;
};

}  // namespace recops::gru
