#include "base/os/feature.h"

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace gearbox::os {

Status try_io_uring() {
  io_uring_params parameters{};
  const int fd = static_cast<int>(::syscall(SYS_io_uring_setup, 4, &parameters));
  if (fd < 0) return os_error("io_uring_setup", errno);
  ::close(fd);
  return Ok{};
}

}  // namespace gearbox::os
