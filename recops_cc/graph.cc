// Registers every native op with TensorFlow, and its CPU kernel for graphs and eager calls.
#include <algorithm>
#include <cstring>

#include "common/attributes.h"
#include "common/engine.h"
#include "common/pages.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf = tensorflow;

namespace recops {
namespace {

Type TypeOf(tf::DataType type) {
  switch (type) {
    case tf::DT_HALF:
      return Type::kHalf;
    case tf::DT_BFLOAT16:
      return Type::kBfloat16;
    case tf::DT_FLOAT:
      return Type::kFloat;
    case tf::DT_DOUBLE:
      return Type::kDouble;
    case tf::DT_INT32:
      return Type::kInt32;
    case tf::DT_INT64:
      return Type::kInt64;
    case tf::DT_BOOL:
      return Type::kBool;
    default:
      throw std::invalid_argument("no native kernel takes " + tf::DataTypeString(type));
  }
}

tf::Status Invalid(const Op& op, const std::exception& error) {
  return tf::errors::InvalidArgument("recops ", op.name, ": ", error.what());
}

Dims DimsOf(const tf::TensorShape& shape) {
  Dims dims;
  for (int i = 0; i < shape.dims(); ++i) dims.push_back(shape.dim_size(i));
  return dims;
}

Buffer BufferOf(const tf::Tensor& tensor) {
  // A kernel writes to its outputs alone.
  return {TypeOf(tensor.dtype()), DimsOf(tensor.shape()),
          const_cast<char*>(tensor.tensor_data().data())};
}

tf::Status InferShapes(const Op& op, tf::shape_inference::InferenceContext* c) {
  std::vector<Dims> inputs;
  for (int i = 0; i < c->num_inputs(); ++i) {
    if (!c->RankKnown(c->input(i))) {
      for (int j = 0; j < c->num_outputs(); ++j) c->set_output(j, c->UnknownShape());
      return tf::Status();
    }
    Dims dims;
    for (int d = 0; d < c->Rank(c->input(i)); ++d) dims.push_back(c->Value(c->Dim(c->input(i), d)));
    inputs.push_back(dims);
  }
  std::vector<tf::int64> options;
  TF_RETURN_IF_ERROR(c->GetAttr("options", &options));
  try {
    const std::vector<Dims> outputs = op.shapes(inputs, Dims(options.begin(), options.end()));
    // Of an op that writes to variables the shapes are theirs, and it has no outputs.
    for (int i = 0; i < c->num_outputs(); ++i) {
      std::vector<tf::shape_inference::DimensionHandle> dims;
      for (int64_t size : outputs[i]) dims.push_back(size < 0 ? c->UnknownDim() : c->MakeDim(size));
      c->set_output(i, c->MakeShape(dims));
    }
  } catch (const std::exception& error) {
    return Invalid(op, error);
  }
  return tf::Status();
}

// Makes a locked variable's buffer its own, to be written in place: who still holds it, having read
// the whole variable, keeps what was there. Later reads share it again: under a lock that nobody
// shares, there is no need to have them copy, as TensorFlow's own scatters do.
void Own(tf::OpKernelContext* c, tf::Var* variable) {
  tf::Tensor* tensor = variable->tensor();
  Check(tensor->dtype() != tf::DT_INVALID, "a variable has no value yet");
  if (!tensor->RefCountIsOne()) {
    tf::Tensor copy;
    const tf::Status status = c->allocate_temp(tensor->dtype(), tensor->shape(), &copy);
    if (!status.ok()) throw std::bad_alloc();
    std::memcpy(copy.data(), tensor->data(), tensor->TotalBytes());
    *tensor = copy;
  }
}

class NativeOp : public tf::OpKernel {
 public:
  NativeOp(tf::OpKernelConstruction* c, const Op& op)
      : OpKernel(c), op_(op), options_(OptionsOf(c)) {}

  void Compute(tf::OpKernelContext* c) override {
    try {
      Call call;
      // Declared first, unlocked last.
      std::vector<tf::core::RefCountPtr<tf::Var>> variables;
      std::vector<tf::tf_shared_lock> shared;
      std::vector<tf::mutex_lock> exclusive;
      for (int i = 0; i < c->num_inputs(); ++i) {
        if (c->input_dtype(i) != tf::DT_RESOURCE) continue;
        variables.emplace_back();
        OP_REQUIRES_OK(c, tf::LookupResource(c, tf::HandleFromInput(c, i), &variables.back()));
      }
      if (op_.writes > 0) {
        LockToWrite(c, variables, &exclusive);
      } else {
        // Variables are read where they stand, and nobody writes to them meanwhile.
        for (const auto& variable : variables) shared.emplace_back(*variable->mu());
      }
      std::vector<Dims> shapes;
      for (int i = 0, v = 0; i < c->num_inputs(); ++i) {
        if (c->input_dtype(i) == tf::DT_RESOURCE) {
          const tf::Tensor& value = *variables[v++]->tensor();
          // Shapes and results go by the last argument.
          Check(op_.writes > 0 || value.dtype() == c->input_dtype(c->num_inputs() - 1),
                "expected a variable of the type of what is like it");
          call.inputs.push_back(BufferOf(value));
        } else {
          call.inputs.push_back(BufferOf(c->input(i)));
        }
        shapes.push_back(call.inputs.back().dims);
      }
      const std::vector<Dims> outputs = op_.shapes(shapes, options_);
      call.outputs.assign(call.inputs.begin(), call.inputs.begin() + op_.writes);
      for (int i = 0; i < c->num_outputs(); ++i) {
        tf::TensorShape shape;
        OP_REQUIRES_OK(c, tf::TensorShapeUtils::MakeShape(
                              std::vector<tf::int64>(outputs[i].begin(), outputs[i].end()), &shape));
        tf::Tensor* output = nullptr;
        OP_REQUIRES_OK(c, c->allocate_output(i, shape, &output));
        PreferLargePages(output->data(), output->TotalBytes());
        call.outputs.push_back(BufferOf(*output));
      }
      call.options = options_;
      auto* workers = c->device()->tensorflow_cpu_worker_threads();
      call.parallel = [workers](int64_t n, int64_t block, const Body& body) {
        RunBlocks(n, block, workers->num_threads,
                  [workers](auto task) { workers->workers->Schedule(std::move(task)); }, body);
      };
      op_.run(call);
    } catch (const std::bad_alloc&) {
      c->SetStatus(tf::errors::ResourceExhausted("recops ", op_.name, ": out of memory"));
    } catch (const std::exception& error) {
      c->SetStatus(Invalid(op_, error));
    }
  }

 private:
  // In one order everywhere, so that two updates never wait for each other.
  static void LockToWrite(tf::OpKernelContext* c,
                          const std::vector<tf::core::RefCountPtr<tf::Var>>& variables,
                          std::vector<tf::mutex_lock>* locks) {
    std::vector<tf::Var*> order;
    for (const auto& variable : variables) order.push_back(variable.get());
    std::sort(order.begin(), order.end());
    Check(std::adjacent_find(order.begin(), order.end()) == order.end(),
          "one variable is given twice");
    for (tf::Var* variable : order) {
      locks->emplace_back(*variable->mu());
      Own(c, variable);
    }
  }

  const Op& op_;
  std::vector<int64_t> options_;
};

class Factory : public tf::kernel_factory::OpKernelFactory {
 public:
  explicit Factory(const Op& op) : op_(op) {}
  tf::OpKernel* Create(tf::OpKernelConstruction* c) override { return new NativeOp(c, op_); }

 private:
  const Op& op_;
};

bool Mentions(const Op& op, const std::string& suffix) {
  for (const auto* list : {&op.inputs, &op.outputs}) {
    for (const std::string& argument : *list) {
      if (argument.size() > suffix.size() &&
          argument.compare(argument.size() - suffix.size(), suffix.size(), suffix) == 0) {
        return true;
      }
    }
  }
  return false;
}

void Register(const Op& op) {
  const std::string name = "Recops>" + op.name;
  tf::OpRegistry::Global()->Register([&op, name](tf::OpRegistrationData* data) {
    tf::OpDefBuilder builder(name);
    for (const std::string& input : op.inputs) builder.Input(input);
    for (const std::string& output : op.outputs) builder.Output(output);
    if (Mentions(op, ": T")) builder.Attr("T: {half, bfloat16, float, double}");
    if (Mentions(op, ": W")) builder.Attr("W: {float, double}");
    if (Mentions(op, ": resource")) builder.SetIsStateful();
    if (Mentions(op, ": I")) builder.Attr("I: {int32, int64}");
    builder.Attr("options: list(int) = []");
    builder.SetShapeFn(
        [&op](tf::shape_inference::InferenceContext* c) { return InferShapes(op, c); });
    return builder.Finalize(data);
  });
  tf::kernel_factory::OpKernelRegistrar(
      tf::KernelDefBuilder(name.c_str()).Device(tf::DEVICE_CPU).Build(), "recops::NativeOp",
      std::make_unique<Factory>(op));
}

const bool registered = [] {
  for (const Op& op : Ops()) Register(op);
  return true;
}();

}  // namespace
}  // namespace recops
