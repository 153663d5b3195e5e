// The GRU over a sequence, with the attention score in its input or its gates.
#include "../common/rooms.h"
#include "../common/sums.h"
#include "backward.h"
#include "forward.h"

namespace recops {
namespace gru {
namespace {

template <typename T>
void RunForward(const Call& call) {
  Gru<T> gru(call);
  call.parallel(gru.packing.blocks(), 1,
                [&](int64_t block, int64_t) { Forward<T>(gru, call, block).Run(); });
}

template <typename T>
void RunBackward(const Call& call) {
  using A = Wide<T>;
  Gru<T> gru(call);
  Turned<T> turned(gru);
  const Sizes<A>& s = gru.s;
  const int64_t u = s.units, size = Backward<T>::SumsSize(s);
  Scratch<A> sums(size);
  SumOverRows<A>(call, gru.packing.blocks(), 1, kRows * gru.steps, size, sums.get(),
                 [&](int64_t begin, int64_t end, A* part) {
                   for (int64_t block = begin; block < end; ++block) {
                     Backward<T>(gru, turned, call, block, part).Run();
                   }
                 });
  const auto write = [&](int64_t gates_row, int64_t candidate_row, T* to) {
    WriteRow(sums + gates_row * s.two, 2 * u, to);
    WriteRow(sums + s.left * s.two + candidate_row * s.wide_units, u, to + 2 * u);
  };
  for (int64_t i = 0; i < s.inputs; ++i) write(s.x + i, 1 + i, call.out<T>(1) + i * 3 * u);
  for (int64_t j = 0; j < u; ++j) write(j, s.state_rows + j, call.out<T>(2) + j * 3 * u);
  write(s.one, 0, call.out<T>(3));
  write(s.one, gru.options.reset_after ? s.right - 1 : 0, call.out<T>(3) + 3 * u);
}

// x, kernel, recurrent_kernel, bias, attention, mask, initial_state.
std::vector<Dims> ForwardShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  const bool record = Options{options}.record;
  constexpr size_t kRanks[] = {3, 2, 2, 2, 2, 2, 2};
  for (size_t i = 0; i < 7; ++i) {
    Check(in[i].size() == kRanks[i], "argument ", i, ": expected rank ", kRanks[i]);
  }
  const int64_t rows = in[0][0], steps = in[0][1], units = in[2][0];
  Check(units != 0 && in[0][2] != 0, "x and recurrent_kernel: expected sizes of 1 or more");
  CheckSize(in[1][0], in[0][2], "kernel");
  CheckSize(in[3][0], 2, "bias");
  for (int i : {1, 2, 3}) CheckSize(in[i][1], 3 * units, "weights");
  for (int i : {4, 5}) {
    CheckSize(in[i][0], rows, "attention or mask");
    CheckSize(in[i][1], steps, "attention or mask");
  }
  CheckSize(in[6][0], rows, "initial_state");
  CheckSize(in[6][1], units, "initial_state");
  const Dims kept = record ? Dims{rows, steps, 3 * units} : Dims{0, 0, 0};
  return {{rows, steps, units}, {rows, units}, kept};
}

std::vector<Dims> BackwardShapes(const std::vector<Dims>& in, const std::vector<int64_t>& options) {
  Check(Options{options}.record, "record: the backward needs that of the forward");
  const std::vector<Dims> forward = ForwardShapes(in, options);
  const Dims* want[] = {&forward[0], &forward[2], &forward[0], &forward[1]};
  for (size_t i = 0; i < 4; ++i) {
    Check(in[7 + i].size() == want[i]->size(), "argument ", 7 + i, ": expected rank ",
          want[i]->size());
    for (size_t d = 0; d < want[i]->size(); ++d) CheckSize(in[7 + i][d], (*want[i])[d], "outputs");
  }
  return {in[0], in[1], in[2], in[3], in[4], in[6]};
}

}  // namespace
}  // namespace gru

std::vector<Op> DynamicGruOps() {
  using namespace gru;
  const std::vector<std::string> arguments = {"x: T",         "kernel: T", "recurrent_kernel: T",
                                              "bias: T",      "attention: T",
                                              "mask: bool",   "initial_state: T"};
  std::vector<std::string> kept = arguments;
  for (const char* name : {"outputs: T", "record: T", "doutputs: T", "dlast: T"}) {
    kept.push_back(name);
  }
  return {
      {"DynamicGru", arguments, {"outputs: T", "last: T", "record: T"}, ForwardShapes,
       RECOPS_RUN(RunForward)},
      {"DynamicGruGrad", kept,
       {"dx: T", "dkernel: T", "drecurrent_kernel: T", "dbias: T", "dattention: T",
        "dinitial_state: T"},
       BackwardShapes, RECOPS_RUN(RunBackward)},
  };
}

}  // namespace recops
