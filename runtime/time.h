// Time for goroutines: sleep, after, tick, Timer, Ticker. Times are nanoseconds of CLOCK_MONOTONIC unless the name says
// otherwise.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "base/os/clock.h"
#include "runtime/chan.h"
#include "runtime/rooted.h"
#include "runtime/timer.h"

namespace gearbox {

inline constexpr std::int64_t kMicrosecond = 1000, kMillisecond = 1'000'000, kSecond = 1'000'000'000;

inline std::int64_t now_ns() {
  safepoint_if_on_p();  // loops wait for a moment
  return os::monotonic_ns();
}
// Parks this goroutine for at least ns. Not positive: yields.
void sleep(std::int64_t ns);

class TimerHandle;
namespace detail {
class TimerChan;
TimerHandle arm_call(std::int64_t ns, RootedCall<> f);
}  // namespace detail

// A timer that sends the time on a channel, or calls a function on a goroutine of its own. A counted handle, as its
// channel is, and the two are one thing: a timer goes on while a handle or its channel is held, by a goroutine that waits
// for example, and leaves no trace when the last of them is dropped (Go collects it then). A function is called whether
// or not anybody holds its timer.
//
// As in Go 1.23, after stop() or reset() no stale value is received.
class TimerHandle {
 public:
  TimerHandle() = default;
  // True if this call has prevented a delivery: the timer was armed, or about to deliver, or its value was not received
  // yet. False: the value was received, the function was started, or there was nothing to stop. A periodic one stops
  // ticking.
  bool stop();
  // Arms it anew for `ns` from now (a Ticker: with that period). True where stop() would have been. Panics on a handle
  // that has no timer.
  bool reset(std::int64_t ns);
  Chan<std::int64_t> channel() const;  // nil for after_func()

 private:
  friend TimerHandle new_timer(std::int64_t);
  friend TimerHandle new_ticker(std::int64_t);
  friend TimerHandle detail::arm_call(std::int64_t, RootedCall<>);
  explicit TimerHandle(detail::TimerChan* owned);
  detail::TimerChan& timer() const noexcept;
  Chan<std::int64_t> timer_;  // a TimerChan
};
using Ticker = TimerHandle;

TimerHandle new_timer(std::int64_t ns);          // not positive: fires at once
TimerHandle new_ticker(std::int64_t period_ns);  // not positive: panics as Go does
// Calls f() on a goroutine of its own, ns from now; after a reset() again, so f is kept and called as const. It may
// capture plain pointers to heap objects (runtime/rooted.h). A function that captures its own timer's handle keeps both
// for ever, as any circle of counted handles does.
template <class F>
TimerHandle after_func(std::int64_t ns, F f) {
  static_assert(std::is_invocable_v<const F&>,
                "the captures of a timer's function are roots and cannot be changed by it: change what they refer to");
  return detail::arm_call(ns, RootedCall<>(std::move(f)));
}
// A channel that receives the time once, ns from now.
Chan<std::int64_t> after(std::int64_t ns);
// The channel of a ticker that nobody means to stop. Nil where the period is not positive, as in Go.
Chan<std::int64_t> tick(std::int64_t period_ns);

}  // namespace gearbox
