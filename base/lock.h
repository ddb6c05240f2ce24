// Locks for the runtime's own short critical sections.
//
// SpinLock  a byte. For sections of a few dozen instructions that never block and never allocate. The holder may be
//           preempted by the kernel (there are as few as two cores), so a waiter spins briefly and then yields its time
//           slice.
// Mutex     three states on a futex: free, held, held with sleepers. For sections that may make a system call.
//
// Neither may be held across a goroutine switch, except where the switch itself releases it (Runtime::park): then
// the release runs on the same thread. Neither is recursive.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/os/futex.h"
#include "base/os/thread.h"
#include "base/thread_annotations.h"

namespace gearbox {

inline void cpu_relax() noexcept { __builtin_ia32_pause(); }

class GEARBOX_CAPABILITY("spin lock") SpinLock {
 public:
  void lock() noexcept GEARBOX_ACQUIRE() {
    if (!held_.exchange(true, std::memory_order_acquire)) [[likely]]
      return;
    lock_slow();
  }
  bool try_lock() noexcept GEARBOX_TRY_ACQUIRE(true) {
    return !held_.load(std::memory_order_relaxed) && !held_.exchange(true, std::memory_order_acquire);
  }
  void unlock() noexcept GEARBOX_RELEASE() { held_.store(false, std::memory_order_release); }
  bool is_held() const noexcept { return held_.load(std::memory_order_relaxed); }

 private:
  // Whoever is late stays away from the holder's cache line for longer and longer: a line that goes back and forth at
  // every section costs each of them more than a short section does.
  [[gnu::noinline, gnu::cold]] void lock_slow() noexcept GEARBOX_NO_THREAD_SAFETY_ANALYSIS {  // the lock itself
    constexpr int kLeast = 16, kMost = 128;
    for (;;) {
      for (int pauses = kLeast; pauses <= kMost; pauses *= 2) {
        for (int i = 0; i < pauses; ++i) cpu_relax();
        if (try_lock()) return;
      }
      os::yield_thread();
    }
  }
  std::atomic<bool> held_{false};
};

class GEARBOX_CAPABILITY("mutex") Mutex {
 public:
  void lock() noexcept GEARBOX_ACQUIRE() {
    std::uint32_t expected = kFree;
    if (state_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire, std::memory_order_relaxed))
        [[likely]]
      return;
    lock_slow();
  }
  bool try_lock() noexcept GEARBOX_TRY_ACQUIRE(true) {
    std::uint32_t expected = kFree;
    return state_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void unlock() noexcept GEARBOX_RELEASE() {
    if (state_.exchange(kFree, std::memory_order_release) == kHeldWithSleepers) os::futex_wake(state_, 1);
  }

 private:
  static constexpr std::uint32_t kFree = 0, kHeld = 1, kHeldWithSleepers = 2;
  [[gnu::noinline, gnu::cold]] void lock_slow() noexcept GEARBOX_NO_THREAD_SAFETY_ANALYSIS {  // the lock itself
    for (int spins = 0; spins < 100; ++spins) {
      if (state_.load(std::memory_order_relaxed) == kFree && try_lock()) return;
      cpu_relax();
    }
    // From here on the lock is taken as "with sleepers": a spurious wake-up costs one futex call, a lost one would
    // hang.
    while (state_.exchange(kHeldWithSleepers, std::memory_order_acquire) != kFree)
      os::futex_wait(state_, kHeldWithSleepers, os::kForever);
  }
  std::atomic<std::uint32_t> state_{kFree};
};

template <class L>
class [[nodiscard]] GEARBOX_SCOPED_CAPABILITY Guard {
 public:
  explicit Guard(L& lock) noexcept GEARBOX_ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
  ~Guard() GEARBOX_RELEASE() { lock_.unlock(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  L& lock_;
};
template <class L>
Guard(L&) -> Guard<L>;

}  // namespace gearbox
