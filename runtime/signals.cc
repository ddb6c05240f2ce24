#include "runtime/signals.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <exception>
#include <mutex>

#include "base/last_words.h"
#include "base/os/thread.h"
#include "runtime/fatal.h"
#include "runtime/faults.h"
#include "runtime/guard.h"
#include "runtime/misuse.h"
#include "runtime/panic.h"
#include "runtime/probe.h"
#include "runtime/runtime.h"
#include "runtime/symbols.h"
#include "runtime/trace.h"

namespace gearbox {
namespace {

// A trace is written here, and debug information read.
constexpr std::size_t kSignalStackBytes = 256 * 1024;

// Go's form for signals that no instruction of the program can be blamed for.
void say_signal(const char* name, int code, const void* ucontext) {
  const Machine* m = current_machine();
  say("{}\nPC={:#x} m={} sigcode={}\n\n", name,
      static_cast<std::uintptr_t>(static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs[REG_RIP]),
      m != nullptr ? static_cast<int>(m->id) : -1, code);
}

void say_fault(const Fault& fault) {
  if (fault.runtime_error != nullptr)
    say("fatal error: unexpected signal during runtime execution: {}\n", fault.runtime_error);
  else if (fault.code > 0 && fault.signal != SIGFPE)
    say("unexpected fault address {:#x}\nfatal error: fault\n", fault.address);
  else
    say("fatal error: unexpected signal during runtime execution\n");
  char signal[256];
  say(std::string_view(signal, describe_signal(fault, signal, sizeof(signal))));
  say("\n");
}

// Ends the process by the signal, if no goroutine is to blame: the default action leaves a core.
void end_by(int number) {
  flush_standard_output();
  ::signal(number, SIG_DFL);
  ::raise(number);  // delivered when the handler returns, if the signal is blocked in it
}

// On the signal stack, if the thread has one. A fault that is not the program's own is the end of the process: what is
// called here need only not make it worse, and must not wait: the fault may have been inside malloc(), with its lock held.
// So nothing here allocates.
void on_fault(int number, siginfo_t* info, void* context) {
  leave_guarded_call();
  const int saved_errno = errno;
  const Fault fault = fault_of(*info, context);
  Interrupted where;
  capture_interrupted(context, where);
  if (!last_words_claimed() && is_misuse(fault, where)) die_of_misuse(where.frames);
  if (make_panic_of(fault, where, context)) {
    errno = saved_errno;
    return;
  }
  const Goroutine* g = current_goroutine();
  const bool first = claim_last_words();
  if (g != nullptr && fault.signal != SIGFPE && Stacks::in_guard(*g, fault.address))
    say("runtime: goroutine {} stack exceeds {}-byte limit\nfatal error: stack overflow\n\n", g->id,
        current_runtime().stacks().stack_bytes());
  else if (number == SIGILL)
    say_signal("SIGILL: illegal instruction", info->si_code, context);
  else
    say_fault(fault);
  if (!first) ::_exit(2);
  limit_report();
  say_who();
  print_trace(where.frames.addresses, where.frames.count);
  if (g != nullptr) exit_process(2);
  end_by(number);
}

// abort(): of the C library, which found its heap damaged; of an assertion; of a broken promise of ours (base/check.h),
// whose message precedes this. The default action follows.
void on_abort(int number, siginfo_t* info, void* context) {
  const bool first = claim_last_words();
  const bool has_message = !first;
  if (!has_message) say_signal("SIGABRT: abort", info->si_code, context);
  Interrupted where;
  capture_interrupted(context, where);
  limit_report();
  say_who();
  print_trace(where.frames.addresses, where.frames.count);
  end_by(number);
}

// The user's Ctrl-\\, or a runner whose patience is over: as in Go, everything that the process does is printed. A second
// one ends a report that hangs.
void on_quit(int, siginfo_t* info, void* context) {
  if (last_words_claimed()) ::_exit(2);
  claim_last_words();
  say_signal("SIGQUIT: quit", info->si_code, context);
  limit_report();
  report_everything(context);
  exit_process(2);
}

void handle(int number, void (*handler)(int, siginfo_t*, void*), int more_flags) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | more_flags;
  sigemptyset(&action.sa_mask);
  ::sigaction(number, &action, nullptr);
}

}  // namespace

void arm_signals() {
  static std::once_flag once;  // signal dispositions are the process's, not a runtime's
  std::call_once(once, [] {
    ::signal(SIGPIPE, SIG_IGN);
    prepare_unwinder();
    arm_probe();
    std::set_terminate(on_terminate);
    handle(SIGABRT, on_abort, 0);
    handle(SIGQUIT, on_quit, SA_RESTART);
#if !GEARBOX_ASAN && !GEARBOX_TSAN
    for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) handle(number, on_fault, SA_NODEFER);
#else
    (void)&on_fault;  // the sanitizers' own reports say more
#endif
  });
}

Result<void*> install_signal_stack() {
  void* memory =
      ::mmap(nullptr, kSignalStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return os_error("mmap", errno);
  stack_t stack{};
  stack.ss_sp = memory;
  stack.ss_size = kSignalStackBytes;
  if (::sigaltstack(&stack, nullptr) != 0) {
    const int error = errno;
    ::munmap(memory, kSignalStackBytes);
    return os_error("sigaltstack", error);
  }
  return memory;
}

void remove_signal_stack(void* stack) {
  if (stack == nullptr) return;
  stack_t off{};
  off.ss_flags = SS_DISABLE;
  ::sigaltstack(&off, nullptr);
  ::munmap(stack, kSignalStackBytes);
}

}  // namespace gearbox
