// Exercises the block scheduler under ThreadSanitizer: several callers share a pool that they also
// run in, bodies throw, and late helpers find the work done.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <stdexcept>
#include <thread>
#include <vector>

#include "../../recops_cc/common/parallel.h"

namespace {

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
    for (auto& thread : threads_) thread.join();
  }
  void Schedule(std::function<void()> task) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    ready_.notify_one();
  }

 private:
  void Work() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        ready_.wait(lock, [this] { return closed_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> tasks_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

// Every number once, whatever the threads.
void Sum(Pool& pool, int64_t n, int64_t block, int64_t threads) {
  std::vector<int> seen(n, 0);
  recops::RunBlocks(
      n, block, threads, [&](auto task) { pool.Schedule(std::move(task)); },
      [&](int64_t begin, int64_t end) {
        Require(begin % block == 0 && end - begin <= block, "blocks have a fixed size");
        for (int64_t i = begin; i < end; ++i) ++seen[i];
      });
  for (int count : seen) Require(count == 1, "each index once");
}

void Throws(Pool& pool) {
  std::string said;
  try {
    recops::RunBlocks(
        100, 1, 4, [&](auto task) { pool.Schedule(std::move(task)); },
        [](int64_t begin, int64_t) {
          if (begin >= 40) throw std::invalid_argument(std::to_string(begin));
        });
  } catch (const std::invalid_argument& error) {
    said = error.what();
  }
  Require(said == "40", "the error of the first block counts");
}

}  // namespace

int main() {
  Pool pool(3);
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&pool] {
      for (int i = 0; i < 200; ++i) {
        for (int64_t n : {0, 1, 7, 64}) Sum(pool, n, 1 + i % 9, 1 + i % 8);
        Throws(pool);
      }
    });
  }
  for (auto& caller : callers) caller.join();
  // A caller that is itself a task of the pool, all of whose threads wait like it.
  std::atomic<int> finished{0};
  for (int t = 0; t < 3; ++t) {
    pool.Schedule([&] {
      Sum(pool, 50, 3, 8);
      ++finished;
    });
  }
  while (finished < 3) std::this_thread::yield();
  std::puts("ok");
}
