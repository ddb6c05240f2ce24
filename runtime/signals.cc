#include "runtime/signals.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <mutex>

#include "base/os/file.h"
#include "runtime/frames.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace {

constexpr std::size_t kSignalStackBytes = 64 * 1024;

template <class... Arguments>
void say(fmt::string_view format, const Arguments&... arguments) {
  char text[512];
  auto out = fmt::format_to_n(text, sizeof(text), fmt::runtime(format), arguments...);
  os::write_all(2, text, out.size < sizeof(text) ? out.size : sizeof(text));
}

// By dladdr(), which takes the loader's lock, a recursive one, and allocates nothing. Names stay mangled.
void say_frame(std::uintptr_t address) {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(address), &info) != 0 && info.dli_sname != nullptr)
    say("\t{:.300}+{:#x} ({:#x})\n", info.dli_sname, address - reinterpret_cast<std::uintptr_t>(info.dli_saddr),
        address);
  else
    say("\t? ({:#x})\n", address);
}

// Runs on the alternate stack. The process is lost; what is called here need only not make it worse, and must not wait:
// the stack may have ended inside malloc(), with its lock held. So nothing here allocates.
void on_fault(int number, siginfo_t* info, void* raw_context) {
  const auto* context = static_cast<ucontext_t*>(raw_context);
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const G* g = current_g();
  Machine* m = current_machine();
  const G* overflowed = g != nullptr && Stacks::in_guard(*static_cast<const Goroutine*>(g), address) ? g : nullptr;
  if (overflowed != nullptr) {
    say("runtime: goroutine {} stack exceeds {}-byte limit\nfatal error: stack overflow\n\n", overflowed->id,
        m->runtime->stacks().stack_bytes());
  } else if (m != nullptr || g != nullptr) {
    say("fatal error: unexpected signal: {} (address {:#x}, pc {:#x})\n\n",
        number == SIGBUS ? "SIGBUS" : "SIGSEGV: invalid memory address or nil pointer dereference", address,
        static_cast<std::uintptr_t>(context->uc_mcontext.gregs[REG_RIP]));
  }
  if (g != nullptr) {
    say("goroutine {} [running]:\n", g->id);
    say_frame(static_cast<std::uintptr_t>(context->uc_mcontext.gregs[REG_RIP]));
    walk_frames(
        reinterpret_cast<void*>(context->uc_mcontext.gregs[REG_RBP]), g->stack_lo, g->stack_hi,
        [](void*, std::uintptr_t address) { say_frame(address); }, nullptr);
    // Output that is buffered goes out unless another thread is writing, and may be waiting for us.
    if (::ftrylockfile(stdout) == 0) ::fflush_unlocked(stdout);
    ::_exit(2);
  }
  // Not a goroutine's doing: let the default action leave a core.
  ::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

void arm_signals() {
  static std::once_flag once;  // signal dispositions are the process's, not a runtime's
  std::call_once(once, [] {
    ::signal(SIGPIPE, SIG_IGN);
#if !GEARBOX_ASAN && !GEARBOX_TSAN
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGSEGV, &action, nullptr);
    ::sigaction(SIGBUS, &action, nullptr);
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
