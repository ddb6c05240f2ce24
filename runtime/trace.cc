// What the runtime says of its goroutines when something is wrong.
#include "base/os/file.h"
#include "runtime/fatal.h"
#include "runtime/frames.h"
#include "runtime/runtime.h"
#include "runtime/symbols.h"

namespace gearbox {

// Goroutines that are parked or runnable, with the trace from their saved context. Called when the process is lost:
// nothing here is locked.
void Runtime::print_all_goroutines(bool including_running) {
  constexpr int kMost = 100;
  int printed = 0;
  for (std::uint32_t i = 0; i < goroutines_.count() && printed < kMost; ++i) {
    const Goroutine* g = goroutines_.at(i);
    const GStatus status = g->status.load(std::memory_order_acquire);
    if (status == GStatus::kDead || g->system) continue;
    if (status == GStatus::kRunning && !including_running) continue;
    const char* what =
        status == GStatus::kWaiting
            ? g->wait_reason
            : (status == GStatus::kSyscall ? "syscall" : (status == GStatus::kRunning ? "running" : "runnable"));
    const std::string head = fmt::format("goroutine {} [{}]:\n", g->id, what);
    os::write_all(2, head.data(), head.size());
    if (status != GStatus::kRunning) {
      std::vector<void*> trace;
      trace.push_back(g->context.pc);
      capture_trace_from(g->context.bp, g->stack_lo, g->stack_hi, trace);
      print_trace(trace);
    }
    if (g->parent_id != 0) {
      const std::string by = fmt::format("created in goroutine {} by\n", g->parent_id);
      os::write_all(2, by.data(), by.size());
      print_trace({g->creator_pc});
    }
    os::write_all(2, "\n", 1);
    ++printed;
  }
  if (printed == kMost) {
    const std::string more = fmt::format("... and more; {} goroutines in all\n", goroutine_count());
    os::write_all(2, more.data(), more.size());
  }
}

void Runtime::report_deadlock() {
  constexpr std::string_view kMessage = "fatal error: all goroutines are asleep - deadlock!\n\n";
  os::write_all(2, kMessage.data(), kMessage.size());
  print_all_goroutines(false);
  exit_process(2);
}

}  // namespace gearbox
