// Time for goroutines: sleep, after, Timer, Ticker. Times are nanoseconds of CLOCK_MONOTONIC unless the name says
// otherwise.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/os/clock.h"
#include "runtime/chan.h"
#include "runtime/rooted.h"
#include "runtime/timer.h"

namespace gearbox {

inline constexpr std::int64_t kMicrosecond = 1000, kMillisecond = 1'000'000, kSecond = 1'000'000'000;

inline std::int64_t now_ns() { return os::monotonic_ns(); }
// Parks this goroutine for at least ns. Not positive: yields.
void sleep(std::int64_t ns);

class TimerHandle;
namespace detail {
struct TimerOwner;
TimerHandle arm_call(std::int64_t ns, RootedCall<> f);
}  // namespace detail
// A timer that sends the time on a channel, or calls a function on a goroutine of its own. A counted handle; dropping
// the last one stops it, except for after_func(). As in Go 1.23, after stop() or reset() no stale value is received.
class TimerHandle {
 public:
  TimerHandle() = default;
  // True if it was armed. A periodic one stops ticking.
  bool stop();
  // Arms it anew for `ns` from now (a Ticker: with that period). True if it was armed.
  bool reset(std::int64_t ns);
  Chan<std::int64_t> channel() const;

 private:
  friend TimerHandle new_timer(std::int64_t);
  friend TimerHandle new_ticker(std::int64_t);
  friend TimerHandle detail::arm_call(std::int64_t, RootedCall<>);
  std::shared_ptr<detail::TimerOwner> owner_;
};
using Ticker = TimerHandle;

TimerHandle new_timer(std::int64_t ns);
TimerHandle new_ticker(std::int64_t period_ns);  // REQUIRES: period_ns > 0, else it panics as Go does
// Calls f() on a goroutine of its own, ns from now; after a reset() again, so f is kept and called as const. It may
// capture plain pointers to heap objects (runtime/rooted.h).
template <class F>
TimerHandle after_func(std::int64_t ns, F f) {
  static_assert(std::is_invocable_v<const F&>,
                "the captures of a timer's function are roots and cannot be changed by it: change what they refer to");
  return detail::arm_call(ns, RootedCall<>(std::move(f)));
}
// A channel that receives the time once, ns from now.
Chan<std::int64_t> after(std::int64_t ns);

}  // namespace gearbox
