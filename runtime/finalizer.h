// Finalizers: a function to run after an object has become unreachable, as Go's SetFinalizer.
//
// The table maps an object to its function. An object with a finalizer keeps what it reaches alive, but not itself.
// When a mark ends without having reached it, the collector marks it once more (it is needed for the call), the entry
// moves to the queue, and a system goroutine calls the function with the object. After that the object is ordinary and
// dies for good in a later cycle.
//
// The queue is a root that is looked at once a cycle. Taking an object out of it puts the object on the runner's stack,
// which may have been scanned already; so it is shaded on the way, like a value that leaves a channel.
#pragma once

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
  void visit_objects(void (*visit)(void*, void*), void* context);
  void queue_dead(bool (*is_dead)(void*, void*), void* context);
  void visit_queued(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context);

 private:
  void run_queue(Runtime& runtime);
  Mutex lock_;
  std::unordered_map<void*, Function> table_;
  struct Due {
    void* payload;
    Function f;
  };
  std::deque<Due> queue_;
  void* running_ = nullptr;  // the object whose function runs now
  bool runner_started_ = false;
  SpinLock runner_lock_;
  G* runner_parked_ = nullptr;  // guarded by runner_lock_
};

}  // namespace gearbox
