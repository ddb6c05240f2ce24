#include "runtime/time.h"

#include <algorithm>
#include <limits>

#include "runtime/go.h"

namespace gearbox {
namespace {
// The far future instead of the past, when the sum does not fit.
std::int64_t deadline_in(std::int64_t ns) {
  const std::int64_t now = os::monotonic_ns();
  return ns > std::numeric_limits<std::int64_t>::max() - now ? std::numeric_limits<std::int64_t>::max()
                                                             : now + std::max<std::int64_t>(ns, 0);
}
}  // namespace

// Called after `when` was published in a heap. With no P idle a watcher that woke could do nothing: then whoever makes
// one idle calls this. Partners, all seq_cst: Procs::to_idle() and end_stop() raise the number of idle Ps and look at the heaps;
// idle() stores poll_until_ and looks at both.
void Runtime::wake_watcher_before(std::int64_t when) {
  if (procs_.idle_count(std::memory_order_seq_cst) == 0 || when >= poll_until_.load(std::memory_order_seq_cst)) return;
  poller_->wake(lane_owner_ ? watcher_lane_.load(std::memory_order_relaxed) : 0);
}

void Runtime::watch_timers_anew() {
  const std::int64_t earliest = earliest_timer();
  if (earliest != 0) wake_watcher_before(earliest);
}

void Runtime::arm_timer(Timer& t) {
  // The one that sleeps in the poller may have computed its deadline without this timer, and this P may be busy when it
  // is due (Go: wakeNetPoller).
  const std::int64_t when = t.when;  // once armed it may fire, and be gone
  if (current_processor()->timers.arm(t)) wake_watcher_before(when);
}

void Runtime::sleep_ns(std::int64_t ns) {
  const Inside inside;
  if (ns <= 0) {
    gosched(Why::kYielded);
    return;
  }
  Timer timer;
  timer.when = deadline_in(ns);
  timer.argument = current_goroutine();
  timer.fire = [](void* g, std::uint64_t, std::int64_t) { current_runtime().ready(static_cast<Goroutine*>(g)); };
  // Armed on the other side of the switch: it may fire at once, and must find a goroutine that has parked.
  park([](Runtime& runtime, Goroutine*, void* t) { runtime.arm_timer(*static_cast<Timer*>(t)); }, &timer, "sleep");
}

void sleep(std::int64_t ns) { current_runtime().sleep_ns(ns); }

namespace detail {

// One timer of the language surface. A one-shot's arming holds a reference of its own (Timer::argument), which whoever
// takes the timer out of the heap gives back: the firing, or stop(). A periodic one is kept by its handle alone;
// disarm() waits for firings under way.
struct TimerState : std::enable_shared_from_this<TimerState> {
  using Reference = std::shared_ptr<TimerState>;
  Timer timer;
  Chan<std::int64_t> channel;
  RootedCall<> f;  // called on a goroutine; empty: the time is sent on the channel
  // Over each change of the timer, so that two resets at a time cannot put it into two heaps. Never taken by a firing,
  // for which disarm() waits.
  SpinLock arming;
  SpinLock lock;                 // guards the generation
  std::uint64_t generation = 0;  // a firing of an older one is dropped
  bool periodic = false;

  ~TimerState() {
    const Inside inside;
    disarm(timer);
  }

  void deliver(std::uint64_t sequence, std::int64_t now) {
    Goroutine* wake = nullptr;
    lock.lock();
    const bool live = sequence == generation;
    if (live && !f) {
      // The value goes into the buffer of one, or is dropped if the last one was not taken yet.
      auto* core = channel.core();
      Guard<SpinLock> hold(core->lock_);
      std::int64_t value = now;
      core->try_send_locked(value, wake);
    }
    lock.unlock();
    if (wake != nullptr) current_runtime().ready(wake);
    if (live && f)
      detail::spawn(
          current_runtime(), [keep = shared_from_this()] { keep->f(); }, false);
  }

  bool reset(std::int64_t ns) {
    Guard<SpinLock> hold(arming);
    const bool was = stop_locked();
    arm_locked(ns);
    return was;
  }
  bool stop() {
    Guard<SpinLock> hold(arming);
    return stop_locked();
  }
  void arm(std::int64_t ns) {
    Guard<SpinLock> hold(arming);
    arm_locked(ns);
  }

  // arming held.
  void arm_locked(std::int64_t ns) {
    timer.when = deadline_in(ns);
    {
      Guard<SpinLock> hold(lock);
      timer.sequence = ++generation;
    }
    timer.drop = nullptr;
    if (periodic) {
      timer.period = ns;
      timer.argument = this;
      timer.fire = [](void* state, std::uint64_t sequence, std::int64_t now) {
        static_cast<TimerState*>(state)->deliver(sequence, now);
      };
    } else {
      timer.argument = new Reference(shared_from_this());
      timer.fire = [](void* reference, std::uint64_t sequence, std::int64_t now) {
        const std::unique_ptr<Reference> mine(static_cast<Reference*>(reference));
        (*mine)->deliver(sequence, now);
      };
      // A function's captures are left as they are: their destructors may want a goroutine under them.
      if (!f) timer.drop = [](void* reference) { delete static_cast<Reference*>(reference); };
    }
    current_runtime().arm_timer(timer);
  }

  // arming held. A value that was sent but not received belongs to the past (Go 1.23).
  bool stop_locked() {
    bool was = disarm(timer);
    if (was && !periodic) delete static_cast<Reference*>(timer.argument);
    Guard<SpinLock> hold(lock);
    ++generation;
    if (auto* core = channel.core()) {
      Guard<SpinLock> held(core->lock_);
      was |= core->count_ > 0;
      core->count_ = 0;
      core->head_ = 0;
    }
    return was;
  }
};

// What a handle owns: dropping the last one stops the timer.
struct TimerOwner {
  std::shared_ptr<TimerState> state = std::make_shared<TimerState>();
  bool stops = true;
  ~TimerOwner() {
    const Inside inside;
    if (stops) state->stop();
  }
};

}  // namespace detail

bool TimerHandle::stop() {
  const Inside inside;
  return owner_ != nullptr && owner_->state->stop();
}

bool TimerHandle::reset(std::int64_t ns) {
  const Inside inside;
  GEARBOX_REQUIRE(owner_ != nullptr, "reset of a timer that was never made");
  detail::TimerState& state = *owner_->state;
  if (state.periodic && ns <= 0) runtime_panic("non-positive interval for Ticker.Reset");
  return state.reset(ns);
}

Chan<std::int64_t> TimerHandle::channel() const {
  return owner_ == nullptr ? Chan<std::int64_t>() : owner_->state->channel;
}

TimerHandle new_timer(std::int64_t ns) {
  const Inside inside;
  TimerHandle handle;
  handle.owner_ = std::make_shared<detail::TimerOwner>();
  handle.owner_->state->channel = make_chan<std::int64_t>(1);
  handle.owner_->state->arm(ns);
  return handle;
}

TimerHandle new_ticker(std::int64_t period_ns) {
  const Inside inside;
  if (period_ns <= 0) runtime_panic("non-positive interval for NewTicker");
  TimerHandle handle;
  handle.owner_ = std::make_shared<detail::TimerOwner>();
  handle.owner_->state->channel = make_chan<std::int64_t>(1);
  handle.owner_->state->periodic = true;
  handle.owner_->state->arm(period_ns);
  return handle;
}

TimerHandle detail::arm_call(std::int64_t ns, RootedCall<> f) {
  const Inside inside;
  TimerHandle handle;
  handle.owner_ = std::make_shared<detail::TimerOwner>();
  handle.owner_->stops = false;  // as in Go, the function is called whether or not anybody keeps the handle
  handle.owner_->state->f = std::move(f);
  handle.owner_->state->arm(ns);
  return handle;
}

Chan<std::int64_t> after(std::int64_t ns) {
  const Inside inside;
  auto state = std::make_shared<detail::TimerState>();  // kept by its arming alone
  state->channel = make_chan<std::int64_t>(1);
  state->arm(ns);
  return state->channel;
}

}  // namespace gearbox
