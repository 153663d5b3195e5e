// Memory of large results. A buffer that the allocator has just got from the system has no pages
// yet; where a page is 4 KiB, making them one by one takes longer than filling them.
#pragma once

#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "engine.h"

namespace recops {

// Asks the system for pages of 2 MiB inside a large buffer, as NumPy does for its arrays. A hint:
// where there are none, nothing changes. Pages that are there already stay as they are, unless they
// are to be `moved` together, which takes about as long as to copy them twice.
inline void PreferLargePages([[maybe_unused]] void* data, [[maybe_unused]] int64_t bytes,
                             [[maybe_unused]] bool moved = false) {
#ifdef MADV_HUGEPAGE
  constexpr int kCollapse = 25;  // MADV_COLLAPSE of Linux 6.1, which older headers lack
  constexpr uintptr_t kPage = uintptr_t{1} << 21;
  const auto begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) & ~(kPage - 1);
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) & ~(kPage - 1);
  if (bytes >= static_cast<int64_t>(2 * kPage) && begin < end) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
    if (moved) madvise(reinterpret_cast<void*>(begin), end - begin, kCollapse);
  }
#endif
}

}  // namespace recops
