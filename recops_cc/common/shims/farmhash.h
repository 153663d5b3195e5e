// TensorFlow's wheel includes this header and does not ship it. Its names have to parse; nothing
// here calls them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

namespace util {
using uint128_t = std::pair<uint64_t, uint64_t>;
inline uint64_t Uint128Low64(const uint128_t x) { return x.first; }
inline uint64_t Uint128High64(const uint128_t x) { return x.second; }
uint64_t Fingerprint64(const char* s, size_t n);
uint32_t Fingerprint32(const char* s, size_t n);
uint128_t Fingerprint128(const char* s, size_t n);
uint64_t Hash64(const char* s, size_t n);
}  // namespace util

namespace farmhash = util;
