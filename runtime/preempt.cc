#include "runtime/preempt.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/last_words.h"
#include "base/os/file.h"
#include "base/os/thread.h"
#include "base/sanitize.h"
#include "interfaces/mutant.h"
#include "interfaces/restart.h"
#include "runtime/runtime.h"

extern "C" char __executable_start[], etext[];

namespace gearbox {
namespace preempt {
namespace {

// The kernel's layout of the saved vector registers: the legacy area of 512 bytes, then what the processor adds.
constexpr std::size_t kLegacyBytes = 512, kSoftwareBytesAt = 464;
constexpr std::uint32_t kExtendedMagic = 0x46505853;  // FP_XSTATE_MAGIC1

struct Sequence {
  std::uintptr_t begin, end;
};
// Sorted by address; written once, before the handler is installed.
std::vector<Sequence>& sequences() {
  static std::vector<Sequence> all;
  return all;
}

void on_request(int, siginfo_t*, void* registers) {
  const int error = errno;
  if (Machine* m = current_machine(); m != nullptr) m->runtime->interrupted(m, static_cast<ucontext_t*>(registers));
  errno = error;
}

}  // namespace

bool can_signal() noexcept { return !GEARBOX_TSAN; }

bool is_own_text(std::uintptr_t pc) noexcept {
  return pc - reinterpret_cast<std::uintptr_t>(__executable_start) <
         static_cast<std::uintptr_t>(etext - __executable_start);
}

void arm() {
  static std::once_flag once;  // signal dispositions are the process's, not a runtime's
  std::call_once(once, [] {
    restart::visit_all([](std::uintptr_t begin, std::uintptr_t end) { sequences().push_back({begin, end}); });
    std::sort(sequences().begin(), sequences().end(),
              [](const Sequence& a, const Sequence& b) { return a.begin < b.begin; });
    struct sigaction action {};
    action.sa_sigaction = on_request;
    // SA_NODEFER: a thread that is started inside the handler would inherit a blocked SIGURG.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGURG, &action, nullptr);
  });
}

void send(int thread_id) noexcept { os::signal_thread(thread_id, SIGURG); }

std::uintptr_t restart_of(std::uintptr_t pc) noexcept {
  const auto& all = sequences();
  auto after = std::upper_bound(all.begin(), all.end(), pc,
                                [](std::uintptr_t at, const Sequence& each) { return at < each.begin; });
  if (after == all.begin()) return pc;
  const Sequence& last = *(after - 1);
  return pc < last.end ? last.begin : pc;
}

GEARBOX_NO_SANITIZE("address", "thread")
void visit_registers(const ucontext_t& registers, void (*visit)(void*, const std::uintptr_t*, std::size_t),
                     void* context) {
  const auto& general = registers.uc_mcontext.gregs;
  visit(context, reinterpret_cast<const std::uintptr_t*>(&general[0]), std::size(general));
  const auto* vector = reinterpret_cast<const std::byte*>(registers.uc_mcontext.fpregs);
  if (vector == nullptr) return;
  struct {
    std::uint32_t magic, extended_bytes;
  } software{};
  std::memcpy(&software, vector + kSoftwareBytesAt, sizeof(software));
  const std::size_t bytes = software.magic == kExtendedMagic ? software.extended_bytes : kLegacyBytes;
  visit(context, reinterpret_cast<const std::uintptr_t*>(vector), bytes / sizeof(std::uintptr_t));
}

}  // namespace preempt

// ---- on the thread that was asked, inside the handler

void Runtime::interrupted(Machine* m, ucontext_t* registers) {
  auto& general = registers->uc_mcontext.gregs;
  const auto pc = static_cast<std::uintptr_t>(general[REG_RIP]);
  const auto sp = static_cast<std::uintptr_t>(general[REG_RSP]);
  Goroutine* g = current_goroutine();
  auto* p = current_processor();
  if (g == nullptr || p == nullptr || m->p != p || p->attention.load(std::memory_order_acquire) == 0) return;  // N1
  if (current_inside() != 0 || !preempt::is_own_text(pc) || sp < g->stack_lo || sp >= g->stack_hi ||
      speaks_last_words()) {
    counters_.signals_refused.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (!GEARBOX_MUTANT(kNoRestart)) general[REG_RIP] = static_cast<greg_t>(preempt::restart_of(pc));
  const Context saved = g->context;
  g->context.sp = reinterpret_cast<void*>(sp);
  g->context.pc = reinterpret_cast<void*>(pc);
  g->context.bp = reinterpret_cast<void*>(general[REG_RBP]);
  g->frozen = registers;
  set_current_g(nullptr);  // as on an M's own stack: and a signal that comes meanwhile is refused

  if ((p->attention.load(std::memory_order_acquire) & kAttentionStop) != 0) {
    g->status.store(GStatus::kStopped, std::memory_order_relaxed);
    counters_.stopped_by_signal.fetch_add(1, std::memory_order_relaxed);
    hold_at_safepoint(m, p);
    if (ended_.load(std::memory_order_acquire)) leave_for_good(m, g);
    p = static_cast<Processor*>(m->p);
  }
  if (p == nullptr) {
    freeze_until_picked(m, g);  // GOMAXPROCS fell meanwhile
  } else if ((p->attention.load(std::memory_order_acquire) & kAttentionPreempt) != 0 && g->no_preempt == 0) {
    if (may_freeze()) {
      freeze_until_picked(m, g);
      frozen_.fetch_sub(1, std::memory_order_relaxed);
    } else {
      // It keeps its P for another slice. The request comes down, or sysmon would signal over and over.
      p->attention.fetch_and(~kAttentionPreempt, std::memory_order_relaxed);
      p->slice_tick.fetch_add(1, std::memory_order_relaxed);
    }
  }
  p = static_cast<Processor*>(m->p);
  if (p->scanning) collector_->scan_before_run(g);  // X2
  g->frozen = nullptr;
  g->context = saved;
  g->status.store(GStatus::kRunning, std::memory_order_relaxed);
  set_current_g(g);
}

// Whether one more thread may wait for its goroutine to be picked: there are fewer than frozen_max, and another M is at
// hand for the P. Counts it in.
bool Runtime::may_freeze() {
  if (frozen_.fetch_add(1, std::memory_order_relaxed) < options_.frozen_max) {
    if (spare_machine_is_there()) return true;
  } else if (!said_frozen_max_.exchange(true, std::memory_order_relaxed)) {
    const std::string line = fmt::format(
        "gearbox: {} goroutines are preempted in loops without safepoints, each on a thread of its own, and "
        "--runtime frozen_max={} allows no more; further ones keep their P (said once)\n",
        options_.frozen_max, options_.frozen_max);
    os::write_all(2, line.data(), line.size());
  }
  frozen_.fetch_sub(1, std::memory_order_relaxed);
  counters_.freezes_refused.fetch_add(1, std::memory_order_relaxed);
  return false;
}

// Puts the frozen g into the queue, gives the P on, and returns when g has been picked and m has the picker's P.
void Runtime::freeze_until_picked(Machine* m, Goroutine* g) {
  const bool was_locked = g->locked_m != nullptr;
  g->locked_m = m;
  m->locked_g = g;
  counters_.preempted_by_signal.fetch_add(1, std::memory_order_relaxed);
  for (;;) {
    auto* p = static_cast<Processor*>(m->p);
    g->status.store(GStatus::kRunnable, std::memory_order_relaxed);
    if (p != nullptr) {
      p->attention.fetch_and(~kAttentionPreempt, std::memory_order_relaxed);
      p->schedule_tick = 0;  // a slice is a long time: timers and the poller before the next goroutine
      scheduler_->enqueue(g, p->id, Why::kPreempted);
      scheduler_->on_slice_over(p->id);
    } else {
      scheduler_->enqueue(g, kNoP, Why::kInjected);
    }
    sleep_locked(m);  // gives p up first
    if (ended_.load(std::memory_order_acquire)) leave_for_good(m, g);
    GEARBOX_REQUIRE(m->held == g, "X2: M {} was woken for another goroutine than its frozen one", m->id);
    m->held = nullptr;
    p = static_cast<Processor*>(m->p);
    if ((p->attention.load(std::memory_order_acquire) & kAttentionStop) == 0) break;
    hold_at_safepoint(m, p);
    if (ended_.load(std::memory_order_acquire)) leave_for_good(m, g);
    if (m->p != nullptr) break;
  }
  auto* p = static_cast<Processor*>(m->p);
  p->slice_tick.store(p->slice_tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (p->scanning) collector_->scan_before_run(g);  // X2, ahead of the next two lines
  if (!was_locked) {
    g->locked_m = nullptr;
    m->locked_g = nullptr;
  }
}

// The program has ended while g was frozen. The thread leaves the handler for its M's loop, which sees the end; the
// kernel keeps nothing of a handler that does not return but the frames on the signal stack.
void Runtime::leave_for_good(Machine* m, Goroutine* g) {
  m->after = nullptr;
  m->call = nullptr;
  m->held = nullptr;
  g->frozen = nullptr;  // the registers lie on this thread's signal stack, which goes with it
  switch_stacks(&g->context, &m->context, &g->identity, &m->identity, true);
  GEARBOX_PANIC("a goroutine was resumed after the end of the program");
}

}  // namespace gearbox
