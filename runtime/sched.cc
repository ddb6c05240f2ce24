// The switchboard: how a goroutine leaves, how the next one arrives, and the loop that each M runs when nobody is at
// hand.
//
//   leave()         on the parking goroutine's stack: local pick, one switch. HOT.
//   arrive()        on the other side: first `after` of whoever left, then this goroutine's own errno and exception
//                   state.
//   machine_loop()  on the M's stack: stop requests, timers, poller, full search, sleep.
//
// Rule for everything here: between a switch and the next, the M may have changed. current_machine() and
// current_processor() are read again after each switch and never carried across one. leave() and arrive() are noinline
// so that no caller's cached thread-local address survives.
#include <cxxabi.h>

#include <cstring>
#include <new>

#include "base/last_words.h"
#include "base/os/clock.h"
#include "interfaces/mutant.h"
#include "runtime/fatal.h"
#include "runtime/misuse.h"
#include "runtime/panic.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace {
// A P looks at its timers and the poller at least every this many switches, whatever its queue holds.
constexpr std::uint32_t kLookAroundMask = 63;
constexpr std::uint32_t kPollBudget = 128;
constexpr std::uint64_t kFreeGsPerP = 64;
constexpr std::uint64_t kIdsPerP = 16;

// What the thread's C library and the C++ runtime think is the goroutine's own: errno, and the exceptions that are being
// handled. Both words at once: a store could change the pointers, for all the compiler knows.
inline void keep_thread_state(Goroutine* g, const Machine* m) {
  g->saved_errno = *m->errno_address;
  g->saved_inside = current_inside();
  std::memcpy(g->exception_globals, m->exception_globals, sizeof(g->exception_globals));
}
inline void restore_thread_state(const Goroutine* g, const Machine* m) {
  *m->errno_address = g->saved_errno;
  set_current_inside(g->saved_inside);
  std::memcpy(m->exception_globals, g->exception_globals, sizeof(g->exception_globals));
}
}  // namespace

// ---- leaving and arriving

[[gnu::noinline]] void Runtime::leave(Goroutine* g, Machine* m, Processor* p, bool dies) {
  Goroutine* next = nullptr;
  bool inherit_slice = false;
  if (p != nullptr && p->attention.load(std::memory_order_relaxed) == 0 &&
      (++p->schedule_tick & kLookAroundMask) != 0 && g->locked_m == nullptr) [[likely]] {
    next = static_cast<Goroutine*>(scheduler_->pick_local(p->id, inherit_slice));
    if (next != nullptr && (next->locked_m != nullptr || (next->stack_hi == 0 && !dies && p->free_stacks.count == 0)))
        [[unlikely]] {
      m->held = next;  // it belongs to another thread, or there is a stack to be made: the loop's work
      next = nullptr;
    }
  }
  keep_thread_state(g, m);
  if (next != nullptr) {
    begin_running(m, p, next, inherit_slice);
    if (next->stack_hi == 0) {
      if (dies) {
        // Nothing on this stack is needed behind the switch, so the next one begins at its top, where the pages are warm.
        const Stack mine{g->stack_lo, g->stack_hi};
        g->stack_lo = g->stack_hi = 0;
        give_stack(next, mine);
      } else {
        give_stack(next, p->free_stacks.stacks[--p->free_stacks.count]);
      }
    }
    switch_stacks(&g->context, &next->context, &g->identity, &next->identity, dies);
  } else {
    if (p == nullptr && g->status.load(std::memory_order_relaxed) != GStatus::kSyscall) [[unlikely]]
      die_of_misuse();  // parks inside blocking()
    set_current_g(nullptr);
    switch_stacks(&g->context, &m->context, &g->identity, &m->identity, dies);
  }
  arrive();
}

[[gnu::noinline]] void Runtime::arrive() {
  Machine* m = current_machine();
  if (const After after = m->after) {
    m->after = nullptr;
    after(*this, m->after_g, m->after_argument);
  }
  Goroutine* me = current_goroutine();
  restore_thread_state(me, m);
}

// Everything that must be true before g's first instruction on this M.
inline void Runtime::begin_running(Machine* m, Processor* p, Goroutine* g, bool inherit_slice) {
  GEARBOX_INVARIANT(S1, g->status.load() == GStatus::kRunnable || g->status.load() == GStatus::kStopped,
                    "goroutine {} is about to run with status {}", g->id, static_cast<int>(g->status.load()));
  if (!inherit_slice) p->slice_tick.store(p->slice_tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (p->scanning && !GEARBOX_MUTANT(kRunUnscanned)) [[unlikely]]
    collector_->scan_before_run(g);
  g->status.store(GStatus::kRunning, std::memory_order_relaxed);
  g->m = m;
  m->current = g;
  set_current_g(g);
}

// For g's first run (K3).
inline void Runtime::give_stack(Goroutine* g, Stack stack) {
  g->stack_lo = stack.lo;
  g->stack_hi = stack.hi;
#if GEARBOX_ASAN
  g->identity.asan_bottom = reinterpret_cast<const void*>(stack.lo);
  g->identity.asan_bytes = stack.hi - stack.lo;
  __asan_unpoison_memory_region(reinterpret_cast<const void*>(stack.lo), stack.hi - stack.lo);
#endif
  // A called function finds its return address 8 below a multiple of 16; here it is null: the end for every unwinder.
  auto* top = reinterpret_cast<std::uintptr_t*>((stack.hi & ~std::uintptr_t{15}) - 8);
  *top = 0;
  g->context.sp = top;
}

void Runtime::park(After after, void* argument, const char* why) {
  check_inside();
  Goroutine* g = current_goroutine();
  Machine* m = current_machine();
  g->wait_reason = why;
  g->status.store(GStatus::kWaiting, std::memory_order_relaxed);
  m->after = after;
  m->after_g = g;
  m->after_argument = argument;
  leave(g, m, current_processor(), false);
}

inline void Runtime::unpark(G* g, Why why) {
  check_inside();
  GEARBOX_INVARIANT(S1, g->status.load() == GStatus::kWaiting, "goroutine {} is readied with status {}", g->id,
                    static_cast<int>(g->status.load()));
  g->status.store(GStatus::kRunnable, std::memory_order_relaxed);
  const P* p = current_p();
  if (p != nullptr) [[likely]]
    scheduler_->enqueue(g, p->id, why);
  else
    scheduler_->enqueue(g, kNoP, Why::kInjected);
}
void Runtime::ready(G* g) { unpark(g, Why::kReadied); }
void Runtime::hand_over(G* g) { unpark(g, Why::kHandedOver); }

void Runtime::gosched(Why why) {
  const Inside inside;
  Goroutine* g = current_goroutine();
  Machine* m = current_machine();
  g->status.store(GStatus::kRunnable, std::memory_order_relaxed);
  m->after = [](Runtime& runtime, Goroutine* left, void* reason) {
    runtime.scheduler_->enqueue(left, current_p()->id, static_cast<Why>(reinterpret_cast<std::uintptr_t>(reason)));
  };
  m->after_g = g;
  m->after_argument = reinterpret_cast<void*>(static_cast<std::uintptr_t>(why));
  leave(g, m, current_processor(), false);
}

void Runtime::yield() { gosched(Why::kYielded); }

// The unlock runs on the other side of the switch, where the analysis cannot follow.
void Runtime::park_and_unlock(SpinLock& lock, const char* why) GEARBOX_NO_THREAD_SAFETY_ANALYSIS {
  park([](Runtime&, Goroutine*, void* held)
           GEARBOX_NO_THREAD_SAFETY_ANALYSIS { static_cast<SpinLock*>(held)->unlock(); },
       &lock, why);
}

[[gnu::noinline]] void Runtime::safepoint_slow() {
  if (speaks_last_words()) return;  // the end of the program would stop the report for good
  const Inside inside;
  Processor* p = current_processor();
  const std::uint32_t attention = p->attention.load(std::memory_order_acquire);
  if ((attention & kAttentionStop) != 0) {
    // The M holds its P still, with this goroutine's context saved, and comes straight back: a stop does not change who
    // runs next.
    on_system_stack(
        [](void* self) {
          auto* runtime = static_cast<Runtime*>(self);
          Machine* m = current_machine();
          runtime->hold_at_safepoint(m, static_cast<Processor*>(m->p));
        },
        this);
    p = current_processor();
  }
  if ((p->attention.load(std::memory_order_relaxed) & kAttentionPreempt) != 0 && current_g()->no_preempt == 0) {
    // The request stays up: it sends leave() to the M's loop, which takes it down and looks at timers and poller. Going
    // straight to the next goroutine would leave both unseen while a few that compute take turns.
    counters_.preemptions.fetch_add(1, std::memory_order_relaxed);
    p->schedule_tick |= kLookAroundMask;  // a slice is a long time: timers and the poller before the next goroutine
    gosched(Why::kPreempted);
  }
}

void Runtime::on_system_stack(void (*f)(void*), void* argument) {
  const Inside inside;
  Goroutine* g = current_goroutine();
  Machine* m = current_machine();
  g->status.store(GStatus::kStopped, std::memory_order_relaxed);
  m->call = f;
  m->call_argument = argument;
  m->after_g = g;
  keep_thread_state(g, m);
  set_current_g(nullptr);
  switch_stacks(&g->context, &m->context, &g->identity, &m->identity, false);
  arrive();
}

// ---- birth and death

std::uint64_t Runtime::goroutine_count() const noexcept {
  std::int64_t count = goroutines_elsewhere_.load(std::memory_order_relaxed);
  procs_.for_each_ever([&count](const Processor& p) { count += p.goroutines.load(std::memory_order_relaxed); });
  return count > 0 ? static_cast<std::uint64_t>(count) : 0;
}

std::uint64_t Runtime::next_goroutine_id(Processor* p) noexcept {
  if (p == nullptr) return next_id_.fetch_add(1, std::memory_order_relaxed);
  if (p->next_id == p->id_end) [[unlikely]] {
    p->next_id = next_id_.fetch_add(kIdsPerP, std::memory_order_relaxed);
    p->id_end = p->next_id + kIdsPerP;
  }
  return p->next_id++;
}

Goroutine* Runtime::new_goroutine() {
  check_inside();
  Processor* p = current_processor();
  G* g = p != nullptr ? p->free_gs.pop_front() : nullptr;
  if (g == nullptr) [[unlikely]] {
    GList fresh;
    {
      Guard<SpinLock> hold(free_lock_);
      while (fresh.size() < kFreeGsPerP / 2 && !free_gs_.empty()) fresh.push_back(free_gs_.pop_front());
    }
    if (fresh.empty()) {
      if (auto grown = goroutines_.grow(p != nullptr ? 16 : 1, fresh); !grown)
        fatal_error(fmt::format("cannot create a goroutine: {}", grown.error().message));
    }
    g = fresh.pop_front();
    if (p != nullptr) {
      p->free_gs.append(fresh);
    } else {
      Guard<SpinLock> hold(free_lock_);
      free_gs_.append(fresh);
    }
  }
  auto* goroutine = static_cast<Goroutine*>(g);
#if GEARBOX_TSAN
  if (goroutine->identity.tsan_fiber == nullptr) goroutine->identity.tsan_fiber = __tsan_create_fiber(0);
#endif
  return goroutine;
}

// From here on g is alive for stack scans. With a P no scan can be armed meanwhile.
inline void Runtime::stamp_birth(Goroutine* g, const P* p) {
  if (p != nullptr) [[likely]] {
    std::atomic<std::uint32_t>& group = goroutines_.group_epoch(g->slot);
    if (group.load(std::memory_order_relaxed) != scan_epoch_ && !GEARBOX_MUTANT(kNoBirthStamp))
      group.store(scan_epoch_, std::memory_order_relaxed);
    // It has a closure only, whose words the spawner has shaded: born black.
    g->scan.store(scan_word(scan_epoch_, ScanState::kScanned), std::memory_order_relaxed);
    g->status.store(GStatus::kRunnable, std::memory_order_release);  // partner: visit_gs()
    return;
  }
  // A thread without a P is not held up by a stop: the lock keeps the next arming from falling between the three, after
  // which K4 would not hold. Unscanned, since that costs nothing here: whoever runs it looks at its closure.
  Guard<SpinLock> hold(free_lock_);
  goroutines_.group_epoch(g->slot).store(scan_epoch_, std::memory_order_relaxed);
  g->scan.store(scan_word(scan_epoch_, ScanState::kUnscanned), std::memory_order_relaxed);
  g->status.store(GStatus::kRunnable, std::memory_order_release);  // partner: visit_gs()
}

void Runtime::start_goroutine(Goroutine* g, Why why) {
  auto* p = current_processor();
  g->id = next_goroutine_id(p);
  g->policy_words[0] = g->policy_words[1] = 0;
  g->exception_globals[0] = g->exception_globals[1] = nullptr;
  g->saved_errno = 0;
  g->saved_inside = 1;  // goroutine_main() is the runtime's
  g->no_preempt = 0;
  g->panics = nullptr;
  g->goexit = false;
  g->locked_m = nullptr;
  const G* parent = current_g();
  g->parent_id = parent != nullptr ? parent->id : 0;
  g->context.sp = nullptr;  // give_stack()
  g->context.pc = reinterpret_cast<void*>(&Runtime::goroutine_main);
  g->context.bp = nullptr;
  stamp_birth(g, p);
  if (!g->system) {
    if (p != nullptr)
      p->goroutines.store(p->goroutines.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    else
      goroutines_elsewhere_.fetch_add(1, std::memory_order_relaxed);
  }
  scheduler_->enqueue(g, p != nullptr ? p->id : kNoP, p != nullptr ? why : Why::kInjected);
}

void Runtime::goroutine_main() {
  arrive_on_fresh_stack();
  current_runtime().arrive();
  Goroutine* g = current_goroutine();
  // A goroutine of the runtime's own stays inside: it is never interrupted, and reaches safepoints.
  if (!g->system) set_current_inside(0);
  run_guarded(g->entry, g->closure);  // panic.cc: catches what must not leave the stack
  set_current_inside(1);
  current_runtime().exit_goroutine();
}

void Runtime::recycle(Runtime& runtime, Goroutine* g, void*) {
#if GEARBOX_TSAN
  // A goroutine ends in the middle of some calls. TSan never sees them return, and its list of callers, which has 65536
  // places and no check, is that much longer for the next goroutine on this fiber.
  constexpr std::uint32_t kDeathsPerFiber = 500;
  if (++g->identity.tsan_deaths == kDeathsPerFiber) {
    __tsan_destroy_fiber(std::exchange(g->identity.tsan_fiber, nullptr));
    g->identity.tsan_deaths = 0;
  }
#endif
  g->status.store(GStatus::kDead, std::memory_order_relaxed);
  auto* p = current_processor();
  if (g->stack_hi != 0) {
    if (p->free_stacks.count == StackCache::kMost) runtime.stacks_.take_back(p->free_stacks, false);
    p->free_stacks.stacks[p->free_stacks.count++] = {g->stack_lo, g->stack_hi};
    g->stack_lo = g->stack_hi = 0;
  }
  p->free_gs.push_front(g);
  if (p->free_gs.size() > kFreeGsPerP) {
    Guard<SpinLock> hold(runtime.free_lock_);
    for (std::uint64_t i = 0; i < kFreeGsPerP / 2; ++i) runtime.free_gs_.push_back(p->free_gs.pop_front());
  }
}

void Runtime::exit_goroutine() {
  Goroutine* g = current_goroutine();
  Machine* m = current_machine();
  if (!g->system) {
    std::atomic<std::int64_t>& count = current_processor()->goroutines;
    count.store(count.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  }
  if (g->locked_m != nullptr) {  // the thread serves everybody again
    g->locked_m = nullptr;
    m->locked_g = nullptr;
  }
  g->system = false;
  g->wait_reason = "exited";
  m->after = &Runtime::recycle;
  m->after_g = g;
  // kWaiting until recycled: it is on its stack still, and must look parked, not runnable, to anyone who walks the
  // slots.
  g->status.store(GStatus::kWaiting, std::memory_order_relaxed);
  leave(g, m, current_processor(), true);
  GEARBOX_PANIC("a dead goroutine was resumed");
}

// ---- the loop on the M's stack

void Runtime::machine_loop(Machine* m) {
  for (;;) {
    if (ended_.load(std::memory_order_acquire)) return;
    auto* p = static_cast<Processor*>(m->p);
    bool slice_over = false;
    if (p == nullptr) {
      // GOMAXPROCS fell while this M was held: what it had picked goes back, its own locked goroutine too.
      if (m->held != nullptr) scheduler_->enqueue(std::exchange(m->held, nullptr), kNoP, Why::kInjected);
      if (m->locked_g != nullptr)
        sleep_locked(m);
      else
        idle(m);
      continue;
    }
    // Ahead of any stop: its goroutine may be on the way here already, with a P that the stop waits for and that only
    // this M can take.
    if (m->locked_g != nullptr && m->held == nullptr) [[unlikely]] {
      sleep_locked(m);
      continue;
    }
    if (const std::uint32_t attention = p->attention.load(std::memory_order_acquire); attention != 0) [[unlikely]] {
      if ((attention & kAttentionStop) != 0) {
        hold_at_safepoint(m, p);
        continue;
      }
      // The slice ends here, whoever was running: nobody inherits the rest of it, and who waited longest is next. If
      // the request were only dropped, a pair that readies each other would keep the P for ever.
      p->attention.fetch_and(~kAttentionPreempt, std::memory_order_relaxed);
      scheduler_->on_slice_over(p->id);
      slice_over = true;
    }
    bool inherit_slice = false;
    Goroutine* g = std::exchange(m->held, nullptr);
    if (g == nullptr) g = find_work(p, slice_over, inherit_slice);
    if (g == nullptr) continue;  // p was given up, or there is something to look at again
    if ((p->attention.load(std::memory_order_acquire) & kAttentionStop) != 0) [[unlikely]] {
      m->held = g;
      continue;
    }
    if (g->locked_m != nullptr && g->locked_m != m) [[unlikely]] {
      // It runs on its own thread only: that thread gets this P, and this one looks for another.
      auto* owner = static_cast<Machine*>(g->locked_m);
      Procs::release(m);
      {
        Guard<SpinLock> hold(procs_.lock());
        procs_.part(p);
        owner->next_p = p;
        owner->next_g = g;
        owner->woken_to_search = false;
      }
      wake_machine(owner);
      continue;
    }
    run_goroutine(m, p, g, inherit_slice && !slice_over);
  }
}

void Runtime::run_goroutine(Machine* m, Processor* p, Goroutine* g, bool inherit_slice) {
  ++p->schedule_tick;
  for (;;) {
    begin_running(m, p, g, inherit_slice);
    if (g->stack_hi == 0) {
      if (p->free_stacks.count == 0)
        if (auto made = stacks_.refill(p->free_stacks); !made)
          fatal_error(fmt::format("cannot run goroutine {}: {}", g->id, made.error().message));
      give_stack(g, p->free_stacks.stacks[--p->free_stacks.count]);
    }
    switch_stacks(&m->context, &g->context, &m->identity, &g->identity, false);
    // Some goroutine of this M, not necessarily g, came here.
    if (auto* call = m->call) {
      m->call = nullptr;
      g = m->after_g;
      call(m->call_argument);
      if (ended_.load(std::memory_order_acquire)) return;
      p = static_cast<Processor*>(m->p);
      if (p == nullptr) {  // GOMAXPROCS fell while it was held
        g->status.store(GStatus::kRunnable, std::memory_order_relaxed);
        scheduler_->enqueue(g, kNoP, Why::kInjected);
        return;
      }
      inherit_slice = true;
      continue;
    }
    if (const After after = m->after) {
      m->after = nullptr;
      after(*this, m->after_g, m->after_argument);
    }
    return;
  }
}

// Timers and the poller are looked at when a slice was cut short, every 64 switches, and when p's own queue is dry. When
// it is, the timers of all Ps are: their owners may compute on, and whoever has nothing to do fires them (Go: stealWork).
Goroutine* Runtime::find_work(Processor* p, bool slice_over, bool& inherit_slice) {
  Machine* m = current_machine();
  // An idle P's timers are looked at by whoever is awake.
  const bool looked_at_all = procs_.idle_count() != 0;
  run_due_timers(p, looked_at_all);
  if (slice_over || (p->schedule_tick & kLookAroundMask) == 0) poll_now(m, p);
  if (G* g = scheduler_->pick_local(p->id, inherit_slice)) return static_cast<Goroutine*>(g);
  if (poll_now(m, p) || (!looked_at_all && run_due_timers(p, true)))
    if (G* g = scheduler_->pick_local(p->id, inherit_slice)) return static_cast<Goroutine*>(g);
  return static_cast<Goroutine*>(scheduler_->pick_next(p->id, inherit_slice));
}

// True if any fired.
bool Runtime::run_due_timers(Processor* p, bool of_all) {
  std::int64_t next = p->timers.next_when();
  std::int64_t now = 0;
  std::uint32_t fired = 0;
  if (next != 0 && next <= (now = os::monotonic_ns())) fired = p->timers.run(now);
  if (!of_all) return fired != 0;
  for (PId i = 0; i < p_count(); ++i) {
    next = procs_.at(i).timers.next_when();
    if (next == 0 || i == p->id) continue;
    if (now == 0) now = os::monotonic_ns();
    if (next <= now) fired += procs_.at(i).timers.run(now);
  }
  return fired != 0;
}

bool Runtime::poll_now(Machine*, Processor* p) {
  const std::uint32_t my_lane = lane();
  if (poller_->in_flight(my_lane) == 0) return false;
  GList list;
  poller_->poll(my_lane, 0, kPollBudget, list);
  counters_.polls.fetch_add(1, std::memory_order_relaxed);
  return enqueue_polled(list, p->id, Why::kReadied);
}

bool Runtime::enqueue_polled(GList& list, PId p, Why why) {
  if (list.empty()) return false;
  for (G* g = list.front(); g != nullptr; g = g->next) g->status.store(GStatus::kRunnable, std::memory_order_relaxed);
  scheduler_->enqueue_all(list, p, why);
  return true;
}

}  // namespace gearbox
