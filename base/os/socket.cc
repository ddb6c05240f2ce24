#include "base/os/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <ctime>

namespace gearbox::os {
namespace {

template <class F>
std::int64_t retried(F call) noexcept {
  for (;;) {
    const auto answer = call();
    if (answer >= 0) return answer;
    if (errno != EINTR) return -errno;
  }
}
int status(int answer) noexcept { return answer < 0 ? -errno : 0; }

}  // namespace

std::uint16_t SocketAddress::port() const noexcept {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
  if (family() == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
  return 0;
}

std::string SocketAddress::text() const {
  char host[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr, host, sizeof(host));
    return fmt::format("{}:{}", host, port());
  }
  if (family() == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr, host, sizeof(host));
    return fmt::format("[{}]:{}", host, port());
  }
  return "(unnamed)";
}

Result<SocketAddress> parse_address(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return Error{
        fmt::format("address '{}': {}; it looks like 127.0.0.1:6380, [::1]:6380 or :6380 (loopback)", text, why),
        EINVAL};
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad("there is no port");
  std::string host(text.substr(0, colon));
  if (host.find('\0') != std::string::npos) return bad("the host is a numeric address or localhost");  // C ends there
  const std::string_view digits = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size())
    return bad("the port is a whole number from 0 to 65535");
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host.empty() || host == "localhost") host = "127.0.0.1";
  SocketAddress out;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out.bytes = sizeof(sockaddr_in);
  } else if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out.bytes = sizeof(sockaddr_in6);
  } else {
    return bad("the host is a numeric address or localhost");
  }
  return out;
}

int open_stream_socket(int family) noexcept {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd < 0 ? -errno : fd;
}

int bind_and_listen(int fd, const SocketAddress& address, int backlog) noexcept {
  const int on = 1;
  if (::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0) return -errno;
  if (::bind(fd, address.raw(), address.bytes) < 0) return -errno;
  return status(::listen(fd, backlog));
}

int socket_pair(int fds[2]) noexcept {
  return status(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
}
int local_address(int fd, SocketAddress& out) noexcept {
  out.bytes = sizeof(out.storage);
  return status(::getsockname(fd, out.raw(), &out.bytes));
}
int remote_address(int fd, SocketAddress& out) noexcept {
  out.bytes = sizeof(out.storage);
  return status(::getpeername(fd, out.raw(), &out.bytes));
}
int set_no_delay(int fd) noexcept {
  const int on = 1;
  return status(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
}
int set_linger_zero(int fd) noexcept {
  const linger zero{1, 0};
  return status(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &zero, sizeof(zero)));
}
int shut_down_writing(int fd) noexcept { return status(::shutdown(fd, SHUT_WR)); }
int socket_type(int fd) noexcept {
  int type = 0;
  socklen_t bytes = sizeof(type);
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0 ? -errno : type;
}
int set_blocking(int fd, bool blocking) noexcept {
  int non_blocking = blocking ? 0 : 1;
  return status(::ioctl(fd, FIONBIO, &non_blocking));
}

std::int64_t try_receive(int fd, bool socket, void* into, std::size_t bytes) noexcept {
  if (socket) return retried([&] { return ::recv(fd, into, bytes, MSG_DONTWAIT); });
  return retried([&] { return ::read(fd, into, bytes); });
}
std::int64_t try_send(int fd, bool socket, const void* from, std::size_t bytes) noexcept {
  if (socket) return retried([&] { return ::send(fd, from, bytes, MSG_DONTWAIT | MSG_NOSIGNAL); });
  return retried([&] { return ::write(fd, from, bytes); });
}
std::int64_t try_accept(int fd) noexcept {
  return retried([&] { return ::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); });
}
std::int64_t try_connect(int fd, const void* address, std::size_t bytes) noexcept {
  const auto answer =
      retried([&] { return ::connect(fd, static_cast<const sockaddr*>(address), static_cast<socklen_t>(bytes)); });
  if (answer == -EISCONN) return 0;
  return answer == -EINPROGRESS || answer == -EALREADY ? -EAGAIN : answer;
}

void close_descriptor(int fd) noexcept { ::close(fd); }

int make_eventfd(bool blocking) noexcept {
  const int fd = ::eventfd(0, EFD_CLOEXEC | (blocking ? 0 : EFD_NONBLOCK));
  return fd < 0 ? -errno : fd;
}
void signal_eventfd(int fd) noexcept {
  const int saved = errno;  // the interrupted code's, when this is a signal handler
  const std::uint64_t one = 1;
  while (::write(fd, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
  errno = saved;
}
void drain_eventfd(int fd) noexcept {
  std::uint64_t count = 0;
  while (::read(fd, &count, sizeof(count)) < 0 && errno == EINTR) {
  }
}

static_assert(sizeof(EpollEvent) == sizeof(epoll_event));
static_assert(kEpollIn == EPOLLIN && kEpollUrgent == EPOLLPRI && kEpollOut == EPOLLOUT && kEpollError == EPOLLERR &&
              kEpollHangUp == EPOLLHUP && kEpollPeerClosed == EPOLLRDHUP && kEpollEdge == EPOLLET);

int epoll_make() noexcept {
  const int fd = ::epoll_create1(EPOLL_CLOEXEC);
  return fd < 0 ? -errno : fd;
}
int epoll_add(int epoll, int fd, std::uint32_t events, std::uint64_t data) noexcept {
  EpollEvent event{events, data};
  return status(::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, reinterpret_cast<epoll_event*>(&event)));
}
int epoll_change(int epoll, int fd, std::uint32_t events, std::uint64_t data) noexcept {
  EpollEvent event{events, data};
  return status(::epoll_ctl(epoll, EPOLL_CTL_MOD, fd, reinterpret_cast<epoll_event*>(&event)));
}
int epoll_wait_ns(int epoll, EpollEvent* events, int capacity, std::int64_t timeout_ns) noexcept {
  auto* raw = reinterpret_cast<epoll_event*>(events);
  int answer = 0;
  if (timeout_ns <= 0) {
    answer = ::epoll_wait(epoll, raw, capacity, timeout_ns == 0 ? 0 : -1);
  } else {
    const timespec timeout{static_cast<time_t>(timeout_ns / 1'000'000'000),
                           static_cast<long>(timeout_ns % 1'000'000'000)};
    answer = ::epoll_pwait2(epoll, raw, capacity, &timeout, nullptr);
    if (answer < 0 && errno == ENOSYS) {  // before Linux 5.11: milliseconds, and never early
      const std::int64_t ms = (timeout_ns - 1) / 1'000'000 + 1;
      answer = ::epoll_wait(epoll, raw, capacity, static_cast<int>(ms < 0x7fffffff ? ms : 0x7fffffff));
    }
  }
  return answer < 0 ? -errno : answer;
}

}  // namespace gearbox::os
