#include "base/os/interrupt.h"

#include <atomic>
#include <csignal>

#include "base/os/socket.h"

namespace gearbox::os {
namespace {
std::atomic<int> told{-1};
void on_signal(int) {
  if (const int fd = told.load(std::memory_order_relaxed); fd >= 0) signal_eventfd(fd);
}
}  // namespace

Result<int> interrupt_eventfd() {
  const int fd = make_eventfd(false);
  if (fd < 0) return os_error("eventfd", -fd);
  told.store(fd, std::memory_order_relaxed);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM})
    if (::sigaction(signal, &action, nullptr) != 0) return os_error("sigaction", errno);
  return fd;
}

}  // namespace gearbox::os
