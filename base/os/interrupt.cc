#include "base/os/interrupt.h"

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "base/os/socket.h"
#include "base/os/thread.h"

namespace gearbox::os {
namespace {

constexpr std::size_t kStackBytes = 128 * 1024;

std::atomic<bool> taken{false};
// The eventfd by a number of its own, until the first signal: the caller may close its number at any moment, and the
// next file that is opened would get it. acq_rel: whoever sees it may write to it, and closes it.
std::atomic<int> told{-1};

sigset_t interrupts() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now {};
    if (::sigaction(signal, nullptr, &now) == 0 && now.sa_handler != SIG_IGN) sigaddset(&set, signal);
  }
  return set;
}

// As the signal would have, had it not been blocked.
void end_by(int signal) {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  ::signal(signal, SIG_DFL);
  ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  ::raise(signal);
}

void* take_all(void*) {
  const sigset_t set = interrupts();
  for (;;) {
    int signal = 0;
    if (::sigwait(&set, &signal) != 0) continue;
    if (const int fd = told.exchange(-1, std::memory_order_acq_rel); fd >= 0) {
      signal_eventfd(fd);
      close_descriptor(fd);
    } else {
      end_by(signal);
    }
  }
  return nullptr;
}

}  // namespace

Status take_interrupts() {
  GEARBOX_REQUIRE(!taken.exchange(true, std::memory_order_acq_rel));
  const sigset_t set = interrupts();
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0)
    return os_error("pthread_sigmask", error);
  auto thread = start_thread(take_all, nullptr, kStackBytes, "gearbox-signals");
  if (!thread) {
    ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    return thread.error();
  }
  return Ok{};
}

Result<int> interrupt_eventfd() {
  if (!taken.load(std::memory_order_acquire))
    return Error{"signals cannot be waited for here: nobody called take_interrupts() before the first thread started"};
  const int fd = make_eventfd(false);
  if (fd < 0) return os_error("eventfd", -fd);
  const int own = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) {
    const int error = errno;
    close_descriptor(fd);
    return os_error("fcntl(F_DUPFD_CLOEXEC)", error);
  }
  if (const int earlier = told.exchange(own, std::memory_order_acq_rel); earlier >= 0) close_descriptor(earlier);
  return fd;
}

}  // namespace gearbox::os
