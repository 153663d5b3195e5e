// What a native op is: a name, its arguments, the shapes of its results, and a kernel in plain C++.
// The same kernel runs as a TensorFlow op (graph.cc) and inside an XLA program (xla_calls.cc).
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel.h"

namespace recops {

enum class Type { kHalf, kBfloat16, kFloat, kDouble, kInt32, kInt64, kBool };

inline int64_t SizeOf(Type type) {
  switch (type) {
    case Type::kHalf:
    case Type::kBfloat16:
      return 2;
    case Type::kFloat:
    case Type::kInt32:
      return 4;
    case Type::kDouble:
    case Type::kInt64:
      return 8;
    case Type::kBool:
      return 1;
  }
  throw std::invalid_argument("unknown type");
}

// A size is -1 where a graph does not know it yet.
using Dims = std::vector<int64_t>;

inline int64_t Product(const Dims& dims) {
  int64_t product = 1;
  for (int64_t size : dims) product *= size;
  return product;
}

struct Buffer {
  Type type;
  Dims dims;
  void* data;

  int64_t dim(int axis) const { return dims[axis]; }
  int64_t size() const { return Product(dims); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

struct Call {
  std::vector<Buffer> inputs;
  std::vector<Buffer> outputs;
  std::vector<int64_t> options;
  ParallelFor parallel;

  template <typename T>
  const T* in(int i) const {
    return inputs[i].as<const T>();
  }
  template <typename T>
  T* out(int i) const {
    return outputs[i].as<T>();
  }
};

struct Op {
  // CamelCase; TensorFlow knows it as "Recops>" + name.
  std::string name;
  // "x: T" (any float type, the same for all), "sums: W" (float, or double where T is), "ids: I"
  // (int32 or int64), "mask: bool", "scalars: double", "table: resource" (a variable, which the
  // kernel sees as its value). An optional argument that is absent has no elements.
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
  std::vector<Dims> (*shapes)(const std::vector<Dims>& inputs, const std::vector<int64_t>& options);
  void (*run)(const Call& call);
  // So many of the first inputs are variables that the op changes. It has no outputs of its own then:
  // `shapes` gives those of the variables, and `run` finds them as outputs, with their values there.
  int writes = 0;
};

// Every op of the library; each room adds its own.
const std::vector<Op>& Ops();

template <typename... Words>
std::string Text(const Words&... words) {
  std::ostringstream text;
  (text << ... << words);
  return text.str();
}

// What is wrong with the caller's values; TensorFlow and XLA report it as InvalidArgument.
template <typename... Words>
void Check(bool holds, const Words&... words) {
  if (!holds) throw std::invalid_argument(Text(words...));
}

// Sizes that must agree, where both are known.
inline void CheckSize(int64_t got, int64_t want, const char* what) {
  Check(got < 0 || want < 0 || got == want, what, ": expected size ", want, ", got ", got);
}

}  // namespace recops
