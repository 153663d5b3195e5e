// Attention of bfloat16 on processors that multiply pairs of them; kernel.cc has the plan, which is
// the same, and bfloat16.h says what a pair is.
#include "bfloat16.h"

#include "../common/tiles.h"
#include "softmax.h"

namespace recops::attention {

#ifdef RECOPS_BFLOAT16_PAIRS

namespace {

constexpr int64_t L = kLanes<float>;

// A head's vectors, and the unnormalised weights of a block of queries.
class PairedHead {
 public:
  PairedHead(const Call& call, const Sizes& n)
      : n_(n),
        block(BlockOf<float>(n)),
        scale(static_cast<float>(BitCast<double>(call.options[0]))),
        kept(call.inputs[3], n, block),
        q(n.steps, n),
        k(n.sources, n),
        v(n.sources, n),
        turned(Padded<float>(n.dim) / 2 * block),
        weights(n.sources * block),
        inverse(block) {}

  void Select(const Call& call, int64_t b, int64_t head) {
    kept.Select(b, head);
    ahead_.Aim(call.inputs, b, head, n_.heads);
    const int64_t step = b * n_.steps * n_.row() + head * n_.dim;
    const int64_t source = b * n_.sources * n_.row() + head * n_.dim;
    q.Read(call.in<bfloat16>(0) + step, n_.steps);
    k.Read(call.in<bfloat16>(1) + source, kept.count(), kept.steps());
    v.Read(call.in<bfloat16>(2) + source, kept.count(), kept.steps());
  }

  void Weigh(int64_t first, int64_t count) {
    q.Turn(first, count, turned, block);
    PairMatMul(kept.count(), Padded<float>(count), (n_.dim + 1) / 2, k.rows(), k.stride(), 1,
               turned, block, weights, block);
    Softmax<float>(weights, kept.count(), block, count, kept.Queries(first, count), scale, inverse,
                   &ahead_);
  }

 private:
  Sizes n_;
  Ahead ahead_;

 public:
  int64_t block;
  float scale;
  Kept<float> kept;
  PairedVectors q, k, v;
  Scratch<Pair> turned;
  Scratch<float> weights, inverse;
};

// Rows [count, block] as pairs of rows [count / 2, block], an odd last one with zeros.
void StackRows(const float* from, int64_t count, int64_t block, int64_t width, Pair* to) {
  for (int64_t s = 0; s < count; s += 2) {
    for (int64_t t = 0; t < width; t += L) {
      const Vec<float> below = s + 1 < count ? LoadVec(from + (s + 1) * block + t) : Vec<float>{};
      StorePairs(to + s / 2 * block + t, PairUp(LoadVec(from + s * block + t), below));
    }
  }
}

void StoreRow(Vec<float> v, bfloat16* to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)v));
}

}  // namespace

// A head is small for a tile, and a processor that has them multiplies pairs no faster than float32.
bool PairedAttention(const Call& call) {
  if (HasTiles() || !VectorPairsPay()) return false;
  const Sizes n = SizesOf(call);
  call.parallel(n.batch * n.heads, HeadsAtOnce(n), [&](int64_t begin, int64_t end) {
    PairedHead head(call, n);
    Writer<bfloat16> writer(n);
    const int64_t padded = Padded<float>(n.dim), block = head.block;
    Scratch<float> sums(block * padded);
    Scratch<Pair> stacked((n.sources + 1) / 2 * block);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / n.heads, h = i % n.heads;
      head.Select(call, b, h);
      const int64_t keys = head.kept.count();
      bfloat16* out = call.out<bfloat16>(0) + b * n.steps * n.row() + h * n.dim;
      for (int64_t first = 0; first < n.steps; first += block) {
        const int64_t count = std::min(block, n.steps - first);
        head.Weigh(first, count);
        StackRows(head.weights, keys, block, Padded<float>(count), stacked);
        PairMatMul(count, padded, (keys + 1) / 2, stacked, 1, block, head.v.stacked(), padded, sums,
                   padded);
        writer.Write(sums, count, out + first * n.row(), head.inverse, nullptr);
      }
    }
  });
  return true;
}

bool PairedAttentionGrad(const Call& call) {
  if (HasTiles() || !VectorPairsPay()) return false;
  const Sizes n = SizesOf(call);
  call.parallel(n.batch * n.heads, HeadsAtOnce(n), [&](int64_t begin, int64_t end) {
    PairedHead head(call, n);
    Writer<bfloat16> writer(n);
    PairedVectors dout(n.steps, n);
    const int64_t padded = Padded<float>(n.dim), block = head.block;
    Scratch<float> dv(n.sources * padded), dk(n.sources * padded), dq(block * padded);
    Scratch<float> dweights(n.sources * block);
    Scratch<Pair> stacked((n.sources + 1) / 2 * block), rows(n.sources * block / 2);
    auto* const narrow = reinterpret_cast<bfloat16*>(rows.get());
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / n.heads, h = i % n.heads;
      head.Select(call, b, h);
      const int64_t keys = head.kept.count();
      const int64_t step = b * n.steps * n.row() + h * n.dim;
      const int64_t source = b * n.sources * n.row() + h * n.dim;
      dout.Read(call.in<bfloat16>(4) + step, n.steps);
      if (n.steps == 0) {
        std::memset(dv.get(), 0, n.sources * padded * sizeof(float));
        std::memset(dk.get(), 0, n.sources * padded * sizeof(float));
      }
      for (int64_t first = 0; first < n.steps; first += block) {
        const int64_t count = std::min(block, n.steps - first), width = Padded<float>(count);
        const bool add = first > 0;
        head.Weigh(first, count);
        dout.Turn(first, count, head.turned, block);
        PairMatMul(keys, width, (n.dim + 1) / 2, head.v.rows(), head.v.stride(), 1, head.turned,
                   block, dweights, block);
        for (int64_t t = 0; t < width; t += L) {
          const Vec<float> inverse = LoadVec(head.inverse + t);
          Vec<float> sum{};
          for (int64_t s = 0; s < keys; ++s) {
            float* at = head.weights + s * block + t;
            const Vec<float> weight = LoadVec(at) * inverse;
            StoreVec(at, weight);
            StoreRow(weight, narrow + s * block + t);
            sum += weight * LoadVec(dweights + s * block + t);
          }
          for (int64_t s = 0; s < keys; ++s) {
            float* at = dweights + s * block + t;
            StoreVec(at, LoadVec(head.weights + s * block + t) * (LoadVec(at) - sum) * head.scale);
          }
        }
        PairMatMul(keys, padded, (count + 1) / 2, rows, block / 2, 1, dout.stacked(first), padded,
                   dv, padded, add);
        for (int64_t s = 0; s < keys; ++s) {
          for (int64_t t = 0; t < width; t += L) {
            StoreRow(LoadVec(dweights + s * block + t), narrow + s * block + t);
          }
        }
        PairMatMul(keys, padded, (count + 1) / 2, rows, block / 2, 1, head.q.stacked(first), padded,
                   dk, padded, add);
        StackRows(dweights, keys, block, width, stacked);
        PairMatMul(count, padded, (keys + 1) / 2, stacked, 1, block, head.k.stacked(), padded, dq,
                   padded);
        writer.Write(dq, count, call.out<bfloat16>(0) + step + first * n.row(), nullptr, nullptr);
      }
      writer.Write(dk, keys, call.out<bfloat16>(1) + source, nullptr, head.kept.steps());
      writer.Write(dv, keys, call.out<bfloat16>(2) + source, nullptr, head.kept.steps());
      if (!head.kept.all) {
        for (int output : {1, 2}) {
          writer.Clear(call.out<bfloat16>(output) + source, n.sources, head.kept.keys.data(), keys);
        }
      }
    }
  });
  return true;
}

#else

bool PairedAttention(const Call&) { return false; }
bool PairedAttentionGrad(const Call&) { return false; }

#endif

}  // namespace recops::attention
