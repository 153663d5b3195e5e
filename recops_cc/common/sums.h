// Sums over the batch, such as the gradients of weights, the same whatever the threads.
#pragma once

#include <algorithm>
#include <cstring>

#include "numeric.h"

namespace recops {

constexpr int64_t kMostParts = 64;
constexpr int64_t kWork = 16;           // of a part, in terms of adding all parts' sums
constexpr int64_t kFewBytes = 1 << 24;  // of copies, which nobody misses

// How many parts of the rows get sums of their own, by sizes alone. A row goes over the sums
// `passes` times; of the sums there is one copy a part, and all of them together take no more room
// than a quarter of what is read anyway.
inline int64_t Parts(int64_t rows, int64_t passes, int64_t sums_bytes, int64_t read_bytes) {
  const int64_t room = 1 + std::max(read_bytes / 4, kFewBytes) / std::max<int64_t>(sums_bytes, 1);
  const int64_t most = std::min(kMostParts, room);
  int64_t parts = 1;
  while (parts < most && (parts + 1) * (parts + 1) * kWork <= rows * passes) ++parts;
  return parts;
}

// Rows are cut into parts of whole tiles, a part sums into values of its own (zero at first), and
// the parts are added in their order. See `Parts` for `passes`.
template <typename A, typename Part>
void SumOverRows(const Call& call, int64_t rows, int64_t tile, int64_t passes, int64_t size,
                 A* total, const Part& part) {
  if (rows == 0) {
    std::memset(total, 0, size * sizeof(A));
    return;
  }
  int64_t read = 0;
  for (const Buffer& input : call.inputs) read += input.size() * SizeOf(input.type);
  const int64_t wanted = Parts(rows, passes, size * sizeof(A), read);
  const int64_t block = ((rows + wanted - 1) / wanted + tile - 1) / tile * tile;
  const int64_t parts = (rows + block - 1) / block;
  // The first part sums where the total will stand.
  Scratch<A> others((parts - 1) * size);
  call.parallel(rows, block, [&](int64_t begin, int64_t end) {
    A* sums = begin == 0 ? total : others.get() + (begin / block - 1) * size;
    std::memset(sums, 0, size * sizeof(A));
    part(begin, end, sums);
  });
  if (parts == 1) return;
  call.parallel(size, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t p = 1; p < parts; ++p) {
      const A* sums = others.get() + (p - 1) * size;
      for (int64_t i = begin; i < end; ++i) total[i] += sums[i];
    }
  });
}

}  // namespace recops
