// Locks and meeting points for goroutines: waiting parks the goroutine, never the thread. Semantics are Go's package
// sync.
//
// Every operation that a loop might consist of begins with a safepoint: before it takes anything, so that nobody is
// preempted with a lock that a call has just handed to it.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/lock.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace detail {

// Goroutines that wait in line; guarded by the owner's spin lock. A node lies on the waiting goroutine's stack.
struct ParkedNode {
  Goroutine* g = nullptr;
  ParkedNode* next = nullptr;
  std::int64_t since_ns = 0;
  bool handed = false;  // the lock was handed over: do not compete for it
};
class ParkedList {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  void push_back(ParkedNode& n) noexcept {
    n.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &n;
    last_ = &n;
  }
  void push_front(ParkedNode& n) noexcept {
    n.next = first_;
    first_ = &n;
    if (last_ == nullptr) last_ = &n;
  }
  ParkedNode* pop_front() noexcept {
    ParkedNode* n = first_;
    if (n == nullptr) return nullptr;
    first_ = n->next;
    if (first_ == nullptr) last_ = nullptr;
    return n;
  }

 private:
  ParkedNode* first_ = nullptr;
  ParkedNode* last_ = nullptr;
};

}  // namespace detail

// Go's mutex: one compare-exchange when free; barging while nobody starves, hand-over in order once the first in line
// has waited a millisecond. Not recursive; may be unlocked by another goroutine than the one that locked it. Unlocking
// a free one is a fatal error.
class GoMutex {
 public:
  void lock() {
    safepoint_if_on_p();
    std::uint32_t free = 0;
    if (state_.compare_exchange_strong(free, kLocked, std::memory_order_acquire, std::memory_order_relaxed)) [[likely]]
      return;
    lock_slow();
  }
  bool try_lock() {
    safepoint_if_on_p();
    return try_lock_now();
  }
  void unlock() {
    std::uint32_t alone = kLocked;
    if (state_.compare_exchange_strong(alone, 0, std::memory_order_release, std::memory_order_relaxed)) [[likely]]
      return;
    unlock_slow();
  }

 private:
  static constexpr std::uint32_t kLocked = 1, kWaiting = 2;  // kWaiting: the list is not empty
  bool try_lock_now() {
    std::uint32_t state = state_.load(std::memory_order_relaxed);
    return (state & kLocked) == 0 &&
           state_.compare_exchange_strong(state, state | kLocked, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void lock_slow();
  void unlock_slow();
  std::atomic<std::uint32_t> state_{0};
  SpinLock list_lock_;
  detail::ParkedList waiters_;
};

// Many readers or one writer. A waiting writer keeps new readers out, so that it cannot starve.
class RWMutex {
 public:
  void lock();
  void unlock();
  void rlock();
  void runlock();

 private:
  SpinLock lock_;
  std::int64_t readers_ = 0;
  bool writer_ = false;
  std::uint64_t waiting_writers_ = 0;
  detail::ParkedList writers_, readers_waiting_;
};

class WaitGroup {
 public:
  void add(std::int64_t n);  // panics when the counter would be negative, or more than can be counted
  void done() { add(-1); }
  void wait();

 private:
  std::atomic<std::int64_t> count_{0};
  SpinLock lock_;
  detail::ParkedList waiters_;
};

class Semaphore {
 public:
  explicit Semaphore(std::int64_t permits);  // panics when it is negative
  void acquire();
  bool try_acquire();
  void release();  // panics when there are as many as can be counted

 private:
  SpinLock lock_;
  std::int64_t permits_;
  detail::ParkedList waiters_;
};

class Once {
 public:
  // Runs f if no call has before; returns when that one call is over. If f panics, it counts as over, as in Go.
  template <class F>
  void run(F&& f) {
    safepoint_if_on_p();
    if (done_.load(std::memory_order_acquire)) return;
    mutex_.lock();
    struct Unlock {
      Once* once;
      bool ran;
      ~Unlock() {
        if (ran) once->done_.store(true, std::memory_order_release);
        once->mutex_.unlock();
      }
    } unlock{this, !done_.load(std::memory_order_relaxed)};
    if (unlock.ran) f();
  }

 private:
  std::atomic<bool> done_{false};
  GoMutex mutex_;
};

// A condition on a mutex. wait() gives the mutex up, parks until signalled, and takes it again; there are no spurious
// wake-ups.
class Cond {
 public:
  explicit Cond(GoMutex& mutex) : mutex_(mutex) {}
  void wait();
  void signal();
  void broadcast();

 private:
  GoMutex& mutex_;
  SpinLock lock_;
  detail::ParkedList waiters_;
};

}  // namespace gearbox
