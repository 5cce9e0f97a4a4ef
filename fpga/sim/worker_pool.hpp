// SPDX-License-Identifier: Apache-2.0
// Threads that share independent parts of a job. Parts are claimed one by one, so that a thread which comes late, or
// never, costs nothing: the caller does what nobody claimed. A thread without work spins a little, then sleeps.
#pragma once
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace zq {

class worker_pool {
 public:
  // threads: the caller's own among them.
  explicit worker_pool(int threads) : process_(getpid()) {
    for (int n = 1; n < threads; ++n) workers_.emplace_back([this] { work(); });
  }

  // Ends a pool, but in a fork: that has the object and not the threads, which it would wait for.
  struct end {
    void operator()(worker_pool* pool) const {
      if (pool->process_ == getpid()) delete pool;
    }
  };

  ~worker_pool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& w : workers_) w.join();
  }

  worker_pool(const worker_pool&) = delete;
  worker_pool& operator=(const worker_pool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls part(n) once for each n in 0 .. parts - 1 (at most kMaxParts), on any thread; back when all are done.
  template <class Part>
  void run(int parts, const Part& part) {
    if (workers_.empty() || process_ != getpid()) {
      for (int n = 0; n < parts; ++n) part(n);
      return;
    }
    call_ = [](const void* p, int n) { (*static_cast<const Part*>(p))(n); };
    part_ = &part;
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(++job_ << 32 | uint64_t(parts) << 16);
    if (sleepers_.load() > 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    while (claim()) {
    }
    for (int spins = 0; done_.load(std::memory_order_acquire) != parts; ++spins) pause(spins);
  }

  static constexpr int kMaxParts = 0xFFFF;

 private:
  static constexpr int kSpins = 4000;  // longer than the other units mostly take between two tiles

  static void pause(int spins) {
    if (spins > kSpins) {
      std::this_thread::yield();  // whoever has the part may wait for this core
      return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  static bool open(uint64_t ticket) { return (ticket & 0xFFFF) < (ticket >> 16 & 0xFFFF); }

  // Does one part of the job, if there is one left. The ticket holds the job's number, its parts and the next part, so
  // that a claim succeeds only in the job that it read; that job cannot end, nor part_ change, before the part is done.
  bool claim() {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    do {
      if (!open(ticket)) return false;
    } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel));
    call_(part_, static_cast<int>(ticket & 0xFFFF));
    done_.fetch_add(1, std::memory_order_release);
    return true;
  }

  void work() {
    for (int spins = 0;;) {
      if (claim()) {
        spins = 0;
      } else if (++spins < kSpins) {
        pause(spins);
      } else {
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1);
        wake_.wait(lock, [this] { return stop_ || open(ticket_.load()); });
        sleepers_.fetch_sub(1);
        if (stop_) return;
        spins = 0;
      }
    }
  }

  const pid_t process_;
  void (*call_)(const void*, int) = nullptr;
  const void* part_ = nullptr;
  uint64_t job_ = 0;
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> done_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::vector<std::thread> workers_;  // last: they use the rest
};

}  // namespace zq
