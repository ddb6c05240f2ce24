#include "base/os/file.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace gearbox::os {

int write_all(int fd, const char* data, std::size_t bytes) noexcept {
  while (bytes > 0) {
    const ssize_t n = ::write(fd, data, bytes);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {  // a program that shares the terminal or pipe has made it non-blocking
        pollfd watched{fd, POLLOUT, 0};
        ::poll(&watched, 1, -1);
        continue;
      }
      return errno;
    }
    data += n;
    bytes -= static_cast<std::size_t>(n);
  }
  return 0;
}

Result<std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return os_error("open " + path, errno);
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      ::close(fd);
      return os_error("read " + path, error);
    }
    if (n == 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return text;
}

}  // namespace gearbox::os
