// What the runtime says of its goroutines when something is wrong.
#include "base/last_words.h"
#include "runtime/fatal.h"
#include "runtime/frames.h"
#include "runtime/runtime.h"
#include "runtime/symbols.h"

namespace gearbox {
namespace {

const char* describe_status(const Goroutine& g, GStatus status) {
  switch (status) {
    case GStatus::kWaiting:
      return g.wait_reason;
    case GStatus::kSyscall:
      return "syscall";
    case GStatus::kRunning:
    case GStatus::kStopped:
      return "running";
    default:
      return "runnable";
  }
}

// `live`: the frames of the thread that runs it, if that is known. A running goroutine has no others, and the context of
// one in a system call is that of its last switch.
void print_goroutine(const Goroutine& g, GStatus status, const FrameList* live) {
  limit_report();
  say("goroutine {} [{}{}{}]:\n", g.id, describe_status(g, status), g.locked_m != nullptr ? ", locked to thread" : "",
      g.system ? ", system" : "");
  if (live != nullptr) {
    print_trace(live->addresses, live->count);
  } else if (status == GStatus::kRunning || status == GStatus::kSyscall) {
    say("\tgoroutine on a thread that does not answer; stack unavailable\n");
  } else {
    FrameList frames;
    capture_parked(g, frames);
    print_trace(frames.addresses, frames.count);
  }
  if (g.parent_id != 0) print_creator(g.creator_pc, g.parent_id);
  say("\n");
}

}  // namespace

// Goroutines that are parked or runnable, with the trace from their saved context. Called when the process is lost:
// nothing here is locked, and nothing is allocated.
void Runtime::print_all_goroutines(bool including_running) {
  constexpr int kMost = 100;
  int printed = 0;
  for (std::uint32_t i = 0; i < goroutines_.count() && printed < kMost; ++i) {
    const Goroutine* g = goroutines_.at(i);
    const GStatus status = g->status.load(std::memory_order_acquire);
    if (status == GStatus::kDead || g->system) continue;
    if (status == GStatus::kRunning && !including_running) continue;
    print_goroutine(*g, status, nullptr);
    ++printed;
  }
  if (printed == kMost) say("... and more; {} goroutines in all\n", goroutine_count());
}

void Runtime::report_deadlock() {
  claim_last_words();
  say("fatal error: all goroutines are asleep - deadlock!\n\n");
  print_all_goroutines(false);
  exit_process(2);
}

}  // namespace gearbox
