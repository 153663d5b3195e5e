// Multi-head attention: one head of one row at a time, whose scores [S, T] never leave the cache.
// Queries lie along the lanes, so that the softmax over the keys adds and compares whole vectors
// and a key that no query keeps is left out as a whole. The backward makes the weights again.
#include "../common/numeric.h"
#include "../common/rooms.h"
#include "../common/transpose.h"
#include "../common/vector.h"
#include "softmax.h"

namespace recops {
namespace attention {
namespace {

// What both directions share: a head's keys, and a block of queries' unnormalised weights.
template <typename T>
class Head {
  using A = Wide<T>;

 public:
  Head(const Call& call, const Sizes& n)
      : n_(n),
        block(BlockOf<A>(n)),
        kept(call.inputs[3], n, block),
        q(n.steps, n),
        k(n.sources, n),
        v(n.sources, n),
        scale_(static_cast<A>(BitCast<double>(call.options[0]))),
        turned_(Padded<A>(n.dim) * block),
        weights(n.sources * block),
        inverse(block) {}

  void Select(const Call& call, int64_t b, int64_t head) {
    kept.Select(b, head);
    ahead_.Aim(call.inputs, b, head, n_.heads);
    const int64_t step = b * n_.steps * n_.row(), source = b * n_.sources * n_.row();
    q.Read(call.in<T>(0) + step + head * n_.dim, n_.steps);
    k.Read(call.in<T>(1) + source + head * n_.dim, kept.count(), kept.steps());
    v.Read(call.in<T>(2) + source + head * n_.dim, kept.count(), kept.steps());
  }

  // Makes the weights of queries [first, first + count).
  void Weigh(int64_t first, int64_t count) {
    const int64_t width = Padded<A>(count);
    TransposeVectors<A>(q.data + first * q.stride, count, n_.dim, q.stride, scale_, turned_.get(),
                        block);
    MatMul<A>(kept.count(), width, n_.dim, k.data, k.stride, 1, turned_.get(), block,
              weights.get(), block);
    Softmax<A>(weights.get(), kept.count(), block, count, kept.Queries(first, count),
               A(1), inverse.get(), &ahead_);
  }

 private:
  Sizes n_;
  Ahead ahead_;

 public:
  int64_t block;
  Kept<A> kept;
  Vectors<T> q, k, v;

 private:
  A scale_;
  Scratch<A> turned_;

 public:
  Scratch<A> weights, inverse;
};

template <typename T>
void Attention(const Call& call) {
  using A = Wide<T>;
  if (std::is_same_v<T, bfloat16> && PairedAttention(call)) return;
  const Sizes n = SizesOf(call);
  call.parallel(n.batch * n.heads, HeadsAtOnce(n), [&](int64_t begin, int64_t end) {
    Head<T> head(call, n);
    Writer<T> writer(n);
    const int64_t padded = Padded<A>(n.dim);
    Scratch<A> sums(head.block * padded);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / n.heads, h = i % n.heads;
      head.Select(call, b, h);
      T* out = call.out<T>(0) + b * n.steps * n.row() + h * n.dim;
      for (int64_t first = 0; first < n.steps; first += head.block) {
        const int64_t count = std::min(head.block, n.steps - first);
        head.Weigh(first, count);
        MatMul<A>(count, padded, head.kept.count(), head.weights.get(), 1, head.block, head.v.data,
                  head.v.stride, sums.get(), padded);
        writer.Write(sums, count, out + first * n.row(), head.inverse, nullptr);
      }
    }
  });
}

// With U the unnormalised weights, c = 1 / their sums and P = U c, the gradient of the scores is
// P (dP - sum_s P dP). c goes into the gradient of the output, the scale into that of the scores.
template <typename T>
void AttentionGrad(const Call& call) {
  using A = Wide<T>;
  if (std::is_same_v<T, bfloat16> && PairedAttentionGrad(call)) return;
  constexpr int64_t L = kLanes<A>;
  const Sizes n = SizesOf(call);
  const A scale = static_cast<A>(BitCast<double>(call.options[0]));
  call.parallel(n.batch * n.heads, HeadsAtOnce(n), [&](int64_t begin, int64_t end) {
    Head<T> head(call, n);
    Writer<T> writer(n);
    Vectors<T> dout(n.steps, n);
    const int64_t padded = Padded<A>(n.dim), block = head.block;
    Scratch<A> dv(n.sources * padded), dk(n.sources * padded), dq(block * padded);
    Scratch<A> scaled(block * padded), turned(padded * block), dweights(n.sources * block);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / n.heads, h = i % n.heads;
      head.Select(call, b, h);
      const int64_t keys = head.kept.count();
      const int64_t step = b * n.steps * n.row() + h * n.dim;
      const int64_t source = b * n.sources * n.row() + h * n.dim;
      dout.Read(call.in<T>(4) + step, n.steps);
      if (n.steps == 0) {
        std::memset(dv.get(), 0, n.sources * padded * sizeof(A));
        std::memset(dk.get(), 0, n.sources * padded * sizeof(A));
      }
      for (int64_t first = 0; first < n.steps; first += block) {
        const int64_t count = std::min(block, n.steps - first), width = Padded<A>(count);
        const bool add = first > 0;
        head.Weigh(first, count);
        for (int64_t t = 0; t < count; ++t) {
          const A* from = dout.data + (first + t) * dout.stride;
          for (int64_t e = 0; e < padded; e += L) {
            StoreVec(scaled + t * padded + e, LoadVec(from + e) * head.inverse[t]);
          }
        }
        MatMul<A>(keys, padded, count, head.weights.get(), block, 1, scaled.get(), padded, dv.get(),
                  padded, add);
        TransposeVectors<A>(scaled.get(), count, n.dim, padded, scale, turned.get(), block);
        MatMul<A>(keys, width, n.dim, head.v.data, head.v.stride, 1, turned.get(), block,
                  dweights.get(), block);
        for (int64_t t = 0; t < width; t += L) {
          Vec<A> sum{};
          for (int64_t s = 0; s < keys; ++s) {
            sum += LoadVec(head.weights + s * block + t) * LoadVec(dweights + s * block + t);
          }
          sum *= LoadVec(head.inverse + t);
          for (int64_t s = 0; s < keys; ++s) {
            A* at = dweights + s * block + t;
            StoreVec(at, LoadVec(head.weights + s * block + t) * (LoadVec(at) - sum));
          }
        }
        const A* q = head.q.data + first * head.q.stride;
        MatMul<A>(keys, padded, count, dweights.get(), block, 1, q, head.q.stride, dk.get(), padded,
                  add);
        MatMul<A>(count, padded, keys, dweights.get(), 1, block, head.k.data, head.k.stride,
                  dq.get(), padded);
        writer.Write(dq, count, call.out<T>(0) + step + first * n.row(), nullptr, nullptr);
      }
      writer.Write(dk, keys, call.out<T>(1) + source, nullptr, head.kept.steps());
      writer.Write(dv, keys, call.out<T>(2) + source, nullptr, head.kept.steps());
      if (!head.kept.all) {
        for (int output : {1, 2}) {
          writer.Clear(call.out<T>(output) + source, n.sources, head.kept.keys.data(), keys);
        }
      }
    }
  });
}

std::vector<Dims> LikeQuery(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  const Dims &q = in[0], &k = in[1], &v = in[2], &mask = in[3];
  Check(q.size() == 4 && k.size() == 4 && v.size() == 4, "query, key, value: expected rank 4");
  Check(mask.size() == 4, "mask: expected rank 4");
  Check(options.size() == 1, "expected the scale as the only option");
  for (int axis : {0, 2, 3}) CheckSize(k[axis], q[axis], "key");
  for (int axis : {0, 1, 2, 3}) CheckSize(v[axis], k[axis], "value");
  const Dims whole = {q[0], q[2], q[1], k[1]};
  for (int axis = 0; axis < 4; ++axis) {
    if (axis == 3 || mask[axis] != 1) CheckSize(mask[axis], whole[axis], "mask");
  }
  return {q};
}

std::vector<Dims> LikeInputs(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  LikeQuery(in, options);
  Check(in[4].size() == 4, "dout: expected rank 4");
  for (int axis = 0; axis < 4; ++axis) CheckSize(in[4][axis], in[0][axis], "dout");
  return {in[0], in[1], in[2]};
}

}  // namespace
}  // namespace attention

std::vector<Op> AttentionOps() {
  using namespace attention;
  return {
      {"MultiHeadAttention",
       {"query: T", "key: T", "value: T", "mask: bool"},
       {"out: T"},
       LikeQuery,
       RECOPS_RUN(Attention)},
      {"MultiHeadAttentionGrad",
       {"query: T", "key: T", "value: T", "mask: bool", "dout: T"},
       {"dquery: T", "dkey: T", "dvalue: T"},
       LikeInputs,
       RECOPS_RUN(AttentionGrad)},
  };
}

}  // namespace recops
