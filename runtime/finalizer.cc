#include "runtime/finalizer.h"

#include <vector>

#include "runtime/dead_frames.h"
#include "runtime/heap.h"

namespace gearbox {

void Runtime::Finalizers::set(Runtime& runtime, void* payload, Function f) {
  Shard& shard = shards_[shard_of(payload)];
  Function former;  // dropped after the lock: its captures' destructors are the program's
  {
    Guard<Mutex> hold(shard.lock);
    if (auto at = shard.table.find(payload); at != shard.table.end()) {
      former = std::move(at->second);
      shard.table.erase(at);
      entries_.fetch_sub(1, std::memory_order_relaxed);
    }
    if (f) {
      shard.table.emplace(payload, std::move(f));
      entries_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (!runner_started_.load(std::memory_order_relaxed) && !runner_started_.exchange(true, std::memory_order_relaxed))
    runtime.spawn_system([this, &runtime] { run_queue(runtime); }, "finalizer wait");
}

void Runtime::Finalizers::visit_objects(std::size_t job, void (*visit)(void*, void*), void* context) {
  Shard& shard = shards_[job];
  Guard<Mutex> hold(shard.lock);
  for (const auto& [payload, f] : shard.table) visit(context, payload);
}

void Runtime::Finalizers::queue_dead(std::size_t job, bool (*is_dead)(void*, void*), void* context) {
  std::vector<Due> dead;
  {
    Shard& shard = shards_[job];
    Guard<Mutex> hold(shard.lock);
    for (auto at = shard.table.begin(); at != shard.table.end();) {
      if (is_dead(context, at->first)) {
        dead.push_back({at->first, std::move(at->second)});
        at = shard.table.erase(at);
      } else {
        ++at;
      }
    }
    entries_.fetch_sub(dead.size(), std::memory_order_relaxed);
  }
  if (dead.empty()) return;
  {
    Guard<Mutex> hold(queue_lock_);
    for (Due& due : dead) queue_.push_back(std::move(due));
    waiting_.fetch_add(dead.size(), std::memory_order_relaxed);
    queued_.store(queue_.size(), std::memory_order_release);  // partner: run_queue()
  }
  G* runner = nullptr;
  {
    Guard<SpinLock> parked(runner_lock_);
    runner = std::exchange(runner_parked_, nullptr);
  }
  if (runner != nullptr) current_runtime().ready(runner);
}

std::size_t Runtime::Finalizers::queue_jobs() const {
  Guard<Mutex> hold(queue_lock_);
  return 1 + queue_.size() / kQueuePiece;
}

void Runtime::Finalizers::visit_queued(std::size_t job, void (*visit)(void*, const std::uintptr_t*, std::size_t),
                                       void* context) {
  Guard<Mutex> hold(queue_lock_);
  const auto look = [&](const void* payload) {
    const auto word = reinterpret_cast<std::uintptr_t>(payload);
    visit(context, &word, 1);
  };
  if (job == 0) look(running_);
  const std::size_t end = std::min(queue_.size(), (job + 1) * kQueuePiece);
  for (std::size_t i = job * kQueuePiece; i < end; ++i) look(queue_[queue_.size() - 1 - i].payload);
}

void Runtime::Finalizers::run_queue(Runtime& runtime) {
  for (;;) {
    while (run_next()) {
    }
    overwrite_dead_frames();  // FZ1
    runner_lock_.lock();
    if (queued_.load(std::memory_order_acquire) != 0) {  // partner: queue_dead(), which looks here after its store
      runner_lock_.unlock();
      continue;
    }
    runner_parked_ = current_g();
    runtime.park_and_unlock(runner_lock_, "finalizer wait");
  }
}

// The oldest that is due. False: none was. A frame of its own (FZ1).
[[gnu::noinline]] bool Runtime::Finalizers::run_next() {
  Due due{nullptr, {}};
  {
    Guard<Mutex> hold(queue_lock_);
    if (queue_.empty()) return false;
    due = std::move(queue_.front());
    queue_.pop_front();
    queued_.store(queue_.size(), std::memory_order_relaxed);
    running_ = due.payload;
    shade_if_marking(&due.payload, sizeof(due.payload));
  }
  struct AtEnd {  // also of one that ends by goexit()
    Finalizers& all;
    ~AtEnd() {
      Guard<Mutex> hold(all.queue_lock_);
      all.running_ = nullptr;
      all.waiting_.fetch_sub(1, std::memory_order_relaxed);
    }
  } at_end{*this};
  const Outside outside;  // the program's code
  due.f.call_once(due.payload);
  return true;
}

}  // namespace gearbox
