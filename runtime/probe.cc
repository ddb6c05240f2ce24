#include "runtime/probe.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "base/os/thread.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace {

// A real-time signal carries a pointer, which is one of these.
struct Request {
  void (*act)(Request& request, const void* ucontext) = nullptr;
};

int probe_signal() noexcept { return SIGRTMAX - 3; }

void on_probe(int, siginfo_t* info, void* context) {
  if (info->si_code != SI_QUEUE || info->si_pid != os::process_id()) return;  // none of ours
  const int saved_errno = errno;
  auto& request = *static_cast<Request*>(info->si_value.sival_ptr);
  request.act(request, context);
  errno = saved_errno;
}

bool send(int thread_id, Request& request) noexcept {
  siginfo_t info{};
  info.si_signo = probe_signal();
  info.si_code = SI_QUEUE;
  info.si_pid = os::process_id();
  info.si_uid = ::getuid();
  info.si_value.sival_ptr = &request;
  return ::syscall(SYS_rt_tgsigqueueinfo, os::process_id(), thread_id, probe_signal(), &info) == 0;
}

[[maybe_unused]] bool has_idle_signal_stack() noexcept {
  stack_t stack{};
  sigset_t blocked;
  return ::sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & (SS_ONSTACK | SS_DISABLE)) == 0 &&
         ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked) == 0 && sigismember(&blocked, probe_signal()) == 0;
}

}  // namespace

void arm_probe() {
  struct sigaction action {};
  action.sa_sigaction = on_probe;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  ::sigaction(probe_signal(), &action, nullptr);
}

void on_signal_stack(void (*f)(void*), void* context) noexcept {
#if !GEARBOX_ASAN && !GEARBOX_TSAN  // they take a goroutine's stack for granted; ours have room for a frame there
  struct Call : Request {
    void (*f)(void*);
    void* context;
  } call;
  call.act = [](Request& request, const void*) {
    auto& call = static_cast<Call&>(request);
    call.f(call.context);
  };
  call.f = f;
  call.context = context;
  if (has_idle_signal_stack() && send(os::thread_id(), call)) return;  // it is delivered before the call returns
#endif
  f(context);
}

}  // namespace gearbox
