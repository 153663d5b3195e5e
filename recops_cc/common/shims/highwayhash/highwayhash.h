// See farmhash.h: a member of a class that nothing here makes.
#pragma once
#define HH_TARGET_PREFERRED 0

namespace highwayhash {
template <int Target>
class HighwayHashCatT {
 public:
  explicit HighwayHashCatT(...) {}
};
}  // namespace highwayhash
