// Finalizers: a function to run after an object has become unreachable, as Go's SetFinalizer.
//
// The table maps an object to its function. An object with a finalizer keeps what it reaches alive, but not itself.
// When a mark ends without having reached it, the collector marks it once more (it is needed for the call), the entry
// moves to the queue, and a system goroutine, the runner, calls the function with the object. After that the object is
// ordinary and dies for good in a later cycle, unless it is given a finalizer again.
//
// One runner calls them all, one after the other, as in Go. So a finalizer that blocks, or ends its goroutine with
// goexit(), silences all the others for good: what takes long, or may block, belongs on a goroutine that the finalizer
// starts. read_mem_stats().finalizers_waiting counts the objects that wait for their turn, or are at it.
//
// The table is cut into shards with a lock each, by address: the collector's jobs. With a million entries one job is some
// thousand of them, and that long a goroutine that sets a finalizer may have to wait.
//
// The queue is a root that is looked at once a cycle. Taking an object out of it puts the object on the runner's stack,
// which may have been scanned already; so it is shaded on the way, like a value that leaves a channel.
//
//   FZ1 A finalizer's object is on the runner's stack in the frames of its call only. The stack is scanned
//       conservatively, and a word that the call left behind would keep the object of the last call alive, with all that
//       it refers to, for as long as the runner has nothing to do. So calls run below a frame of their own, and before the
//       runner parks it overwrites what they left.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>

#include "base/lock.h"
#include "runtime/rooted.h"
#include "runtime/runtime.h"

namespace gearbox {

struct Runtime::Finalizers {
  using Function = RootedCall<void*>;

  // Replaces an earlier one; an empty function removes it. On a goroutine.
  void set(Runtime& runtime, void* payload, Function f);
  // World::finalizer_jobs() and its two walks.
  std::size_t jobs() const noexcept { return entries_.load(std::memory_order_relaxed) == 0 ? 0 : kShards; }
  void visit_objects(std::size_t job, void (*visit)(void*, void*), void* context);
  void queue_dead(std::size_t job, bool (*is_dead)(void*, void*), void* context);
  // The queue as a root, in pieces. At least one; the first is also the object whose finalizer runs. What is taken out
  // meanwhile is shaded, what is put in is marked: so pieces, counted from the end, hold what they held.
  std::size_t queue_jobs() const;
  void visit_queued(std::size_t job, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context);
  // Objects that have died and whose finalizer has not returned. Any thread.
  std::uint64_t waiting() const noexcept { return waiting_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kShards = 256, kQueuePiece = 4096;
  struct Shard {
    Mutex lock;
    std::unordered_map<void*, Function> table;  // under the lock
  };
  struct Due {
    void* payload;
    Function f;
  };
  static std::size_t shard_of(const void* payload) noexcept {  // neighbours share one
    return (reinterpret_cast<std::uintptr_t>(payload) >> 14) * 0x9e3779b97f4a7c15ULL >> 56;
  }
  void run_queue(Runtime& runtime);
  bool run_next();

  std::array<Shard, kShards> shards_;
  std::atomic<std::size_t> entries_{0};  // in all tables
  std::atomic<bool> runner_started_{false};
  mutable Mutex queue_lock_;
  std::deque<Due> queue_;                  // under queue_lock_
  void* running_ = nullptr;                // under queue_lock_: the object whose function runs now
  std::atomic<std::uint64_t> waiting_{0};  // the queue's length, and one for running_
  std::atomic<std::uint64_t> queued_{0};   // the queue's length, for the runner's look before it parks
  SpinLock runner_lock_;
  G* runner_parked_ = nullptr;  // under runner_lock_
};

}  // namespace gearbox
