// Stopping the world, walking the roots, changing GOMAXPROCS.
//
// A stop asks every P (runtime/procs.h): Ps that no M runs are stopped on the spot, running ones count themselves down at
// their next safepoint, where their M holds them with the goroutine's context saved. The last one wakes the stopper.
//
//   S4  While the world is stopped no goroutine runs but the stopper's, and every other one's context is saved.
#include <algorithm>
#include <bit>

#include "base/os/clock.h"
#include "base/sanitize.h"
#include "interfaces/mutant.h"
#include "runtime/finalizer.h"
#include "runtime/misuse.h"
#include "runtime/panic.h"
#include "runtime/root.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace {
constexpr std::int64_t kStopRetryNs = 1'000'000;
constexpr std::int64_t kStopSpinNs = 30'000;
constexpr std::int64_t kFirstSignalNs = 50'000, kNextSignalNs = 100'000;
constexpr std::size_t kMostStops = std::size_t{1} << 20;  // 16 MiB; a stop each millisecond for a quarter of an hour
constexpr std::int64_t kSlowStopNs = 1'000'000'000;       // in the words of report_slow_stop(), too
}  // namespace

// Watches `word` for as long as waking a sleeper would take. True once it differs. A stop costs two such wake-ups
// otherwise, and they are longer than most pauses. Not when there are more Ps than CPUs: whoever is waited for may then
// need the one that would be spun on.
bool Runtime::spin_until(const std::atomic<std::uint32_t>& word, std::uint32_t differs_from) const {
  if (cpus_ < 2 || p_count() > cpus_) return false;
  const std::int64_t began = os::monotonic_ns();
  do {
    for (int i = 0; i < 32; ++i) {
      if (word.load(std::memory_order_acquire) != differs_from) return true;
      cpu_relax();
    }
  } while (os::monotonic_ns() - began < kStopSpinNs);
  return false;
}

// On the M's stack, with p owned and the context of whatever goroutine it ran saved.
void Runtime::hold_at_safepoint(Machine* m, Processor* p) {
  std::uint32_t epoch = 0;
  if (!procs_.stop_at_safepoint(p, epoch)) return;
  const std::int64_t asked = stop_asked_ns_.load(std::memory_order_relaxed);
  wait_for_start(epoch);
  record_pause_seen(asked);
  // GOMAXPROCS may have changed meanwhile, and by the time this M runs again more than once: only m->p says whether it
  // still has a P. What became of the P itself is no longer this M's business.
  set_current_p(m->p);
}

// Until Procs::epoch() differs: the world has started, or the program has ended.
void Runtime::wait_for_start(std::uint32_t epoch) {
  std::atomic<std::uint32_t>& word = procs_.epoch();
  if (spin_until(word, epoch)) return;
  held_asleep_.fetch_add(1, std::memory_order_seq_cst);  // partner: start_the_world(), which looks after its change
  while (word.load(std::memory_order_seq_cst) == epoch) os::futex_wait(word, epoch, os::kForever);
  held_asleep_.fetch_sub(1, std::memory_order_relaxed);
}

// A stop as a goroutine saw it: from the request until the goroutine goes on. Beside the pause that a collector records,
// which ends when the world is released.
void Runtime::record_pause_seen(std::int64_t asked_ns) {
  const std::int64_t took = os::monotonic_ns() - asked_ns;
  Guard<SpinLock> hold(pause_seen_lock_);
  pause_seen_ns_.record(static_cast<std::uint64_t>(std::max<std::int64_t>(took, 0)));
}

// Main has returned, and the program was given up while some P could not be stopped. Whoever wanted the world for itself
// must not go on as if it had it.
void Runtime::never_return() {
  if (current_goroutine() != nullptr) on_system_stack([](void*) {}, nullptr);  // the loop sees that all has ended
  for (;;) os::futex_wait(end_word_, end_word_.load(std::memory_order_relaxed), os::kForever);  // on an M's stack
}

std::int64_t Runtime::stop_the_world(const char*) {
  const Inside inside;
  const std::int64_t began = os::monotonic_ns();
  take_the_world();
  return stop_all_others(began, false);
}

void Runtime::take_the_world() {
  if (current_p() == nullptr) die_of_misuse();  // inside blocking()
  // The world lock. On a goroutine a second stopper parks; on an M's stack (the goroutine's context is saved) it takes
  // part in the first stop.
  for (;;) {
    world_lock_.lock();
    if (!world_taken_) {
      world_taken_ = true;
      world_lock_.unlock();
      break;
    }
    if (Goroutine* g = current_goroutine(); g != nullptr) {
      world_waiters_.push_back(g);
      park_and_unlock(world_lock_, "stop the world");
      continue;  // the one that woke us gave the lock up, and others may be faster
    }
    world_lock_.unlock();
    Machine* m = current_machine();
    if (ended_.load(std::memory_order_acquire)) never_return();
    GEARBOX_REQUIRE(m->p != nullptr, "S2: P lost while its M waited to stop the world from its own stack");
    if ((m->p->attention.load(std::memory_order_acquire) & kAttentionStop) != 0)
      hold_at_safepoint(m, static_cast<Processor*>(m->p));
    else
      os::yield_thread();
  }
}

// The caller has the world. Returns the nanoseconds since began_ns.
std::int64_t Runtime::stop_all_others(std::int64_t began_ns, bool wait_for_arrivals) {
  const Processor* mine = current_processor();
  stop_asked_ns_.store(os::monotonic_ns(), std::memory_order_relaxed);
  procs_.begin_stop(mine, wait_for_arrivals);
  std::atomic<std::uint32_t>& stopped = procs_.stop_word();
  spin_until(stopped, Procs::kAwaited);
  std::int64_t patience = signals() ? kFirstSignalNs : kStopRetryNs;
  bool is_slow = false;
  for (;;) {
    // Not for the last stop: once main has returned, what cannot be stopped is left behind.
    if (!is_slow && end_word_.load(std::memory_order_relaxed) == kRunning &&
        os::monotonic_ns() - began_ns > kSlowStopNs) {
      is_slow = true;
      report_slow_stop();
    }
    if (ended_.load(std::memory_order_acquire)) never_return();
    std::uint32_t word = Procs::kAwaited;
    if (!stopped.compare_exchange_strong(word, Procs::kSleeps, std::memory_order_acq_rel) && word == Procs::kReached)
      break;  // partner: Procs::count_stopped()
    if (os::futex_wait(stopped, Procs::kSleeps, patience)) continue;
    procs_.take_calls(mine);  // a P may have entered a call right after it was asked
    if (!signals()) continue;
    signal_unanswered();
    patience = kNextSignalNs;
  }
  const std::int64_t took = os::monotonic_ns() - began_ns;
  time_to_stop_ns_.record(static_cast<std::uint64_t>(took));
#if defined(GEARBOX_CHECKED)
  procs_.check_stopped(mine);
  scheduler_->check();
#endif
  // Until the world starts, its stopper is inside: an interruption must not take its P away.
  set_current_inside(current_inside() + 1);
  return took;
}

// To the threads of the Ps that have not stopped (preempt.h). Numbers first, signals after: the lock is for moments.
void Runtime::signal_unanswered() {
  std::array<int, kMaxPs> threads;
  const std::size_t count = procs_.unanswered(threads);
  for (std::size_t i = 0; i < count; ++i) preempt::send(threads[i]);
  counters_.signals.fetch_add(count, std::memory_order_relaxed);
}

std::int64_t Runtime::start_the_world() {
  const std::int64_t asked = stop_asked_ns_.load(std::memory_order_relaxed);
  procs_.end_stop();
  // The pause ends here. What follows may take this thread off its CPU for a scheduler's slice, while the world runs.
  const std::int64_t released = os::monotonic_ns();
  if (held_asleep_.load(std::memory_order_seq_cst) != 0) os::futex_wake(procs_.epoch(), 1 << 30);
  stops_.size() < kMostStops ? stops_.push_back({asked, released}) : void(++stops_left_out_);
  wake_sysmon();
  if (scheduler_->has_runnable()) wake_one_parked_p();
  watch_timers_anew();  // deadlines that passed, or came up, while no P was idle for the watcher to take

  world_lock_.lock();
  world_taken_ = false;
  G* next = world_waiters_.pop_front();
  world_lock_.unlock();
  if (next != nullptr) ready(next);
  record_pause_seen(asked);
  set_current_inside(current_inside() - 1);
  return released;
}

// ---- roots

GEARBOX_NO_SANITIZE("address", "thread")
void Runtime::visit_stack(G* g, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) {
  auto* goroutine = static_cast<Goroutine*>(g);
  const GStatus status = g->status.load(std::memory_order_acquire);
  if (status == GStatus::kDead) return;
  if (goroutine->closure_bytes != 0)
    visit(context, static_cast<const std::uintptr_t*>(g->closure), goroutine->closure_bytes / sizeof(std::uintptr_t));
  if (g->stack_hi == 0) return;  // it has not run yet
  std::uintptr_t low = reinterpret_cast<std::uintptr_t>(g->context.sp);
  if (status == GStatus::kSyscall) low = goroutine->syscall_sp;
  low = (low - 128) & ~std::uintptr_t{7};  // the red zone
  low = std::max(low, g->stack_lo);
  if (low < g->stack_hi)
    visit(context, reinterpret_cast<const std::uintptr_t*>(low), (g->stack_hi - low) / sizeof(std::uintptr_t));
  if (goroutine->frozen != nullptr && !GEARBOX_MUTANT(kHideRegisters))
    preempt::visit_registers(*goroutine->frozen, visit, context);  // X1
}

std::size_t Runtime::root_jobs() const { return roots::kShards + finalizers_->queue_jobs(); }

void Runtime::visit_roots(std::size_t job, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) {
  if (job < roots::kShards) {
    if (!GEARBOX_MUTANT(kSkipRoots)) roots::visit(job, visit, context);
  } else {
    finalizers_->visit_queued(job - roots::kShards, visit, context);
  }
}

void Runtime::visit_gs(std::size_t group, void (*visit)(void*, G*), void* context) {
  const auto first = static_cast<std::uint32_t>(group * kSlotsAGroup);
  std::atomic<std::uint32_t>& stamp = goroutines_.group_epoch(first);
  if (scan_epoch_ - stamp.load(std::memory_order_relaxed) > 1) return;  // K4
  bool alive = false;
  const std::uint32_t end = std::min<std::uint32_t>(first + kSlotsAGroup, goroutines_.count());
  for (std::uint32_t slot = first; slot < end; ++slot) {
    G* g = goroutines_.at(slot);
    if (g->status.load(std::memory_order_acquire) == GStatus::kDead) continue;
    alive = true;
    visit(context, g);
  }
  // A birth in the meantime stores the same value.
  if (alive) stamp.store(scan_epoch_, std::memory_order_relaxed);
}

std::uint32_t Runtime::arm_stack_scan() {
  Guard<SpinLock> hold(free_lock_);  // against births on threads without a P: stamp_birth()
  for (PId i = 0; i < p_count(); ++i) procs_.at(i).scanning = true;
  return ++scan_epoch_;
}

void Runtime::disarm_stack_scan() {
  for (PId i = 0; i < p_count(); ++i) procs_.at(i).scanning = false;
}

void Runtime::set_marking(bool on) {
  for (PId i = 0; i < p_count(); ++i) procs_.at(i).marking = on;
  on ? shaded_.open() : shaded_.close();
}

std::size_t Runtime::finalizer_jobs() const { return finalizers_->jobs(); }
void Runtime::visit_finalizer_objects(std::size_t job, void (*visit)(void*, void*), void* context) {
  finalizers_->visit_objects(job, visit, context);
}
void Runtime::queue_dead_finalizers(std::size_t job, bool (*is_dead)(void*, void*), void* context) {
  finalizers_->queue_dead(job, is_dead, context);
}

std::uint64_t Runtime::total_allocated_bytes() const noexcept {
  std::uint64_t bytes = 0;
  procs_.for_each_ever([&bytes](const Processor& p) {
    bytes += p.cache.allocated_bytes;
    for (const Window& window : p.cache.windows)
      bytes -= static_cast<std::uint64_t>(std::popcount(window.free)) * window.stride;
  });
  return bytes;
}

// ---- GOMAXPROCS

Processor* Runtime::make_processor(PId id, bool world_stopped) {
  Processor* p = procs_.add(id, world_stopped);
  p->collector = collector_.get();
  p->heap = &heap_;
  p->random = Random(options_.seed * 1000003 + id);
  return p;
}

PId Runtime::set_procs(PId n) {
  const Inside inside;
  const PId wanted = std::clamp<PId>(n, 1, kMaxPs);
  if (n == 0 || wanted == p_count()) return p_count();
  if (max_procs_ != 0 && wanted > max_procs_)
    runtime_panic(
        fmt::format("GOMAXPROCS({}): the scheduler runs at most {} P{}", n, max_procs_, max_procs_ == 1 ? "" : "s"));
  // A collection that is under way has flags in every P; the change waits for a moment between two cycles, when P flags
  // are all down. The look before the stop keeps a long mark from being stopped over and over.
  for (;;) {
    while (heap_.phase.load(std::memory_order_acquire) == GcPhase::kMark) sleep_ns(100'000);
    // Ps on their way to an M are awaited: an M must not find that the P it was given has gone.
    const std::int64_t began = os::monotonic_ns();
    take_the_world();
    stop_all_others(began, true);
    if (heap_.phase.load(std::memory_order_acquire) != GcPhase::kMark) break;
    start_the_world();
  }
  const PId former = p_count();  // only now: another call may have been faster
  for (PId id = former; id < wanted; ++id) {
    Processor* p = make_processor(id, true);
    p->marking = false;
    p->scanning = false;
    allocator_->p_added(*p);
    scheduler_->p_added(id);
  }
  // Threads without a P look through all Ps, and no stop holds them: sysmon, an M that lies down.
  procs_.publish_count(std::max(former, wanted));
  if (wanted < former) {
    Machine* m = current_machine();
    if (m->p->id >= wanted) procs_.move_to_first(m);
    for (PId id = wanted; id < former; ++id) remove_processor(&procs_.at(id));
  }
  procs_.publish_count(wanted);
  start_the_world();
  return former;
}

// World stopped. The M that is held with p, if there is one, is parted from it here and not when it wakes: p may have
// been added again by then. It finds itself without a P, and what it ran goes back to the queue.
void Runtime::remove_processor(Processor* p) {
  scheduler_->p_removed(p->id);
  allocator_->p_removed(*p);
  p->timers.move_all_to(procs_.at(0).timers);
  {
    Guard<SpinLock> hold(free_lock_);
    free_gs_.append(p->free_gs);
  }
  stacks_.take_back(p->free_stacks, true);
  procs_.remove(p);
}

}  // namespace gearbox
