#include "runtime/finalizer.h"

#include "runtime/heap.h"

namespace gearbox {

void Runtime::Finalizers::set(Runtime& runtime, void* payload, Function f) {
  bool start = false;
  Function former;  // dropped after the lock: its captures' destructors are the program's
  {
    Guard<Mutex> hold(lock_);
    if (auto at = table_.find(payload); at != table_.end()) {
      former = std::move(at->second);
      table_.erase(at);
    }
    if (f) table_.emplace(payload, std::move(f));
    start = !runner_started_;
    runner_started_ = true;
  }
  if (start) runtime.spawn_system([this, &runtime] { run_queue(runtime); }, "finalizer wait");
}

void Runtime::Finalizers::visit_objects(void (*visit)(void*, void*), void* context) {
  Guard<Mutex> hold(lock_);
  for (const auto& [payload, f] : table_) visit(context, payload);
}

void Runtime::Finalizers::queue_dead(bool (*is_dead)(void*, void*), void* context) {
  Guard<Mutex> hold(lock_);
  bool any = false;
  for (auto at = table_.begin(); at != table_.end();) {
    if (is_dead(context, at->first)) {
      queue_.push_back({at->first, std::move(at->second)});
      at = table_.erase(at);
      any = true;
    } else {
      ++at;
    }
  }
  if (!any) return;
  G* runner = nullptr;
  {
    Guard<SpinLock> parked(runner_lock_);
    runner = std::exchange(runner_parked_, nullptr);
  }
  if (runner != nullptr) current_runtime().ready(runner);
}

void Runtime::Finalizers::visit_queued(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) {
  Guard<Mutex> hold(lock_);
  for (const Due& due : queue_) {
    const auto word = reinterpret_cast<std::uintptr_t>(due.payload);
    visit(context, &word, 1);
  }
  const auto word = reinterpret_cast<std::uintptr_t>(running_);
  visit(context, &word, 1);
}

void Runtime::Finalizers::run_queue(Runtime& runtime) {
  for (;;) {
    Due due{nullptr, {}};
    {
      // The parking lock first: queue_dead() looks at it after it has filled the queue.
      runner_lock_.lock();
      lock_.lock();
      if (!queue_.empty()) {
        due = std::move(queue_.front());
        queue_.pop_front();
        running_ = due.payload;
        shade_if_marking(&due.payload, sizeof(due.payload));
      }
      lock_.unlock();
      if (due.payload == nullptr) {
        runner_parked_ = current_g();
        runtime.park_and_unlock(runner_lock_, "finalizer wait");
        continue;
      }
      runner_lock_.unlock();
    }
    {
      const Outside outside;  // the program's code
      due.f.call_once(due.payload);
    }
    Guard<Mutex> hold(lock_);
    running_ = nullptr;
  }
}

}  // namespace gearbox
