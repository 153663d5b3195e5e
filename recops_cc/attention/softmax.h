// The softmax of a head's scores, with queries along the lanes.
#pragma once

#include "../common/math.h"
#include "../common/vector.h"
#include "heads.h"

namespace recops::attention {

// Scores [keys, block] times a factor to exp(score - maximum); `inverse` [block] gets one over
// their sums, and 0 where a query keeps no key. Flat: a call of Exp would cost as much as it does.
template <typename A>
[[gnu::flatten]] void Softmax(A* scores, int64_t keys, int64_t block, int64_t queries,
                              const A* keep, A factor, A* inverse, Ahead* ahead) {
  const int64_t fetched = ahead->lines() / std::max<int64_t>(keys * queries / kLanes<A>, 1) + 1;
  const Vec<A> least = Fill<A>(-INFINITY), zero{};
  for (int64_t t = 0; t < queries; t += kLanes<A>) {
    Vec<A> maximum = least;
    for (int64_t s = 0; s < keys; ++s) {
      A* at = scores + s * block + t;
      Vec<A> score = LoadVec(at) * factor;
      if (keep != nullptr) score = LoadVec(keep + s * block + t) != zero ? score : least;
      if (keep != nullptr || factor != 1) StoreVec(at, score);
      maximum = Max<A>(score, maximum);
    }
    maximum = maximum == least ? zero : maximum;
    Vec<A> sum{};
    for (int64_t s = 0; s < keys; ++s) {
      A* at = scores + s * block + t;
      ahead->Fetch(fetched);
      const Vec<A> weight = Exp<A>(LoadVec(at) - maximum);
      StoreVec(at, weight);
      sum += weight;
    }
    StoreVec(inverse + t, sum == zero ? zero : A(1) / sum);
  }
}

}  // namespace recops::attention
