// Stopping the world, walking the roots, changing GOMAXPROCS.
//
// A stop marks every P under idle_lock_: idle Ps and Ps in system calls are stopped on the spot (whoever comes back
// finds no P and waits); running ones are asked through P::attention and count themselves down at their next safepoint,
// where their M holds them with the goroutine's context saved. The last one wakes the stopper.
//
//   S4  While the world is stopped no goroutine runs but the stopper's, and every other one's context is saved.
#include <algorithm>

#include "base/os/clock.h"
#include "interfaces/mutant.h"
#include "runtime/finalizer.h"
#include "runtime/panic.h"
#include "runtime/root.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace {
constexpr std::int64_t kStopRetryNs = 1'000'000;
constexpr std::int64_t kStopSpinNs = 30'000;
// Values of stop_word_. Only the stopper goes from awaited to sleeping, so that the last P to stop makes a system call
// only for one that sleeps.
constexpr std::uint32_t kStopAwaited = 0, kStopReached = 1, kStopSleeps = 2;
}  // namespace

// idle_lock_ held.
void Runtime::count_stopped() {
  GEARBOX_INVARIANT(S4, stop_wait_ > 0, "more Ps stopped than there are");
  if (--stop_wait_ == 0) {
    if (stop_word_.exchange(kStopReached, std::memory_order_acq_rel) == kStopSleeps) os::futex_wake(stop_word_, 1);
  }
}

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
  {
    Guard<SpinLock> hold(idle_lock_);
    // Read under the lock that start_the_world() changes it under: an epoch from before the last start would let this M
    // go while the next stop counts on it.
    epoch = world_epoch_.load(std::memory_order_relaxed);
    if (!stop_requested_ || ended_.load(std::memory_order_relaxed)) {
      p->attention.fetch_and(~kAttentionStop, std::memory_order_relaxed);
      return;
    }
    p->status.store(PStatus::kStopped, std::memory_order_release);
    count_stopped();
  }
  if (!spin_until(world_epoch_, epoch)) {
    held_asleep_.fetch_add(1, std::memory_order_seq_cst);  // partner: start_the_world(), which looks after its change
    while (world_epoch_.load(std::memory_order_seq_cst) == epoch) os::futex_wait(world_epoch_, epoch, os::kForever);
    held_asleep_.fetch_sub(1, std::memory_order_relaxed);
  }
  // GOMAXPROCS may have changed meanwhile, and by the time this M runs again more than once: only m->p says whether it
  // still has a P. What became of the P itself is no longer this M's business.
  set_current_p(m->p);
}

// Main has returned, and the program was given up while some P could not be stopped. Whoever wanted the world for itself
// must not go on as if it had it.
void Runtime::never_return() {
  if (current_goroutine() != nullptr) on_system_stack([](void*) {}, nullptr);  // the loop sees that all has ended
  for (;;) os::futex_wait(end_word_, end_word_.load(std::memory_order_relaxed), os::kForever);  // on an M's stack
}

std::int64_t Runtime::stop_the_world(const char*) {
  const std::int64_t began = os::monotonic_ns();
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
  const Processor* mine = current_processor();
  {
    Guard<SpinLock> hold(idle_lock_);
    stop_requested_ = true;
    stop_word_.store(kStopAwaited, std::memory_order_relaxed);
    stop_wait_ = p_count() - 1;
    for (PId i = 0; i < p_count(); ++i) {
      Processor* p = ps_[i].get();
      if (p == mine) continue;
      p->attention.fetch_or(kAttentionStop, std::memory_order_seq_cst);
      PStatus in_call = PStatus::kSyscall;
      if (p->status.load(std::memory_order_relaxed) == PStatus::kIdle) {
        p->status.store(PStatus::kStopped, std::memory_order_relaxed);
        --stop_wait_;
      } else if (p->status.compare_exchange_strong(in_call, PStatus::kStopped, std::memory_order_acq_rel)) {
        --stop_wait_;
      }
    }
    idle_ps_.clear();
    idle_count_.store(0, std::memory_order_seq_cst);
    if (stop_wait_ == 0) stop_word_.store(kStopReached, std::memory_order_relaxed);
  }
  spin_until(stop_word_, kStopAwaited);
  for (;;) {
    if (ended_.load(std::memory_order_acquire)) never_return();
    std::uint32_t word = kStopAwaited;
    if (!stop_word_.compare_exchange_strong(word, kStopSleeps, std::memory_order_acq_rel) && word == kStopReached)
      break;  // partner: count_stopped()
    if (os::futex_wait(stop_word_, kStopSleeps, kStopRetryNs)) continue;
    // A P may have entered a system call right after it was asked: take it there.
    Guard<SpinLock> hold(idle_lock_);
    for (PId i = 0; i < p_count() && stop_wait_ > 0; ++i) {
      PStatus in_call = PStatus::kSyscall;
      if (ps_[i].get() != mine &&
          ps_[i]->status.compare_exchange_strong(in_call, PStatus::kStopped, std::memory_order_acq_rel))
        count_stopped();
    }
  }
  const std::int64_t took = os::monotonic_ns() - began;
  time_to_stop_ns_.record(static_cast<std::uint64_t>(took));
#if defined(GEARBOX_CHECKED)
  check_stopped();
  scheduler_->check();
#endif
  return took;
}

// S2, S3 and S4 as far as Ps go: each is the stopper's, or stopped with nobody or with an M that says the same.
void Runtime::check_stopped() {
  Guard<SpinLock> hold(idle_lock_);
  GEARBOX_REQUIRE(idle_ps_.empty() && stop_wait_ == 0, "S3: {} Ps idle, {} awaited in a stopped world", idle_ps_.size(),
                  stop_wait_);
  for (PId i = 0; i < kMaxPs && ps_[i] != nullptr; ++i) {
    const Processor* p = ps_[i].get();
    const PStatus status = p->status.load(std::memory_order_acquire);
    const bool is_mine = p == current_p();
    GEARBOX_REQUIRE(status == (i >= p_count() ? PStatus::kRemoved : (is_mine ? PStatus::kRunning : PStatus::kStopped)),
                    "S3: P {} of {} has status {} in a stopped world", i, p_count(), static_cast<int>(status));
    GEARBOX_REQUIRE(p->m == nullptr ? !is_mine : p->m->p == p, "S2: P {} and its M disagree in a stopped world", i);
    GEARBOX_REQUIRE(status != PStatus::kRemoved || p->m == nullptr, "S2: P {} is removed and has an M", i);
  }
}

void Runtime::start_the_world() {
  {
    Guard<SpinLock> hold(idle_lock_);
    stop_requested_ = false;
    for (PId i = 0; i < p_count(); ++i) {
      Processor* p = ps_[i].get();
      p->attention.fetch_and(~kAttentionStop, std::memory_order_relaxed);
      if (p->status.load(std::memory_order_relaxed) != PStatus::kStopped) continue;
      if (p->m != nullptr) {
        p->status.store(PStatus::kRunning, std::memory_order_release);
      } else {
        p->status.store(PStatus::kIdle, std::memory_order_release);
        idle_ps_.push_back(p);
      }
    }
    idle_count_.store(static_cast<PId>(idle_ps_.size()), std::memory_order_seq_cst);
    world_epoch_.fetch_add(1, std::memory_order_seq_cst);  // partner: hold_at_safepoint()
  }
  if (held_asleep_.load(std::memory_order_seq_cst) != 0) os::futex_wake(world_epoch_, 1 << 30);
  wake_sysmon();
  if (scheduler_->has_runnable()) wake_one_parked_p();
  watch_timers_anew();  // deadlines that passed, or came up, while no P was idle for the watcher to take

  world_lock_.lock();
  world_taken_ = false;
  G* next = world_waiters_.pop_front();
  world_lock_.unlock();
  if (next != nullptr) ready(next);
}

// ---- roots

[[gnu::no_sanitize("address", "thread")]] void Runtime::visit_stack(
    G* g, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) {
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
}

std::size_t Runtime::root_jobs() const { return roots::kShards + 1; }

void Runtime::visit_roots(std::size_t job, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) {
  if (job < roots::kShards) {
    if (!GEARBOX_MUTANT(kSkipRoots)) roots::visit(job, visit, context);
  } else {
    finalizers_->visit_queued(visit, context);
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
  for (PId i = 0; i < p_count(); ++i) ps_[i]->scanning = true;
  return ++scan_epoch_;
}

void Runtime::disarm_stack_scan() {
  for (PId i = 0; i < p_count(); ++i) ps_[i]->scanning = false;
}

void Runtime::set_marking(bool on) {
  for (PId i = 0; i < p_count(); ++i) ps_[i]->marking = on;
  on ? shaded_.open() : shaded_.close();
}

void Runtime::visit_finalizer_objects(void (*visit)(void*, void*), void* context) {
  finalizers_->visit_objects(visit, context);
}
void Runtime::queue_dead_finalizers(bool (*is_dead)(void*, void*), void* context) {
  finalizers_->queue_dead(is_dead, context);
}

std::uint64_t Runtime::total_allocated_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const auto& p : ps_)
    if (p != nullptr) bytes += p->cache.allocated_bytes;
  return bytes;
}

// ---- GOMAXPROCS

Processor* Runtime::make_processor(PId id) {
  if (ps_[id] == nullptr) ps_[id] = std::make_unique<Processor>();
  Processor* p = ps_[id].get();
  p->id = id;
  p->collector = collector_.get();
  p->heap = &heap_;
  p->random = Random(options_.seed * 1000003 + id);
  p->attention.store(0, std::memory_order_relaxed);
  return p;
}

PId Runtime::set_procs(PId n) {
  const PId wanted = std::clamp<PId>(n, 1, kMaxPs);
  if (n == 0 || wanted == p_count()) return p_count();
  if (max_procs_ != 0 && wanted > max_procs_)
    runtime_panic(
        fmt::format("GOMAXPROCS({}): the scheduler runs at most {} P{}", n, max_procs_, max_procs_ == 1 ? "" : "s"));
  // A collection that is under way has flags in every P; the change waits for a moment between two cycles, when P flags
  // are all down. The look before the stop keeps a long mark from being stopped over and over.
  for (;;) {
    while (heap_.phase.load(std::memory_order_acquire) == GcPhase::kMark) sleep_ns(100'000);
    stop_the_world("GOMAXPROCS");
    if (heap_.phase.load(std::memory_order_acquire) != GcPhase::kMark) break;
    start_the_world();
  }
  const PId former = p_count();  // only now: another call may have been faster
  for (PId id = former; id < wanted; ++id) {
    Processor* p = make_processor(id);
    p->marking = false;
    p->scanning = false;
    allocator_->p_added(*p);
    scheduler_->p_added(id);
    p->status.store(PStatus::kStopped, std::memory_order_relaxed);
  }
  // Threads without a P look through all Ps, and no stop holds them: sysmon, an M that lies down.
  p_count_.store(std::max(former, wanted), std::memory_order_release);  // partner: p_count()
  if (wanted < former) {
    Machine* m = current_machine();
    auto* mine = static_cast<Processor*>(m->p);
    if (mine->id >= wanted) {  // this goroutine goes on with P 0, and P 0's M, if it has one, with nothing
      Processor* zero = ps_[0].get();
      if (zero->m != nullptr) zero->m->p = nullptr;
      mine->m = nullptr;
      zero->m = m;
      m->p = zero;
      set_current_p(zero);
      zero->status.store(PStatus::kRunning, std::memory_order_relaxed);
    }
    for (PId id = wanted; id < former; ++id) remove_processor(ps_[id].get());
  }
  p_count_.store(wanted, std::memory_order_release);  // partner: p_count()
  start_the_world();
  return former;
}

// World stopped. The M that is held with p, if there is one, is parted from it here and not when it wakes: p may have
// been added again by then. It finds itself without a P, and what it ran goes back to the queue.
void Runtime::remove_processor(Processor* p) {
  if (p->m != nullptr) p->m->p = nullptr;
  p->m = nullptr;
  scheduler_->p_removed(p->id);
  allocator_->p_removed(*p);
  p->timers.move_all_to(ps_[0]->timers);
  {
    Guard<SpinLock> hold(free_lock_);
    free_gs_.append(p->free_gs);
  }
  stacks_.take_back(p->free_stacks, true);
  p->status.store(PStatus::kRemoved, std::memory_order_relaxed);
}

}  // namespace gearbox
