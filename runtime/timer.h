// Timers: a 4-ary heap of deadlines for each P, as Go keeps them, with a lock of its own.
//
// A timer is armed on the P of the goroutine that arms it and fires on whatever M looks at that heap when it is due:
// the owner between two goroutines, an M that is about to idle, the M that sleeps in the poller until the earliest
// deadline of all Ps, or, when everybody is busy, one that sysmon woke. Callbacks run on an M's own stack, must be
// short and must not park: they ready a goroutine or spawn one.
//
// Invariants.  T1  heap[i].when <= heap[children of i].when.   T2  timer->index is its place while armed; kUnarmed
//              otherwise.
//              T3  next_when() is the root's deadline, or 0 when empty (stored with seq_cst: partner Runtime::idle).
//              T4  A heap keeps no timer alive. Either whoever armed a timer keeps it until it is disarmed or has fired,
//                  or the timer has a take(): called under the heap's lock when the timer is due, it makes sure that
//                  the timer lives until its fire() has returned, or says that it is about to end.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/lock.h"

namespace gearbox {

class TimerHeap;

// Owned by whoever arms it; must stay put while armed.
struct Timer {
  static constexpr std::uint32_t kUnarmed = ~std::uint32_t{0};
  std::int64_t when = 0;    // CLOCK_MONOTONIC ns
  std::int64_t period = 0;  // ns; 0: once
  void (*fire)(void* argument, std::uint64_t sequence,
               std::int64_t now) = nullptr;  // on an M's stack, the heap's lock not held
  // T4. False: no fire(). Under the heap's lock, so it must not touch any timer. May be null.
  bool (*take)(void* argument) = nullptr;
  void* argument = nullptr;
  bool keeps_itself = false;              // what was armed lives until it fires, and is left behind where it never does
  std::uint64_t sequence = 0;             // handed to fire(): tells a stale firing from a live one
  std::atomic<TimerHeap*> heap{nullptr};  // where it is armed; null when not. Changed under that heap's lock
  std::uint32_t index = kUnarmed;
};

class TimerHeap {
 public:
  // What is still armed never fires; handles that outlive the runtime find it unarmed.
  ~TimerHeap();
  // Arms t (REQUIRES: not armed). True when it became the earliest of this heap.
  bool arm(Timer& t);
  // The deadline of the earliest, 0 when none. Any thread.
  std::int64_t next_when() const noexcept { return next_when_.load(std::memory_order_seq_cst); }
  // Fires everything due at `now`; returns how many. Any M.
  std::uint32_t run(std::int64_t now);
  std::size_t size() const noexcept { return size_.load(std::memory_order_relaxed); }
  // Moves everything into another heap (a P goes away). World stopped.
  void move_all_to(TimerHeap& other);

 private:
  friend bool disarm(Timer& t);
  void sift_up(std::uint32_t i);
  void sift_down(std::uint32_t i);
  void remove(std::uint32_t i);
  void publish() noexcept {
    next_when_.store(heap_.empty() ? 0 : heap_[0].when, std::memory_order_seq_cst);
    size_.store(heap_.size(), std::memory_order_relaxed);
  }

  struct Entry {
    std::int64_t when;  // a copy, so that sifting does not touch the timers
    Timer* timer;
  };
  SpinLock lock_;
  std::vector<Entry> heap_;
  std::atomic<std::int64_t> next_when_{0};
  std::atomic<std::size_t> size_{0};
};

// Takes t out of its heap. True if it was armed; false if it had left the heap to fire, or was never armed. A firing may
// still be under way on another M when this returns; no heap touches t any more.
bool disarm(Timer& t);

}  // namespace gearbox
