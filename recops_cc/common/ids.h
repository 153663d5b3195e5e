// Ids as they come: int32 or int64.
#pragma once

#include "engine.h"

namespace recops {

inline int64_t IdAt(const Buffer& ids, int64_t i) {
  return ids.type == Type::kInt32 ? ids.as<const int32_t>()[i] : ids.as<const int64_t>()[i];
}

inline void SetId(const Buffer& ids, int64_t i, int64_t id) {
  if (ids.type == Type::kInt32) {
    ids.as<int32_t>()[i] = static_cast<int32_t>(id);
  } else {
    ids.as<int64_t>()[i] = id;
  }
}

}  // namespace recops
