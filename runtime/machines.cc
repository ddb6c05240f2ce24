// Machines: threads that come, sleep, are woken, and get or give up a P.
//
// One sleeping M at a time has the role of poll machine: it sleeps in the poller until the next event or the next timer
// of any idle P; all others sleep on their futex (or, for lane-owner pollers, in their own lane, whose completions only
// they can see). A wake prefers a futex sleeper and takes the poll machine last, so that somebody keeps watch.

#include <cxxabi.h>

#include <algorithm>
#include <limits>

#include "base/os/clock.h"
#include "runtime/fatal.h"
#include "runtime/go.h"
#include "runtime/runtime.h"
#include "runtime/signals.h"

namespace gearbox {
namespace {
constexpr std::uint32_t kPollBudget = 128;
// Between two attempts to make a thread after the kernel has refused one.
constexpr std::int64_t kShortestRefusalNs = 1'000'000, kLongestRefusalNs = 100'000'000;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
}  // namespace

// ---- Ps change hands

void Runtime::prepare_to_park(PId id) {
  Machine* m = current_machine();
  Processor* p = &procs_.at(id);
  GEARBOX_REQUIRE(m->p == p, "P {} is given up by an M that does not own it", id);
  Procs::release(m);
  Guard<SpinLock> hold(procs_.lock());
  procs_.to_idle(p);
}

bool Runtime::cancel_park(PId id) {
  {
    Guard<SpinLock> hold(procs_.lock());
    if (!procs_.cancel_idle(current_machine(), &procs_.at(id))) return false;
  }
  wake_sysmon();
  return true;
}

bool Runtime::wake_one_parked_p() {
  if (procs_.idle_count(std::memory_order_seq_cst) == 0) return false;
  procs_.lock().lock();
  Processor* p = procs_.take_idle();
  if (p == nullptr) {
    procs_.lock().unlock();
    return false;
  }
  return start_machine_for(p, true);
}

// p is on its way: to m, below.
bool Runtime::start_machine_for(Processor* p, bool search) {
  Machine* m = idle_machines_;
  if (m != nullptr) {
    idle_machines_ = m->next_idle;
    --idle_machine_count_;
  } else if (poll_machine_ != nullptr && poll_machine_->next_p == nullptr) {
    m = poll_machine_;
  }
  if (m != nullptr) {
    m->next_p = p;
    m->woken_to_search = search;
    procs_.lock().unlock();
    wake_machine(m);
  } else {
    if (refused_until_ns_ != 0 && os::monotonic_ns() < refused_until_ns_) {
      procs_.to_idle(p);
      procs_.lock().unlock();
      return false;
    }
    procs_.lock().unlock();
    m = new_machine();
    m->next_p = p;
    m->woken_to_search = search;
    if (const Status started = start_thread_of(m); !started) {
      // The P stays idle. Its work is found by the Ms there are, or sysmon has better luck; with no M left that could ever
      // look it is the end.
      {
        Guard<SpinLock> hold(procs_.lock());
        procs_.to_idle(p);
        if (nobody_can_run())
          fatal_error("cannot create a thread, and none is left to run goroutines: " + started.error().message);
      }
      short_of_threads_.store(true, std::memory_order_relaxed);
      wake_sysmon();
      return false;
    }
    short_of_threads_.store(false, std::memory_order_relaxed);
  }
  wake_sysmon();
  return true;
}

void Runtime::hand_off(Processor* p) {
  counters_.hand_offs.fetch_add(1, std::memory_order_relaxed);
  {
    Guard<SpinLock> hold(procs_.lock());
    procs_.to_idle(p);
  }
  // If it was the last busy one and nobody sleeps in the poller, whoever waits for I/O would wait for ever.
  if (scheduler_->has_runnable() || p->timers.next_when() != 0 ||
      (poll_until_.load(std::memory_order_seq_cst) == 0 && io_waiters_.load(std::memory_order_relaxed) != 0))
    wake_one_parked_p();
  else
    watch_timers_anew();
}

// Makes one that lies down, if none sleeps that could take a P. False: the kernel refuses threads.
bool Runtime::spare_machine_is_there() {
  {
    Guard<SpinLock> hold(procs_.lock());
    if (idle_machines_ != nullptr || (poll_machine_ != nullptr && poll_machine_->next_p == nullptr)) return true;
    if (refused_until_ns_ != 0 && os::monotonic_ns() < refused_until_ns_) return false;
  }
  return start_thread_of(new_machine()).ok();
}

// Everything that may be refused is asked for here, before there is an M: the scheduler hears "no" as the answer to its
// wake, and counts no searcher that never comes. After a refusal there is no m, and for a while nobody asks again.
Status Runtime::start_thread_of(Machine* m) {
  const Status lane = poller_->prepare(m->id);
  auto started = lane ? os::start_thread(&Runtime::machine_entry, m, kMachineStackBytes, "gearbox-m")
                      : Result<pthread_t>(lane.error());
  Guard<SpinLock> hold(procs_.lock());
  if (started) {
    m->thread = *started;
    refused_until_ns_ = refusal_pause_ns_ = 0;
    return Ok{};
  }
  counters_.threads_refused.fetch_add(1, std::memory_order_relaxed);
  take_back(m);
  refusal_pause_ns_ = std::clamp(refusal_pause_ns_ * 2, kShortestRefusalNs, kLongestRefusalNs);
  refused_until_ns_ = os::monotonic_ns() + refusal_pause_ns_;
  return started.error();
}

// The M of a locked goroutine runs nothing else: while its goroutine waits, its P goes to others and it sleeps.
void Runtime::sleep_locked(Machine* m) {
  if (m->p != nullptr) {
    auto* p = static_cast<Processor*>(m->p);
    Procs::release(m);
    hand_off(p);
  }
  m->sleeps_in_poller.store(lane_owner_, std::memory_order_relaxed);
  while (!ended_.load(std::memory_order_acquire)) {
    const std::uint32_t word = m->wake_word.load(std::memory_order_acquire);
    if (receive(m)) break;
    bool dead = false;
    {
      Guard<SpinLock> hold(procs_.lock());
      if (m->next_p != nullptr) continue;
      ++locked_asleep_;
      dead = nothing_can_happen();
      if (short_of_threads_.load(std::memory_order_relaxed) && nobody_can_run() && scheduler_->has_runnable())
        fatal_error("cannot create a thread, and none is left to run goroutines");
    }
    if (dead) report_deadlock();
    GList ready;
    if (lane_owner_)
      poller_->poll(m->id, -1, kPollBudget, ready);
    else
      os::futex_wait(m->wake_word, word, os::kForever);
    {
      Guard<SpinLock> hold(procs_.lock());
      --locked_asleep_;
    }
    enqueue_polled(ready, kNoP, Why::kInjected);
  }
  m->sleeps_in_poller.store(false, std::memory_order_relaxed);
}

// Whether m was given a P, with a locked goroutine perhaps, and has it now. A P that has stopped with the world on its way
// here is waited for.
bool Runtime::receive(Machine* m) {
  for (;;) {
    std::uint32_t epoch = 0;
    {
      Guard<SpinLock> hold(procs_.lock());
      if (m->next_p == nullptr) return false;
      if (procs_.arrive(m, m->next_p)) {
        m->next_p = nullptr;
        m->held = std::exchange(m->next_g, nullptr);
        return true;
      }
      epoch = procs_.epoch().load(std::memory_order_relaxed);
    }
    if (ended_.load(std::memory_order_acquire)) return false;
    wait_for_start(epoch);
  }
}

// ---- the life of an M

Machine* Runtime::new_machine() {
  auto machine = std::make_unique<Machine>();
  machine->runtime = this;
  Guard<SpinLock> hold(procs_.lock());
  if (!spare_machines_.empty()) {
    machine->id = spare_machines_.back()->id;
    spare_machines_.pop_back();
    machines_.push_back(std::move(machine));
    return machines_.back().get();
  }
  Machine* m = machine.get();
  m->id = static_cast<std::uint32_t>(counters_.machines_made.fetch_add(1, std::memory_order_relaxed));
  GEARBOX_REQUIRE(m->id < kMaxMs, "more than {} threads: too many goroutines are in blocking calls", kMaxMs);
  machines_.push_back(std::move(machine));
  return m;
}

void Runtime::take_back(Machine* m) {
  auto at = std::find_if(machines_.begin(), machines_.end(), [m](const auto& each) { return each.get() == m; });
  spare_machines_.push_back(std::move(*at));
  machines_.erase(at);
}

// Every P is idle, and every M sleeps that would leave what is queued to others: those of locked goroutines, and those
// for blocking calls.
bool Runtime::nobody_can_run() {
  return procs_.all_idle() && machines_.size() == locked_asleep_ + idle_blocking_count_ &&
         blocked_calls_.load(std::memory_order_relaxed) == 0;
}

void Runtime::machine_begin(Machine* m) {
  set_current_m(m);
  set_current_g(nullptr);
  set_current_p(nullptr);
  m->thread_id = os::thread_id();
  set_current_inside(1);  // whatever runs on its own stack is the runtime
  m->errno_address = &errno;
  m->exception_globals = reinterpret_cast<void**>(abi::__cxa_get_globals());
  std::uintptr_t low = 0, high = 0;
  os::thread_stack_bounds(low, high);
  m->identity.asan_bottom = reinterpret_cast<const void*>(low);
  m->identity.asan_bytes = high - low;
#if GEARBOX_TSAN
  m->identity.tsan_fiber = __tsan_get_current_fiber();
#endif
  auto signal_stack = install_signal_stack();
  if (!signal_stack) fatal_error("no alternate signal stack for a thread: " + signal_stack.error().message);
  m->signal_stack = *signal_stack;
  if (lane_owner_ && !m->blocking_only) {
    if (auto bound = poller_->bind(m->id); !bound)
      fatal_error(fmt::format("the poller refused lane {}: {}", m->id, bound.error().message));
  }
}

void Runtime::machine_end(Machine* m) {
  remove_signal_stack(m->signal_stack);
  set_current_m(nullptr);
  set_current_p(nullptr);
}

void* Runtime::machine_entry(void* machine) {
  auto* m = static_cast<Machine*>(machine);
  Runtime& runtime = *m->runtime;
  runtime.machine_begin(m);
  if (m->blocking_only) {
    runtime.blocking_thread_loop(m);
  } else {
    if (runtime.receive(m)) {
      if (m->woken_to_search) runtime.scheduler_->on_woken(m->p->id);
      if (m->starts_program)
        detail::spawn(
            runtime, [&runtime] { runtime.first_goroutine_(); }, false);
    }
    runtime.machine_loop(m);
  }
  runtime.machine_end(m);
  m->left.store(true, std::memory_order_release);
  return nullptr;
}

void Runtime::wake_machine(Machine* m) {
  // One of the two is where it sleeps; which one is decided under the lock when it lies down, and a wake of the other
  // is remembered harmlessly.
  m->wake_word.fetch_add(1, std::memory_order_release);  // partner: idle(), sleep_locked()
  if (m->sleeps_in_poller.load(std::memory_order_relaxed))
    poller_->wake(lane_owner_ ? m->id : 0);
  else
    os::futex_wake(m->wake_word, 1);
}

std::int64_t Runtime::earliest_timer() const noexcept {
  std::int64_t earliest = 0;
  for (PId i = 0; i < p_count(); ++i) {
    const std::int64_t when = procs_.at(i).timers.next_when();
    if (when != 0 && (earliest == 0 || when < earliest)) earliest = when;
  }
  return earliest;
}

// Every goroutine waits for another: no M is awake, no timer is armed, no I/O is in flight, nothing is runnable.
bool Runtime::nothing_can_happen() {
  if (!procs_.all_idle() || procs_.stop_requested() || ended_.load(std::memory_order_relaxed)) return false;
  const std::size_t asleep =
      locked_asleep_ + idle_machine_count_ + idle_blocking_count_ + (poll_machine_ != nullptr ? 1 : 0);
  if (asleep != machines_.size()) return false;
  if (blocked_calls_.load(std::memory_order_relaxed) != 0 || io_waiters_.load(std::memory_order_relaxed) != 0 ||
      earliest_timer() != 0)
    return false;
  return !scheduler_->has_runnable();
}

// m has no P. Sleeps until it is given one, finds an event, or a timer is due; takes a P if there is something to do
// with it.
void Runtime::idle(Machine* m) {
  bool has_role = false, dead = false;
  std::uint32_t word = 0;
  {
    Guard<SpinLock> hold(procs_.lock());
    if (ended_.load(std::memory_order_relaxed)) return;
    word = m->wake_word.load(std::memory_order_relaxed);
    has_role = poll_machine_ == nullptr;
    m->sleeps_in_poller.store(has_role || lane_owner_, std::memory_order_relaxed);
    if (has_role) {
      poll_machine_ = m;
      watcher_lane_.store(m->id, std::memory_order_relaxed);  // read after poll_until_, which idle() stores below
    } else {
      m->next_idle = idle_machines_;
      idle_machines_ = m;
      ++idle_machine_count_;
    }
    dead = nothing_can_happen();
  }
  if (dead) report_deadlock();

  if (!has_role) {
    watch_timers_anew();  // the poll machine may have computed its deadline before this M's P became idle
  }
  GList ready;
  bool timers_due = false;
  if (m->sleeps_in_poller.load(std::memory_order_relaxed)) {
    std::int64_t timeout = -1, earliest = 0;
    if (has_role) {
      poll_until_.store(kNever, std::memory_order_seq_cst);  // partner: the check above, by an M that lies down later
      // With every P busy a deadline is of no use: their owners look, and sysmon asks them to.
      earliest = procs_.idle_count(std::memory_order_seq_cst) != 0 ? earliest_timer() : 0;
      if (earliest != 0) {
        timeout = std::max<std::int64_t>(0, earliest - os::monotonic_ns());
        poll_until_.store(earliest, std::memory_order_seq_cst);
      }
    }
    counters_.poller_sleeps.fetch_add(1, std::memory_order_relaxed);
    poller_->poll(lane_owner_ ? m->id : 0, timeout, kPollBudget, ready);
    if (has_role) {
      poll_until_.store(0, std::memory_order_seq_cst);
      timers_due = earliest != 0 && os::monotonic_ns() >= earliest;
    }
  } else {
    counters_.futex_sleeps.fetch_add(1, std::memory_order_relaxed);
    while (m->wake_word.load(std::memory_order_acquire) == word) os::futex_wait(m->wake_word, word, os::kForever);
  }

  bool given = false, search = false;
  {
    Guard<SpinLock> hold(procs_.lock());
    if (has_role) {
      poll_machine_ = nullptr;
    } else {
      for (Machine** at = &idle_machines_; *at != nullptr; at = &(*at)->next_idle) {
        if (*at != m) continue;
        *at = m->next_idle;
        --idle_machine_count_;
        break;
      }
    }
    m->sleeps_in_poller.store(false, std::memory_order_relaxed);
    given = m->next_p != nullptr;
    search = std::exchange(m->woken_to_search, false);
    if (!given && (!ready.empty() || timers_due)) procs_.take_idle_for(m);
  }
  if (given) receive(m);
  const P* p = m->p;
  if (p != nullptr) {
    wake_sysmon();
    if (search) scheduler_->on_woken(p->id);
  }
  enqueue_polled(ready, p != nullptr ? p->id : kNoP, Why::kInjected);
}

}  // namespace gearbox
