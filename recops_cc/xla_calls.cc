// Lets `jit_compile=True` functions call the native kernels on a CPU: every op lowers to one typed
// custom call, which names the op and runs its kernel on XLA's own threads.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/attributes.h"
#include "common/engine.h"
#include "common/pages.h"
#include "tensorflow/compiler/tf2xla/type_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "xla/ffi/api/ffi.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/layout_util.h"
#include "xla/shape_util.h"

namespace xla::ffi {
// Exported by libtensorflow_cc; the header that declares it needs MLIR's, which the wheel lacks.
const XLA_FFI_Api* GetXlaFfiApi();
}  // namespace xla::ffi

namespace ffi = xla::ffi;

namespace recops {
namespace {

constexpr char kTarget[] = "recops_call";

const Op* Find(std::string_view name) {
  for (const Op& op : Ops()) {
    if (op.name == name) return &op;
  }
  return nullptr;
}

Type TypeOf(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F16:
      return Type::kHalf;
    case ffi::DataType::BF16:
      return Type::kBfloat16;
    case ffi::DataType::F32:
      return Type::kFloat;
    case ffi::DataType::F64:
      return Type::kDouble;
    case ffi::DataType::S32:
      return Type::kInt32;
    case ffi::DataType::S64:
      return Type::kInt64;
    case ffi::DataType::PRED:
      return Type::kBool;
    default:
      throw std::invalid_argument("no native kernel takes this type");
  }
}

Buffer BufferOf(const ffi::AnyBuffer& buffer) {
  const auto dims = buffer.dimensions();
  return {TypeOf(buffer.element_type()), Dims(dims.begin(), dims.end()), buffer.untyped_data()};
}

ffi::Error Run(ffi::ThreadPool pool, ffi::RemainingArgs arguments, ffi::RemainingRets results,
               ffi::Dictionary attributes) {
  const auto name = attributes.get<std::string_view>("op");
  const auto options = attributes.get<ffi::Span<const int64_t>>("options");
  const Op* op = name.has_value() ? Find(*name) : nullptr;
  if (op == nullptr || !options.has_value()) return ffi::Error::Internal("recops: unknown call");
  try {
    Call call;
    for (size_t i = 0; i < arguments.size(); ++i) {
      call.inputs.push_back(BufferOf(arguments.get<ffi::AnyBuffer>(i).value()));
    }
    for (size_t i = 0; i < results.size(); ++i) {
      const ffi::AnyBuffer result = *results.get<ffi::AnyBuffer>(i).value();
      PreferLargePages(result.untyped_data(), result.size_bytes());
      call.outputs.push_back(BufferOf(result));
    }
    call.options.assign(options->begin(), options->end());
    // The last one says nothing: an empty array of the dictionary has no type.
    call.options.pop_back();
    call.parallel = [&pool](int64_t n, int64_t block, const Body& body) {
      RunBlocks(n, block, pool.num_threads(),
                [&pool](auto task) { pool.Schedule(std::move(task)); }, body);
    };
    op->run(call);
    return ffi::Error::Success();
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                      Text("recops ", op->name, ": out of memory"));
  } catch (const std::exception& error) {
    return ffi::Error::InvalidArgument(Text("recops ", op->name, ": ", error.what()));
  }
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(RunHandler, Run,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attrs<ffi::Dictionary>());
XLA_FFI_REGISTER_HANDLER(xla::ffi::GetXlaFfiApi(), kTarget, "Host", RunHandler);

// Kernels read and write rows as they stand in memory.
xla::Shape RowMajor(const xla::Shape& shape) {
  return xla::ShapeUtil::MakeShapeWithDescendingLayout(shape.element_type(), shape.dimensions());
}

class NativeXla : public tensorflow::XlaOpKernel {
 public:
  explicit NativeXla(tensorflow::OpKernelConstruction* c)
      : XlaOpKernel(c),
        op_(*Find(std::string_view(c->def().op()).substr(sizeof("Recops>") - 1))),
        options_(OptionsOf(c)) {}

  void Compile(tensorflow::XlaOpKernelContext* c) override {
    std::vector<Dims> inputs;
    std::vector<xla::XlaOp> operands;
    std::vector<xla::Shape> operand_shapes, result_shapes;
    for (int i = 0; i < c->num_inputs(); ++i) {
      xla::XlaOp operand;
      if (c->input_type(i) == tensorflow::DT_RESOURCE) {
        tensorflow::DataType type;
        tensorflow::TensorShape ignored;
        OP_REQUIRES_OK(c, c->GetVariableTypeAndShape(i, &type, &ignored));
        OP_REQUIRES(c, op_.writes > 0 || type == c->input_type(c->num_inputs() - 1),
                    tensorflow::errors::InvalidArgument(
                        "recops ", op_.name,
                        ": expected a variable of the type of what is like it"));
        OP_REQUIRES_OK(c, c->ReadVariableInput(i, type, &ignored, &operand));
      } else {
        operand = c->Input(i);
      }
      const auto shape = c->builder()->GetShape(operand);
      OP_REQUIRES_OK(c, shape.status());
      operands.push_back(operand);
      operand_shapes.push_back(RowMajor(*shape));
      inputs.emplace_back(shape->dimensions().begin(), shape->dimensions().end());
    }
    // Variables that are written to: each is the operand and the result in one buffer.
    std::vector<std::pair<xla::ShapeIndex, std::pair<int64_t, xla::ShapeIndex>>> in_place;
    try {
      const std::vector<Dims> outputs = op_.shapes(inputs, options_);
      for (int i = 0; i < op_.writes; ++i) {
        result_shapes.push_back(operand_shapes[i]);
        in_place.push_back({op_.writes > 1 ? xla::ShapeIndex{i} : xla::ShapeIndex{}, {i, {}}});
      }
      for (int i = 0; i < c->num_outputs(); ++i) {
        xla::PrimitiveType type;
        OP_REQUIRES_OK(c, tensorflow::DataTypeToPrimitiveType(c->expected_output_dtype(i), &type));
        result_shapes.push_back(xla::ShapeUtil::MakeShapeWithDescendingLayout(type, outputs[i]));
      }
    } catch (const std::exception& error) {
      c->SetStatus(tensorflow::errors::InvalidArgument("recops ", op_.name, ": ", error.what()));
      return;
    }
    const std::string config =
        absl::StrCat("{op = \"", op_.name, "\", options = array<i64: ",
                     absl::StrJoin(options_, ", "), options_.empty() ? "" : ", ", "0>}");
    const bool single = result_shapes.size() == 1;
    const xla::XlaOp call = xla::CustomCallWithLayout(
        c->builder(), kTarget, operands,
        single ? result_shapes[0] : xla::ShapeUtil::MakeTupleShape(result_shapes), operand_shapes,
        config, false, in_place, nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
        xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    const auto result = [&](int i) { return single ? call : xla::GetTupleElement(call, i); };
    for (int i = 0; i < op_.writes; ++i) {
      tensorflow::DataType type;
      tensorflow::TensorShape ignored;
      OP_REQUIRES_OK(c, c->GetVariableTypeAndShape(i, &type, &ignored));
      OP_REQUIRES_OK(c, c->AssignVariable(i, type, result(i)));
    }
    for (int i = 0; i < c->num_outputs(); ++i) c->SetOutput(i, result(i));
  }

 private:
  const Op& op_;
  std::vector<int64_t> options_;
};

// As a kernel of XLA's compilation device. XLA's own registry makes these of its entries once, at
// the first compilation of the process, and would overlook a library that is loaded later.
const bool registered = [] {
  for (const Op& op : Ops()) {
    tensorflow::kernel_factory::OpKernelRegistrar(
        tensorflow::KernelDefBuilder(("Recops>" + op.name).c_str())
            .Device(tensorflow::DEVICE_CPU_XLA_JIT)
            .Build(),
        "recops::NativeXla",
        [](tensorflow::OpKernelConstruction* c) -> tensorflow::OpKernel* {
          return new NativeXla(c);
        });
  }
  return true;
}();

}  // namespace
}  // namespace recops
