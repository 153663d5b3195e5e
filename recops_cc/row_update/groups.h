// Which slices belong to which row of a table: ids sorted by row, and within a row by their place in
// the batch, so that the slices of a row are summed in one order whatever the threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "../common/ids.h"
#include "../common/numeric.h"

namespace recops {

// How many bits the numbers below n need.
inline int BitsBelow(int64_t n) {
  int bits = 0;
  while (bits < 62 && (int64_t{1} << bits) < n) ++bits;
  return bits;
}

class Groups {
 public:
  // A slice: the row counted from the first one of its bin, and its place among the ids.
  struct Slice {
    uint32_t row;
    uint32_t place;
  };

  // Throws for an id that has no row, before anything is done with the others.
  Groups(const Call& call, const Buffer& ids, int64_t rows) : slices_(ids.size()) {
    const int64_t n = ids.size();
    Check(n < std::numeric_limits<uint32_t>::max(), "more ids than a step can hold: ", n);
    // About 32 slices a bin: few enough to sort in place, and the bins' ends stay in the cache.
    const int bits = BitsBelow(rows);
    const int bin_bits = std::min({bits, kMostBinBits, std::max(BitsBelow(n) - 5, 0)});
    shift_ = bits - bin_bits;
    Check(shift_ <= 32, "a table of ", rows, " rows is too long");
    const int64_t bins = int64_t{1} << bin_bits;
    const int64_t chunk = std::max<int64_t>(1 << 14, (n + kMostChunks - 1) / kMostChunks);
    const int64_t chunks = (n + chunk - 1) / chunk;
    starts_.assign(bins + 1, 0);
    if (n == 0) return;

    // Counts, then first places, of each chunk's slices in each bin.
    std::vector<uint32_t> places(chunks * bins);
    call.parallel(n, chunk, [&](int64_t begin, int64_t end) {
      uint32_t* counts = places.data() + begin / chunk * bins;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = IdAt(ids, i);
        Check(row >= 0 && row < rows, "id ", row, " at place ", i, " of ", n,
              " ids has no row: the table has ", rows, " rows, so ids run 0..", rows - 1);
        ++counts[row >> shift_];
      }
    });
    uint32_t before = 0;
    for (int64_t bin = 0; bin < bins; ++bin) {
      starts_[bin] = before;
      for (int64_t c = 0; c < chunks; ++c) {
        const uint32_t count = places[c * bins + bin];
        places[c * bins + bin] = before;
        before += count;
      }
    }
    starts_[bins] = before;
    call.parallel(n, chunk, [&](int64_t begin, int64_t end) {
      uint32_t* next = places.data() + begin / chunk * bins;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = IdAt(ids, i);
        const uint32_t low = static_cast<uint32_t>(row & ((int64_t{1} << shift_) - 1));
        slices_[next[row >> shift_]++] = {low, static_cast<uint32_t>(i)};
      }
    });
    CutIntoTasks(n);
  }

  // Calls body(first, count) with runs of slices of whole rows, sorted, side by side.
  template <typename F>
  void ForEachTask(const Call& call, const F& body) {
    const int64_t tasks = tasks_.empty() ? 0 : tasks_.size() - 1;
    call.parallel(tasks, 1, [&](int64_t begin, int64_t end) {
      std::vector<Slice> scratch;
      for (int64_t t = begin; t < end; ++t) {
        const int64_t first = starts_[tasks_[t]], last = starts_[tasks_[t + 1]];
        std::vector<int64_t> rows(last - first);
        for (int64_t bin = tasks_[t]; bin < tasks_[t + 1]; ++bin) {
          SortBin(bin, &scratch);
          for (int64_t i = starts_[bin]; i < starts_[bin + 1]; ++i) {
            rows[i - first] = (bin << shift_) | slices_[i].row;
          }
        }
        body(rows, slices_.get() + first);
      }
    });
  }

 private:
  static constexpr int kMostBinBits = 12;
  static constexpr int64_t kMostChunks = 64;
  static constexpr int64_t kMostTasks = 64;
  static constexpr int64_t kLeastTask = 512;

  // Tasks of about equal work: popular rows stand together in many tables.
  void CutIntoTasks(int64_t n) {
    const int64_t work = std::max(kLeastTask, (n + kMostTasks - 1) / kMostTasks);
    const int64_t bins = starts_.size() - 1;
    tasks_.push_back(0);
    for (int64_t bin = 1; bin <= bins; ++bin) {
      if (bin == bins || starts_[bin] - starts_[tasks_.back()] >= work) tasks_.push_back(bin);
    }
  }

  // By row; slices of one row keep their order.
  void SortBin(int64_t bin, std::vector<Slice>* scratch) {
    Slice* slices = slices_.get() + starts_[bin];
    const int64_t n = starts_[bin + 1] - starts_[bin];
    if (n <= 40) {
      for (int64_t i = 1; i < n; ++i) {
        const Slice moved = slices[i];
        int64_t j = i;
        for (; j > 0 && slices[j - 1].row > moved.row; --j) slices[j] = slices[j - 1];
        slices[j] = moved;
      }
      return;
    }
    scratch->resize(n);
    Slice *from = slices, *to = scratch->data();
    for (int digit = 0; digit < shift_; digit += 8) {
      uint32_t next[257] = {};
      for (int64_t i = 0; i < n; ++i) ++next[(from[i].row >> digit & 255) + 1];
      for (int d = 0; d < 256; ++d) next[d + 1] += next[d];
      for (int64_t i = 0; i < n; ++i) to[next[from[i].row >> digit & 255]++] = from[i];
      std::swap(from, to);
    }
    if (from != slices) std::memcpy(slices, from, n * sizeof(Slice));
  }

  int shift_ = 0;
  Scratch<Slice> slices_;
  std::vector<int64_t> starts_;  // of each bin among the slices
  std::vector<int64_t> tasks_;   // first bin of each task, and the end
};

}  // namespace recops
