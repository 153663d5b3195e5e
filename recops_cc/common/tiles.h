// Products of bfloat16 pairs on AMX tiles, where the processor has them: as PairMatMul, many times
// as fast. Asked for at run time, so that the same library runs on processors without tiles.
#pragma once

#include <cstdlib>
#include <cstring>

#include "pairs.h"

#if defined(RECOPS_BFLOAT16_PAIRS) && defined(__linux__)
#define RECOPS_TILES

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace recops {

// Whether the processor has tiles of bfloat16 and the system lets this process use them; RECOPS_AMX=0
// does without.
inline bool HasTiles() {
  static const bool has = [] {
    const char* wanted = std::getenv("RECOPS_AMX");
    if (wanted != nullptr && std::strcmp(wanted, "0") == 0) return false;
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const bool bf16 = d >> 22 & 1, tile = d >> 24 & 1;
    constexpr int kRequestPermission = 0x1023, kTileData = 18;
    return bf16 && tile && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return has;
}

#define RECOPS_TILE_CODE __attribute__((target("amx-tile,amx-bf16"), noinline))

namespace internal {

// Tile registers are a thread's own and slow its switches while they are in use.
RECOPS_TILE_CODE inline void ConfigureTiles() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  // The compiler does not know that the instruction reads what was just written.
  asm volatile("" ::"r"(&config) : "memory");
  _tile_loadconfig(&config);
}
RECOPS_TILE_CODE inline void ReleaseTiles() { _tile_release(); }

template <int R, int C>
RECOPS_TILE_CODE void TileBlock(int64_t k, const Pair* a, int64_t a_row, const Pair* b,
                                int64_t b_row, float* c, int64_t c_row, bool add) {
  asm volatile("" ::: "memory");
  if (add) {
    _tile_loadd(0, c, c_row * 4);
    if constexpr (C > 1) _tile_loadd(1, c + 16, c_row * 4);
    if constexpr (R > 1) _tile_loadd(2, c + 16 * c_row, c_row * 4);
    if constexpr (R > 1 && C > 1) _tile_loadd(3, c + 16 * c_row + 16, c_row * 4);
  } else {
    _tile_zero(0);
    if constexpr (C > 1) _tile_zero(1);
    if constexpr (R > 1) _tile_zero(2);
    if constexpr (R > 1 && C > 1) _tile_zero(3);
  }
  for (int64_t i = 0; i < k; i += 16) {
    _tile_loadd(4, a + i, a_row * 4);
    _tile_loadd(6, b + i * b_row, b_row * 4);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (C > 1) {
      _tile_loadd(7, b + i * b_row + 16, b_row * 4);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, a + 16 * a_row + i, a_row * 4);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (C > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, c_row * 4);
  if constexpr (C > 1) _tile_stored(1, c + 16, c_row * 4);
  if constexpr (R > 1) _tile_stored(2, c + 16 * c_row, c_row * 4);
  if constexpr (R > 1 && C > 1) _tile_stored(3, c + 16 * c_row + 16, c_row * 4);
  asm volatile("" ::: "memory");
}

template <int R>
inline void TileRows(int64_t n, int64_t k, const Pair* a, int64_t a_row, const Pair* b,
                     int64_t b_row, float* c, int64_t c_row, bool add) {
  int64_t j = 0;
  for (; j + 32 <= n; j += 32) TileBlock<R, 2>(k, a, a_row, b + j, b_row, c + j, c_row, add);
  if (j < n) TileBlock<R, 1>(k, a, a_row, b + j, b_row, c + j, c_row, add);
}

}  // namespace internal

// Where a thread uses tiles: at the head of a task.
class Tiles {
 public:
  explicit Tiles(bool used) : used_(used) {
    if (used_) internal::ConfigureTiles();
  }
  ~Tiles() {
    if (used_) internal::ReleaseTiles();
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  bool used_;
};

// c[m, n] = a[m, 2k] b[2k, n] (plus c where `add`); m, n and k are multiples of 16.
inline void TileMatMul(int64_t m, int64_t n, int64_t k, const Pair* a, int64_t a_row,
                       const Pair* b, int64_t b_row, float* c, int64_t c_row, bool add = false) {
  int64_t i = 0;
  for (; i + 32 <= m; i += 32) {
    internal::TileRows<2>(n, k, a + i * a_row, a_row, b, b_row, c + i * c_row, c_row, add);
  }
  if (i < m) internal::TileRows<1>(n, k, a + i * a_row, a_row, b, b_row, c + i * c_row, c_row, add);
}

}  // namespace recops

#elif defined(RECOPS_BFLOAT16_PAIRS)

namespace recops {

inline bool HasTiles() { return false; }
struct Tiles {
  explicit Tiles(bool) {}
};

}  // namespace recops

#endif

#ifdef RECOPS_BFLOAT16_PAIRS

#include <cpuid.h>

namespace recops {

// Whether vectors multiply pairs faster than the same values as float32: AMD's processors do, a
// dense layer on Intel's (Emerald Rapids) took 1.4 times as long. RECOPS_PAIRS=0 or 1 says so.
inline bool VectorPairsPay() {
  static const bool pay = [] {
    if (const char* wanted = std::getenv("RECOPS_PAIRS")) return std::strcmp(wanted, "0") != 0;
    unsigned top, vendor[3];
    if (!__get_cpuid(0, &top, &vendor[0], &vendor[2], &vendor[1])) return true;
    return std::memcmp(vendor, "GenuineIntel", sizeof(vendor)) != 0;
  }();
  return pay;
}

inline bool PairsPay() { return HasTiles() || VectorPairsPay(); }

// c[m, n] = a[m, 2k] b[2k, n] (plus c where `add`) on tiles or by pairs. Whole tiles are multiplied:
// m, n and k are multiples of 16, but where `tiles` is false, m and k need not be.
inline void MultiplyPairs(bool tiles, int64_t m, int64_t n, int64_t k, const Pair* a, int64_t a_row,
                          const Pair* b, int64_t b_row, float* c, int64_t c_row, bool add = false) {
#ifdef RECOPS_TILES
  if (tiles) return TileMatMul(m, n, k, a, a_row, b, b_row, c, c_row, add);
#endif
  PairMatMul(m, n, k, a, a_row, 1, b, b_row, c, c_row, add);
}

// n rounded up to whole tiles.
inline int64_t WholeTiles(int64_t n) { return (n + kPairs - 1) / kPairs * kPairs; }

}  // namespace recops

#endif
