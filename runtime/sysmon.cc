// sysmon: a thread without a P that looks at everything from outside, as in Go.
//
// Every 20 us at first, backing off to 10 ms while it finds nothing to do, and asleep on a futex while every P is idle:
//   - a P in a system call for a whole period with work waiting is handed to another M;
//   - a goroutine that has had its slice is asked to yield at its next safepoint, and so is one that runs on a P with
//     timers overdue: the M's loop fires them;
//   - work that lies on an idle P because the kernel refused a thread for it gets another attempt;
//   - events and timers that nobody looks at, because all Ms are busy, get a P or are put into the queue;
//   - stacks that nobody has used for a second or two give their pages back, a few a pass.
// One pass reads Ps without locks: what it decides on is taken by compare-exchange, so a stale look is harmless.
#include <algorithm>

#include "base/os/clock.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace {
constexpr std::int64_t kShortestNs = 20'000, kLongestNs = 10'000'000;
constexpr std::int64_t kAskAgainNs = 100'000;  // until a request that is not answered is sent as a signal
constexpr std::int64_t kIdlePollNs = 10'000'000;
constexpr std::int64_t kDeepSleepNs = 1'000'000'000;
constexpr std::uint32_t kPollBudget = 128;
constexpr std::int64_t kStackRoundNs = 1'000'000'000;
constexpr std::uint32_t kStacksAPass = 128;  // about 0.1 ms
}  // namespace

void* Runtime::sysmon_entry(void* runtime) {
  static_cast<Runtime*>(runtime)->sysmon_loop();
  return nullptr;
}

// It sleeps deeply while every P is idle. Whoever ends that calls this, after idle_count() has changed (seq_cst, as are
// both looks of sysmon's at it around its raising of the flag: one of the two sees the other).
void Runtime::wake_sysmon() {
  if (!sysmon_sleeps_.load(std::memory_order_seq_cst) || !sysmon_sleeps_.exchange(false, std::memory_order_seq_cst))
    return;
  sysmon_word_.fetch_add(1, std::memory_order_release);
  os::futex_wake(sysmon_word_, 1);
}

// Asks the goroutine on p to yield, if it has had its slice or timers of p are overdue; one that was asked in an earlier
// pass, and has not answered, is sent a signal (preempt.h). True while an answer is due.
bool Runtime::ask_for_slice(Processor& p, std::int64_t now) {
  const std::uint32_t tick = p.slice_tick.load(std::memory_order_relaxed);
  if (tick != p.seen_slice_tick) {
    p.seen_slice_tick = tick;
    p.seen_slice_ns = now;
    p.asked_at_tick = tick - 1;
  }
  if (options_.preempt == RuntimeOptions::Preempt::kOff) return false;
  const std::int64_t due = p.timers.next_when();
  if (now - p.seen_slice_ns < static_cast<std::int64_t>(options_.slice_us) * 1000 && (due == 0 || due > now))
    return false;
  const bool again = p.asked_at_tick == tick;
  p.asked_at_tick = tick;
  p.attention.fetch_or(kAttentionPreempt, std::memory_order_relaxed);
  const int thread = p.thread_id.load(std::memory_order_relaxed);
  if (again && signals() && thread != 0) {
    preempt::send(thread);
    counters_.signals.fetch_add(1, std::memory_order_relaxed);
  }
  return signals();
}

void Runtime::sysmon_loop() {
  std::int64_t delay = kShortestNs;
  std::uint32_t quiet_rounds = 0;
  std::uint64_t polls_seen = 0;
  std::int64_t next_stack_round = os::monotonic_ns() + kStackRoundNs;
  const auto slice_ns = static_cast<std::int64_t>(options_.slice_us) * 1000;
  while (!sysmon_stop_.load(std::memory_order_acquire)) {
    const std::uint32_t word = sysmon_word_.load(std::memory_order_acquire);
    if (procs_.idle_count(std::memory_order_seq_cst) == p_count() &&
        !short_of_threads_.load(std::memory_order_relaxed)) {
      sysmon_sleeps_.store(true, std::memory_order_seq_cst);
      const bool in_round = os::monotonic_ns() >= next_stack_round;
      if (procs_.idle_count(std::memory_order_seq_cst) == p_count())
        os::futex_wait(sysmon_word_, word, in_round ? kLongestNs : kDeepSleepNs);
      sysmon_sleeps_.store(false, std::memory_order_seq_cst);
      delay = kShortestNs;
      quiet_rounds = 0;
      if (sysmon_stop_.load(std::memory_order_acquire)) return;
    }
    os::futex_wait(sysmon_word_, word, std::min(delay, std::max(slice_ns / 2, kShortestNs)));
    if (sysmon_stop_.load(std::memory_order_acquire)) return;

    const std::int64_t now = os::monotonic_ns();
    bool acted = false, asked = false;
    for (PId i = 0; i < p_count(); ++i) {
      Processor& p = procs_.at(i);
      const PStatus status = p.status.load(std::memory_order_acquire);
      if (status == PStatus::kSyscall) {
        const std::uint32_t tick = p.syscall_tick.load(std::memory_order_relaxed);
        if (tick != p.seen_syscall_tick) {
          p.seen_syscall_tick = tick;
          p.seen_syscall_ns = now;
        } else if (scheduler_->has_runnable() || p.timers.next_when() != 0 || procs_.idle_count() == 0 ||
                   now - p.seen_syscall_ns >= slice_ns) {
          // Somebody waits for it, or it has been away for a slice. Else it is left, so that the caller finds it again.
          if (procs_.retake(&p)) {
            hand_off(&p);
            acted = true;
          }
          continue;
        }
      }
      // A slice goes on through short calls: a loop of them is in one whenever sysmon looks (Go: retake()).
      if (status == PStatus::kRunning || status == PStatus::kSyscall) asked |= ask_for_slice(p, now);
    }
    // Events: a lane that anybody may poll is polled when nobody has for a while. (Owned lanes are looked at by their
    // owners, who were just asked to yield.)
    const std::uint64_t polls =
        counters_.polls.load(std::memory_order_relaxed) + counters_.poller_sleeps.load(std::memory_order_relaxed);
    if (polls != polls_seen) {
      polls_seen = polls;
      last_poll_ns_.store(now, std::memory_order_relaxed);
    } else if (!lane_owner_ && now - last_poll_ns_.load(std::memory_order_relaxed) >= kIdlePollNs &&
               poll_until_.load(std::memory_order_relaxed) == 0 && poller_->in_flight(0) > 0) {
      GList ready;
      poller_->poll(0, 0, kPollBudget, ready);
      last_poll_ns_.store(now, std::memory_order_relaxed);
      if (enqueue_polled(ready, kNoP, Why::kInjected)) acted = true;
    }
    if (procs_.idle_count() > 0) {
      const std::int64_t earliest = earliest_timer();
      const std::int64_t until = poll_until_.load(std::memory_order_relaxed);
      if (earliest != 0 && earliest <= now && (until == 0 || earliest < until)) acted |= wake_one_parked_p();
    }
    if (short_of_threads_.load(std::memory_order_relaxed) && scheduler_->has_runnable()) acted |= wake_one_parked_p();
    scheduler_->on_tick(now);
    if (now >= next_stack_round) {
      const std::uint32_t released = stacks_.release_idle(kStacksAPass);
      counters_.stacks_released.fetch_add(released, std::memory_order_relaxed);
      if (released == 0) next_stack_round = now + kStackRoundNs;
    }
    quiet_rounds = acted ? 0 : quiet_rounds + 1;
    delay = quiet_rounds < 50 ? kShortestNs : std::min(delay * 2, kLongestNs);
    if (asked) delay = std::min(delay, kAskAgainNs);
  }
}

}  // namespace gearbox
