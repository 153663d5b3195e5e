// The dense layer by pairs of values, on tiles where the processor has them; kernel.cc has the plan.
// Backward the gradients of the sums are rounded to bfloat16 once and kept, as pairs of rows: the
// kernel's gradient is then made by blocks of its own rows, which needs few copies of it.
#include "bfloat16.h"

#include <vector>

#include "../common/lanes.h"
#include "../common/tiles.h"
#include "layer.h"

namespace recops::dense {

#ifdef RECOPS_BFLOAT16_PAIRS

namespace {

constexpr int64_t kRows = 64;               // a block
constexpr int64_t kColumns = 4 * kPairs;    // of a panel
constexpr int64_t kDeep = 256;              // rows that the kernel's gradient takes at once
constexpr int64_t kTasks = 16;              // that it is cut in at least, where there are rows enough
constexpr int64_t kFewest = 8 * kDeep;      // rows of such a task

int64_t Whole(int64_t n, int64_t of) { return (n + of - 1) / of * of; }
// Pairs along n values, in whole tiles.
int64_t PairsOf(int64_t n) { return WholeTiles((n + 1) / 2); }

// Rows [rows, n] of bfloat16 as rows of pairs [padded rows, pairs], zeros around them.
void PadPairs(const bfloat16* from, int64_t rows, int64_t n, Pair* to, int64_t padded,
              int64_t pairs) {
  auto* row = reinterpret_cast<bfloat16*>(to);
  for (int64_t r = 0; r < padded; ++r, row += 2 * pairs) {
    const int64_t there = r < rows ? n : 0;
    std::memcpy(row, from + r * n, there * sizeof(bfloat16));
    std::memset(static_cast<void*>(row + there), 0, (2 * pairs - there) * sizeof(bfloat16));
  }
}

// A right operand [depth pairs, columns] in panels, one behind the other.
struct Panels {
  Panels(int64_t depth, int64_t columns)
      : depth(PairsOf(depth)), columns(WholeTiles(columns)), values(this->depth * this->columns) {}
  int64_t count() const { return (columns + kColumns - 1) / kColumns; }
  int64_t width(int64_t panel) const { return std::min(kColumns, columns - panel * kColumns); }
  Pair* at(int64_t panel) { return values + panel * kColumns * depth; }
  const Pair* at(int64_t panel) const { return values + panel * kColumns * depth; }
  int64_t depth, columns;
  Scratch<Pair> values;
};

// The kernel [n, m]: pairs of its rows.
Panels Kernel(const Call& call, const Sizes& s) {
  Panels panels(s.width, s.units);
  call.parallel(panels.depth, 16, [&](int64_t begin, int64_t end) {
    Scratch<bfloat16> both(2 * panels.columns);
    bfloat16 *const low = both, *const high = low + panels.columns;
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t r = 0; r < 2; ++r) {
        const int64_t there = 2 * i + r < s.width ? s.units : 0;
        bfloat16* row = r == 0 ? low : high;
        std::memcpy(row, call.in<bfloat16>(1) + (2 * i + r) * s.units, there * sizeof(bfloat16));
        std::memset(static_cast<void*>(row + there), 0, (panels.columns - there) * sizeof(bfloat16));
      }
      for (int64_t c = 0; c < panels.columns; c += kPairs) {
        const int64_t p = c / kColumns;
        StorePairs(panels.at(p) + i * panels.width(p) + c % kColumns, PairUp(low + c, high + c));
      }
    }
  });
  return panels;
}

// Its transpose [m, n]: pairs of its columns.
Panels TurnedKernel(const Call& call, const Sizes& s) {
  Panels panels(s.units, s.width);
  call.parallel(panels.columns, kPairs, [&](int64_t begin, int64_t end) {
    Scratch<Pair> rows(kPairs * panels.depth);
    const int64_t there = std::max<int64_t>(0, std::min(end, s.width) - begin);
    PadPairs(call.in<bfloat16>(1) + begin * s.units, there, s.units, rows, kPairs, panels.depth);
    const int64_t p = begin / kColumns, n = panels.width(p);
    for (int64_t j = 0; j < panels.depth; j += kPairs) {
      CopySquare<float>(reinterpret_cast<const float*>(rows + j), panels.depth, kPairs,
                        reinterpret_cast<float*>(panels.at(p) + j * n + begin % kColumns), n,
                        kPairs);
    }
  });
  return panels;
}

// Rows of a tensor as pairs along them: where they stand if that fits, else copied.
const Pair* RowPairs(const bfloat16* from, int64_t rows, int64_t n, int64_t pairs, Pair* copy) {
  if (2 * pairs == n && rows == kRows) return reinterpret_cast<const Pair*>(from);
  PadPairs(from, rows, n, copy, WholeTiles(rows), pairs);
  return copy;
}

// The kernel's gradient: a block of its rows by a part of the batch is a task.
class KernelGradient {
 public:
  // g: the gradients of the sums, pairs of rows, [deep / 2, units in whole vectors].
  KernelGradient(const Call& call, const Sizes& s, const Pair* g, int64_t stride)
      : call_(call), s_(s), g_(g), stride_(stride) {
    const int64_t blocks = (s.width + kColumns - 1) / kColumns;
    const int64_t most = std::max<int64_t>(1, s.rows / kFewest);
    const int64_t parts = std::min(most, (kTasks + blocks - 1) / blocks);
    part_ = std::max(kDeep, Whole((s.rows + parts - 1) / parts, kDeep));
  }

  void Run(bool tiles) {
    const int64_t blocks = (s_.width + kColumns - 1) / kColumns;
    const int64_t parts = std::max<int64_t>(1, (s_.rows + part_ - 1) / part_);
    const int64_t size = blocks * kColumns * stride_;
    Scratch<float> sums(parts * size);
    call_.parallel(parts * blocks, 1, [&](int64_t begin, int64_t end) {
      const Tiles on(tiles);
      Scratch<Pair> turned(kColumns * kDeep / 2);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t from = task / blocks * part_, block = task % blocks;
        float* to = sums + task / blocks * size + block * kColumns * stride_;
        std::memset(to, 0, kColumns * stride_ * sizeof(float));
        const int64_t rows = WholeTiles(std::min(kColumns, s_.width - block * kColumns));
        for (int64_t r = from; r < std::min(s_.rows, from + part_); r += kDeep) {
          const int64_t deep = PairsOf(std::min(kDeep, s_.rows - r));
          Turn(r, deep, block * kColumns, rows, turned);
          MultiplyPairs(tiles, rows, stride_, deep, turned, kDeep / 2, g_ + r / 2 * stride_, stride_, to,
                   stride_, true);
        }
      }
    });
    call_.parallel(s_.width, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* row = sums + i * stride_;
        for (int64_t p = 1; p < parts; ++p) {
          const float* other = row + p * size;
          for (int64_t j = 0; j < stride_; ++j) row[j] += other[j];
        }
        Store(row, call_.out<bfloat16>(1) + i * s_.units, s_.units);
      }
    });
  }

 private:
  // x[r.., first..] with its columns as rows, pairs along the batch: [columns, kDeep / 2].
  void Turn(int64_t r, int64_t deep, int64_t first, int64_t columns, Pair* to) const {
    const auto* x = call_.in<bfloat16>(0);
    bfloat16 rest[2][kPairs];
    for (int64_t c = first; c < first + columns; c += kPairs) {
      const int64_t there = std::min(kPairs, s_.width - c);
      for (int64_t d = 0; d < deep; d += kPairs) {
        Vec<float> square[kPairs];
        for (int64_t i = 0; i < kPairs; ++i) {
          const int64_t row = r + 2 * (d + i);
          const bfloat16* low = x + row * s_.width + c;
          const bfloat16* high = low + s_.width;
          if (there < kPairs || row + 1 >= s_.rows) {
            std::memset(static_cast<void*>(rest), 0, sizeof(rest));
            for (int64_t o = 0; o < 2 && row + o < s_.rows; ++o) {
              std::memcpy(rest[o], low + o * s_.width, there * sizeof(bfloat16));
            }
            low = rest[0], high = rest[1];
          }
          square[i] = (Vec<float>)PairUp(low, high);
        }
        TransposeSquare<float>(square);
        for (int64_t i = 0; i < kPairs; ++i) {
          StoreVec(reinterpret_cast<float*>(to) + (c - first + i) * kDeep / 2 + d, square[i]);
        }
      }
    }
  }

  const Call& call_;
  const Sizes& s_;
  const Pair* g_;
  int64_t stride_, part_;
};

}  // namespace

bool PairedForward(const Call& call) {
  if (!PairsPay()) return false;
  const Sizes s(call);
  const bool tiles = HasTiles();
  const Panels kernel = Kernel(call, s);
  const Scratch<float> bias = Bias<bfloat16>(call, s, kernel.columns);
  call.parallel(s.rows, kRows, [&](int64_t begin, int64_t end) {
    const Tiles on(tiles);
    const int64_t rows = end - begin;
    Scratch<Pair> copy(kRows * kernel.depth);
    Scratch<float> sums(kRows * kColumns);
    const Pair* x = RowPairs(call.in<bfloat16>(0) + begin * s.width, rows, s.width, kernel.depth, copy);
    for (int64_t p = 0; p < kernel.count(); ++p) {
      const int64_t first = p * kColumns, n = kernel.width(p);
      MultiplyPairs(tiles, WholeTiles(rows), n, kernel.depth, x, kernel.depth, kernel.at(p), n, sums, n);
      ForActivation(s.activation, [&](auto kind) {
        Finish<bfloat16, kind()>(sums, rows, std::min(n, s.units - first), n, bias + first,
                                 call.out<bfloat16>(0) + begin * s.units + first, s.units);
      });
    }
  });
  return true;
}

bool PairedBackward(const Call& call) {
  if (!PairsPay()) return false;
  const Sizes s(call);
  const bool tiles = HasTiles();
  const Panels turned = TurnedKernel(call, s);
  const int64_t stride = WholeTiles(s.units), deep = Whole(s.rows, kRows);
  const int64_t blocks = deep / kRows;
  Scratch<Pair> g(deep / 2 * stride);
  Scratch<float> dbias((blocks + 1) * stride);
  std::memset(dbias.get(), 0, stride * sizeof(float));
  call.parallel(s.rows, kRows, [&](int64_t begin, int64_t end) {
    const Tiles on(tiles);
    const int64_t rows = end - begin, pairs = turned.depth;
    Scratch<Pair> block(kRows * pairs);
    Scratch<float> wide(2 * s.units), row(stride), dx(kRows * kColumns);
    float* sums = dbias + (begin / kRows + 1) * stride;
    std::memset(sums, 0, stride * sizeof(float));
    std::memset(block.get(), 0, kRows * pairs * sizeof(Pair));
    auto* values = reinterpret_cast<bfloat16*>(block.get());
    ForActivation(s.activation, [&](auto kind) {
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = (begin + r) * s.units;
        Unfinish<bfloat16, kind()>(call.in<bfloat16>(3) + at, call.in<bfloat16>(2) + at, s.units,
                                   wide, row, sums);
        Round(row, values + 2 * r * pairs, s.units);
      }
    });
    for (int64_t r = 0; r < kRows; r += 2) {
      for (int64_t j = 0; j < stride; j += kPairs) {
        const bfloat16* low = values + 2 * r * pairs + j;
        StorePairs(g + (begin + r) / 2 * stride + j, PairUp(low, low + 2 * pairs));
      }
    }
    for (int64_t p = 0; p < turned.count(); ++p) {
      const int64_t first = p * kColumns, n = turned.width(p);
      MultiplyPairs(tiles, WholeTiles(rows), n, pairs, block, pairs, turned.at(p), n, dx, n);
      for (int64_t r = 0; r < rows; ++r) {
        Store(dx + r * n, call.out<bfloat16>(0) + (begin + r) * s.width + first,
              std::min(n, s.width - first));
      }
    }
  });
  KernelGradient(call, s, g, stride).Run(tiles);
  if (!s.biased) return true;
  for (int64_t b = 1; b <= blocks; ++b) {
    for (int64_t j = 0; j < stride; ++j) dbias[j] += dbias[b * stride + j];
  }
  Store(dbias.get(), call.out<bfloat16>(2), s.units);
  return true;
}

#else

bool PairedForward(const Call&) { return false; }
bool PairedBackward(const Call&) { return false; }

#endif

}  // namespace recops::dense
