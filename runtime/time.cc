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

// One timer of the language surface: its channel, or what is called instead.
//
// Ownership. The channel owns the timer: its end takes the timer out of the heap. The heap knows the channel without
//            holding it, and takes a reference when the timer is due (T4). Where a function is called, each arming holds
//            a reference of its own instead, which goes to the firing, or to the stop() that disarms.
// The race of a firing with stop() and reset(), whose answer must say who was first:
//     heap (under its lock)      the timer is due: in_flight_ = true; out of the heap
//     firing (under lock_)       the generation is the one that it left with: in_flight_ = false, delivers
//     stop() (under lock_)       in_flight_ was true: it is the first, counts the generation up, and says true
//            The timer's way out of the heap is the partner of disarm(), so a stop() that finds it gone sees in_flight_.
class TimerChan final : public ChanOf<std::int64_t> {
 public:
  explicit TimerChan(bool periodic) : ChanOf(1), periodic_(periodic) {}
  explicit TimerChan(RootedCall<> f) : ChanOf(0), f_(std::move(f)) {}
  ~TimerChan() override {
    const Inside inside;
    disarm(timer_);
  }

  bool reset(std::int64_t ns) {
    Guard<SpinLock> hold(arming_);
    const bool was = stop_locked();
    arm_locked(ns);
    return was;
  }
  bool stop() {
    Guard<SpinLock> hold(arming_);
    return stop_locked();
  }
  void arm(std::int64_t ns) {
    Guard<SpinLock> hold(arming_);
    arm_locked(ns);
  }
  bool periodic() const noexcept { return periodic_; }
  bool calls() const noexcept { return static_cast<bool>(f_); }

 private:
  // arming_ held.
  void arm_locked(std::int64_t ns) {
    timer_.when = deadline_in(ns);
    timer_.period = periodic_ ? ns : 0;
    timer_.argument = this;
    timer_.take = [](void* self) { return static_cast<TimerChan*>(self)->take(); };
    timer_.fire = [](void* self, std::uint64_t sequence, std::int64_t now) {
      auto* timer = static_cast<TimerChan*>(self);
      timer->calls() ? timer->call(sequence) : timer->send_time(sequence, now);
    };
    timer_.keeps_itself = calls();
    if (calls()) add_reference();
    {
      Guard<SpinLock> hold(lock_);
      timer_.sequence = ++generation_;
    }
    current_runtime().arm_timer(timer_);
  }

  // arming_ held, and a handle.
  bool stop_locked() {
    const bool was_armed = disarm(timer_);
    if (was_armed && calls()) drop_reference();
    Guard<SpinLock> hold(lock_);
    ++generation_;
    const bool was_in_flight = in_flight_.exchange(false, std::memory_order_relaxed);
    // A value that was sent but not received belongs to the past (Go 1.23).
    const bool was_sent = count_ > 0;
    count_ = 0;
    head_ = 0;
    return was_armed || was_in_flight || was_sent;
  }

  // T4.
  bool take() noexcept {
    if (!calls() && !try_add_reference()) return false;
    in_flight_.store(true, std::memory_order_relaxed);
    return true;
  }
  // lock_ held. True: this firing may deliver.
  bool arrives(std::uint64_t sequence) noexcept {
    if (sequence != generation_) return false;
    in_flight_.store(false, std::memory_order_relaxed);
    return true;
  }
  // Both on an M's stack, with the reference that take() or the arming has left.
  void send_time(std::uint64_t sequence, std::int64_t now) {
    Goroutine* wake = nullptr;
    lock_.lock();
    // Into the buffer of one, or dropped if the last value was not taken yet.
    if (arrives(sequence) && !closed_) try_send_locked(now, wake);
    lock_.unlock();
    if (wake != nullptr) current_runtime().ready(wake);
    drop_reference();
  }
  // The reference goes to the goroutine, even of a firing that came too late: it may be the last one, and what f captured
  // must not end on an M's stack.
  void call(std::uint64_t sequence) {
    lock_.lock();
    const bool live = arrives(sequence);
    lock_.unlock();
    detail::spawn(
        current_runtime(),
        [keep = Chan<std::int64_t>::adopt(this), this, live] {
          if (live) f_();
        },
        !live);
  }

  Timer timer_;
  const RootedCall<> f_;  // called on a goroutine; empty: the time is sent on the channel
  const bool periodic_ = false;
  // Over each change of the timer, so that two resets at a time cannot put it into two heaps. Never taken by a firing.
  SpinLock arming_;
  std::uint64_t generation_ = 0;        // guarded by lock_; a firing of an older one is dropped
  std::atomic<bool> in_flight_{false};  // a firing has left the heap and has not arrived
};

}  // namespace detail

TimerHandle::TimerHandle(detail::TimerChan* owned) : timer_(Chan<std::int64_t>::adopt(owned)) {}
detail::TimerChan& TimerHandle::timer() const noexcept { return *static_cast<detail::TimerChan*>(timer_.core()); }

bool TimerHandle::stop() {
  const Inside inside;
  safepoint_if_on_p();
  return timer_ && timer().stop();
}

bool TimerHandle::reset(std::int64_t ns) {
  const Inside inside;
  safepoint_if_on_p();
  if (!timer_) runtime_panic("time: Reset called on uninitialized Timer");
  if (timer().periodic() && ns <= 0) runtime_panic("non-positive interval for Ticker.Reset");
  return timer().reset(ns);
}

Chan<std::int64_t> TimerHandle::channel() const {
  safepoint_if_on_p();
  return !timer_ || timer().calls() ? Chan<std::int64_t>() : timer_;
}

TimerHandle new_timer(std::int64_t ns) {
  const Inside inside;
  safepoint();
  TimerHandle handle(new detail::TimerChan(false));
  handle.timer().arm(ns);
  return handle;
}

TimerHandle new_ticker(std::int64_t period_ns) {
  const Inside inside;
  safepoint();
  if (period_ns <= 0) runtime_panic("non-positive interval for NewTicker");
  TimerHandle handle(new detail::TimerChan(true));
  handle.timer().arm(period_ns);
  return handle;
}

TimerHandle detail::arm_call(std::int64_t ns, RootedCall<> f) {
  const Inside inside;
  safepoint();
  TimerHandle handle(new TimerChan(std::move(f)));
  handle.timer().arm(ns);
  return handle;
}

Chan<std::int64_t> after(std::int64_t ns) { return new_timer(ns).channel(); }

Chan<std::int64_t> tick(std::int64_t period_ns) {
  safepoint();
  return period_ns <= 0 ? Chan<std::int64_t>() : new_ticker(period_ns).channel();
}

}  // namespace gearbox
