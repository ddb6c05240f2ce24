#include "base/os/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "base/check.h"

namespace gearbox::os {

bool futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns) noexcept {
  timespec timeout{};
  timespec* timeout_or_null = nullptr;
  if (timeout_ns >= 0) {
    timeout = {.tv_sec = timeout_ns / 1'000'000'000, .tv_nsec = timeout_ns % 1'000'000'000};
    timeout_or_null = &timeout;
  }
  const long r = ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, timeout_or_null, nullptr, 0);
  if (r == 0) return true;
  const int error = errno;
  if (error == ETIMEDOUT) return false;
  if (error != EAGAIN && error != EINTR) GEARBOX_PANIC("futex wait: {}", strerror(error));
  return true;
}

int futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept {
  const long r = ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
  return r > 0 ? static_cast<int>(r) : 0;
}

}  // namespace gearbox::os
