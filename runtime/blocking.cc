// Entering and leaving blocking calls (blocking.h says what and why).
//
//   S3  (runtime/procs.h) The P of a goroutine in a call is in status kSyscall until exactly one takes it: the goroutine
//       that comes back, sysmon, a stop of the world.
//   S6  The lane of an M with a locked goroutine, where lanes have owners, holds no operation but that goroutine's own:
//       it may block the thread for as long as it likes. A goroutine that locks itself while others' operations are in
//       flight on its M's lane gets a new M; afterwards its M runs nobody else.
#include "runtime/blocking.h"

#include <algorithm>

#include "runtime/fatal.h"

namespace gearbox {

void Runtime::enter_blocking() {
  const Inside inside;
  Goroutine* g = current_goroutine();
  Machine* m = current_machine();
  blocked_calls_.fetch_add(1, std::memory_order_relaxed);
  g->status.store(GStatus::kSyscall, std::memory_order_release);
  g->wait_word = procs_.enter_call(m);  // to take back
}

void Runtime::exit_blocking() {
  const Inside inside;
  Goroutine* g = current_goroutine();
  Machine* m = current_machine();
  if (!m->blocking_only) {
    auto* p = static_cast<Processor*>(std::exchange(g->wait_word, nullptr));
    if (procs_.leave_call(m, p)) {
      blocked_calls_.fetch_sub(1, std::memory_order_relaxed);
      if (p->scanning) collector_->scan_before_run(g);
      g->status.store(GStatus::kRunning, std::memory_order_relaxed);
      return;
    }
  }
  // Its P is gone. From the M's own stack: any idle P, or the queue. Its status stays kSyscall until it has left its
  // stack.
  g->wait_reason = "syscall return";
  m->after = [](Runtime& runtime, Goroutine* left, void*) {
    Machine* machine = current_machine();
    left->status.store(GStatus::kRunnable, std::memory_order_relaxed);
    // Before anybody can run it: this M is awake, so nobody can think that all are asleep.
    runtime.blocked_calls_.fetch_sub(1, std::memory_order_relaxed);
    Processor* p = nullptr;
    if (!machine->blocking_only) {
      Guard<SpinLock> hold(runtime.procs_.lock());
      p = runtime.procs_.take_idle_for(machine);
    }
    if (p != nullptr) {
      runtime.wake_sysmon();
      machine->held = left;
    } else {
      runtime.scheduler_->enqueue(left, kNoP, Why::kInjected);
    }
  };
  m->after_g = g;
  leave(g, m, nullptr, false);
}

void Runtime::move_to_blocking_thread() {
  const Inside inside;
  if (current_machine()->locked_g != nullptr) {  // S6: it must not leave its thread, and need not
    enter_blocking();
    return;
  }
  blocked_calls_.fetch_add(1, std::memory_order_relaxed);
  park(
      [](Runtime& runtime, Goroutine* g, void*) {
        g->status.store(GStatus::kSyscall, std::memory_order_release);
        Machine* m = nullptr;
        {
          Guard<SpinLock> hold(runtime.procs_.lock());
          m = runtime.idle_blocking_machines_;
          if (m != nullptr) {
            runtime.idle_blocking_machines_ = m->next_idle;
            --runtime.idle_blocking_count_;
            m->blocking_g = g;
          }
        }
        if (m != nullptr) {
          m->wake_word.fetch_add(1, std::memory_order_release);
          os::futex_wake(m->wake_word, 1);
          return;
        }
        m = runtime.new_machine();
        m->blocking_only = true;
        m->blocking_g = g;
        auto started = os::start_thread(&Runtime::machine_entry, m, 256 * 1024, "gearbox-blocking");
        if (started) {
          m->thread = *started;
          return;
        }
        Guard<SpinLock> hold(runtime.procs_.lock());
        runtime.counters_.threads_refused.fetch_add(1, std::memory_order_relaxed);
        runtime.take_back(m);
        const bool has_any = std::any_of(runtime.machines_.begin(), runtime.machines_.end(),
                                         [](const auto& each) { return each->blocking_only; });
        if (!has_any) fatal_error("no thread for a blocking call: " + started.error().message);
        // The next one that is free takes it, and one may have become so just now.
        runtime.waits_for_blocking_machine_.push_back(g);
        m = runtime.idle_blocking_machines_;
        if (m == nullptr) return;
        runtime.idle_blocking_machines_ = m->next_idle;
        --runtime.idle_blocking_count_;
        m->wake_word.fetch_add(1, std::memory_order_release);
        os::futex_wake(m->wake_word, 1);
      },
      nullptr, "blocking call");
}

void Runtime::lock_to_thread() {
  const Inside inside;
  Goroutine* g = current_goroutine();
  if (g->locked_m == nullptr && lane_owner_ && poller_->in_flight(lane()) != 0) {
    park(
        [](Runtime& runtime, Goroutine* left, void*) {
          left->status.store(GStatus::kRunnable, std::memory_order_relaxed);
          Machine* m = runtime.new_machine();
          m->locked_g = left;
          left->locked_m = m;
          // A refusal leaves it where it is: S6 is worth a thread, not the process.
          if (!runtime.start_thread_of(m)) left->locked_m = nullptr;
          runtime.scheduler_->enqueue(left, kNoP, Why::kInjected);  // whoever picks it gives its P to its thread
        },
        nullptr, "thread of its own");
    if (g->locked_m != nullptr) return;
  }
  g->locked_m = current_m();
  current_machine()->locked_g = g;
}

void Runtime::blocking_thread_loop(Machine* m) {
  for (;;) {
    Goroutine* g = nullptr;
    std::uint32_t word = 0;
    bool dead = false;
    {
      Guard<SpinLock> hold(procs_.lock());
      word = m->wake_word.load(std::memory_order_relaxed);
      g = std::exchange(m->blocking_g, nullptr);
      if (g == nullptr) g = static_cast<Goroutine*>(waits_for_blocking_machine_.pop_front());
      if (g == nullptr) {
        if (ended_.load(std::memory_order_relaxed)) return;
        m->next_idle = idle_blocking_machines_;
        idle_blocking_machines_ = m;
        ++idle_blocking_count_;
        dead = nothing_can_happen();  // the goroutine that was here may have been the last to lie down
      }
    }
    if (dead) report_deadlock();
    if (g == nullptr) {
      while (m->wake_word.load(std::memory_order_acquire) == word) os::futex_wait(m->wake_word, word, os::kForever);
      if (ended_.load(std::memory_order_acquire)) return;
      continue;
    }
    g->m = m;
    m->current = g;
    set_current_g(g);
    switch_stacks(&m->context, &g->context, &m->identity, &g->identity, false);
    const After after = std::exchange(m->after, nullptr);
    after(*this, m->after_g, m->after_argument);
  }
}

}  // namespace gearbox
