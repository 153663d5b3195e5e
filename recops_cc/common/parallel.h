// How kernels share their work between threads: blocks of a fixed size, so that a result does not
// depend on how many threads there are.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>

namespace recops {

using Body = std::function<void(int64_t begin, int64_t end)>;

// Runs a body over [0, n) in blocks; what a body throws is thrown to the caller.
using ParallelFor = std::function<void(int64_t n, int64_t block, const Body& body)>;

// A ParallelFor over any pool that can `schedule(task)`. The caller works too, so that it ends even
// when the pool is busy or is the caller's own. Of several errors that of the first block counts.
template <typename Schedule>
void RunBlocks(int64_t n, int64_t block, int64_t threads, const Schedule& schedule,
               const Body& body) {
  block = std::max<int64_t>(block, 1);
  const int64_t blocks = (n + block - 1) / block;
  if (blocks <= 1 || threads <= 1) {
    // The same blocks: a body may keep one sum a block.
    for (int64_t b = 0; b < blocks; ++b) body(b * block, std::min(n, (b + 1) * block));
    return;
  }
  struct State {
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::condition_variable idle;
    int64_t done = 0;
    int64_t failed = std::numeric_limits<int64_t>::max();
    std::exception_ptr error;
  };
  auto state = std::make_shared<State>();
  auto work = [state, n, block, blocks](const Body* body) {
    int64_t mine = 0;
    for (int64_t b; (b = state->next.fetch_add(1)) < blocks; ++mine) {
      try {
        (*body)(b * block, std::min(n, (b + 1) * block));
      } catch (...) {
        std::lock_guard<std::mutex> lock(state->mutex);
        if (b < state->failed) {
          state->failed = b;
          state->error = std::current_exception();
        }
      }
    }
    if (mine == 0) return;  // a task that starts late touches nothing of the caller's
    std::lock_guard<std::mutex> lock(state->mutex);
    state->done += mine;
    if (state->done == blocks) state->idle.notify_all();
  };
  for (int64_t t = 1; t < std::min(threads, blocks); ++t) {
    schedule([work, body = &body] { work(body); });
  }
  work(&body);
  std::unique_lock<std::mutex> lock(state->mutex);
  state->idle.wait(lock, [&] { return state->done == blocks; });
  // A task that starts late still holds the state; the error is the caller's alone from here.
  if (std::exception_ptr error = std::move(state->error)) std::rethrow_exception(error);
}

}  // namespace recops
