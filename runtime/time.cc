#include "runtime/time.h"

#include <limits>

#include "runtime/go.h"

namespace gearbox {

void Runtime::arm_timer(Timer& t) { current_processor()->timers.arm(t); }

void Runtime::sleep_ns(std::int64_t ns) {
  if (ns <= 0) {
    gosched(Why::kYielded);
    return;
  }
  Timer timer;
  const std::int64_t now = os::monotonic_ns();
  timer.when =
      ns > std::numeric_limits<std::int64_t>::max() - now ? std::numeric_limits<std::int64_t>::max() : now + ns;
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
  RootedCall<> f;                // called on a goroutine; empty: the time is sent on the channel
  SpinLock lock;                 // guards the generation
  std::uint64_t generation = 0;  // a firing of an older one is dropped
  bool periodic = false;

  ~TimerState() { disarm(timer); }

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

  void arm(std::int64_t ns) {
    timer.when = os::monotonic_ns() + std::max<std::int64_t>(ns, 0);
    {
      Guard<SpinLock> hold(lock);
      timer.sequence = ++generation;
    }
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
    }
    current_runtime().arm_timer(timer);
  }

  // A value that was sent but not received belongs to the past (Go 1.23).
  bool stop() {
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
    if (stops) state->stop();
  }
};

}  // namespace detail

bool TimerHandle::stop() { return owner_ != nullptr && owner_->state->stop(); }

bool TimerHandle::reset(std::int64_t ns) {
  GEARBOX_REQUIRE(owner_ != nullptr, "reset of a timer that was never made");
  detail::TimerState& state = *owner_->state;
  if (state.periodic && ns <= 0) runtime_panic("non-positive interval for Ticker.Reset");
  const bool was = state.stop();
  state.arm(ns);
  return was;
}

Chan<std::int64_t> TimerHandle::channel() const {
  return owner_ == nullptr ? Chan<std::int64_t>() : owner_->state->channel;
}

TimerHandle new_timer(std::int64_t ns) {
  TimerHandle handle;
  handle.owner_ = std::make_shared<detail::TimerOwner>();
  handle.owner_->state->channel = make_chan<std::int64_t>(1);
  handle.owner_->state->arm(ns);
  return handle;
}

TimerHandle new_ticker(std::int64_t period_ns) {
  if (period_ns <= 0) runtime_panic("non-positive interval for NewTicker");
  TimerHandle handle;
  handle.owner_ = std::make_shared<detail::TimerOwner>();
  handle.owner_->state->channel = make_chan<std::int64_t>(1);
  handle.owner_->state->periodic = true;
  handle.owner_->state->arm(period_ns);
  return handle;
}

TimerHandle detail::arm_call(std::int64_t ns, RootedCall<> f) {
  TimerHandle handle;
  handle.owner_ = std::make_shared<detail::TimerOwner>();
  handle.owner_->stops = false;  // as in Go, the function is called whether or not anybody keeps the handle
  handle.owner_->state->f = std::move(f);
  handle.owner_->state->arm(ns);
  return handle;
}

Chan<std::int64_t> after(std::int64_t ns) {
  auto state = std::make_shared<detail::TimerState>();  // kept by its arming alone
  state->channel = make_chan<std::int64_t>(1);
  state->arm(ns);
  return state->channel;
}

}  // namespace gearbox
