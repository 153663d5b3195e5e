// Memory asked for before it is read or written.
#pragma once

#include <cstdint>

namespace recops {

// n values from `from` on, of which the first is soon read, or written to.
template <bool kWrite, typename T>
inline void Prefetch(const T* from, int64_t n) {
  const char* bytes = reinterpret_cast<const char*>(from);
  for (int64_t k = 0; k < n * int64_t{sizeof(T)}; k += 64) __builtin_prefetch(bytes + k, kWrite);
  // Without it GCC finds that the function has no effect and drops its calls, and their callers'.
  asm volatile("" : : "r"(bytes));
}

}  // namespace recops
