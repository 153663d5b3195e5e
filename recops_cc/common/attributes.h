// What a graph says of a native op beside its arguments, the same for a graph and an XLA program.
#pragma once

#include <cstdint>
#include <vector>

#include "tensorflow/core/framework/op_kernel.h"

namespace recops {

// The op's options; a failure is the construction's.
inline std::vector<int64_t> OptionsOf(tensorflow::OpKernelConstruction* c) {
  if (c->HasAttr("T") && c->HasAttr("W")) {
    // The kernels are templates over T alone: W is double where T is, else float.
    tensorflow::DataType t, w;
    c->SetStatus(c->GetAttr("T", &t));
    c->SetStatus(c->GetAttr("W", &w));
    if ((t == tensorflow::DT_DOUBLE) != (w == tensorflow::DT_DOUBLE)) {
      c->SetStatus(tensorflow::errors::InvalidArgument(
          "recops ", c->def().op(), ": expected W to be ",
          t == tensorflow::DT_DOUBLE ? "double" : "float", " where T is ",
          tensorflow::DataTypeString(t), ", got ", tensorflow::DataTypeString(w)));
    }
  }
  std::vector<tensorflow::int64> options;
  c->SetStatus(c->GetAttr("options", &options));
  return {options.begin(), options.end()};
}

}  // namespace recops
