// Sockets, eventfds and epoll: thin calls that answer with a result or -errno, never through errno, and retry EINTR
// where a retry loses nothing. Any thread; async-signal-safe where it says so.
//
// Answers are -errno because callers are goroutines: errno belongs to a thread, and a goroutine may be on another one
// by the time it looks.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace gearbox::os {

// An IPv4 or IPv6 address with a port.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;

  std::string text() const;  // "127.0.0.1:6380", "[::1]:6380"
  int family() const noexcept { return storage.ss_family; }
  std::uint16_t port() const noexcept;
  sockaddr* raw() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* raw() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
};
// "host:port". host: a numeric address, "localhost", or nothing, which is loopback: reaching out to the network is
// something one asks for. Names are not looked up.
Result<SocketAddress> parse_address(std::string_view text);

// ---- sockets. All are non-blocking and close-on-exec.
int open_stream_socket(int family) noexcept;
int bind_and_listen(int fd, const SocketAddress& address, int backlog) noexcept;  // with SO_REUSEADDR
int socket_pair(int fds[2]) noexcept;
int local_address(int fd, SocketAddress& out) noexcept;
int remote_address(int fd, SocketAddress& out) noexcept;
int set_no_delay(int fd) noexcept;
int set_linger_zero(int fd) noexcept;  // close() sends a reset
int shut_down_writing(int fd) noexcept;
int socket_type(int fd) noexcept;  // SOCK_STREAM, SOCK_DGRAM, ...; -ENOTSOCK: something else
int set_blocking(int fd, bool blocking) noexcept;

// ---- one attempt each; never wait, not even on a blocking socket (`socket`: a pipe or eventfd is read and written
// instead, and must be non-blocking). -EAGAIN: would wait. HOT.
std::int64_t try_receive(int fd, bool socket, void* into, std::size_t bytes) noexcept;
std::int64_t try_send(int fd, bool socket, const void* from, std::size_t bytes) noexcept;
// The descriptor, non-blocking. REQUIRES: fd is non-blocking.
std::int64_t try_accept(int fd) noexcept;
// 0: connected. May be called again until it is: then it tells how the attempt that is under way stands.
std::int64_t try_connect(int fd, const void* address, std::size_t bytes) noexcept;

// A descriptor number is gone after close(), even when that says EINTR.
void close_descriptor(int fd) noexcept;

// ---- eventfd
int make_eventfd(bool blocking) noexcept;
void signal_eventfd(int fd) noexcept;  // async-signal-safe
void drain_eventfd(int fd) noexcept;   // REQUIRES: non-blocking

// ---- epoll
struct EpollEvent {  // without initial values: arrays of it are filled by the kernel
  std::uint32_t events;
  std::uint64_t data;
} __attribute__((packed));  // the kernel's layout on x86-64
inline constexpr std::uint32_t kEpollIn = 0x001, kEpollUrgent = 0x002, kEpollOut = 0x004, kEpollError = 0x008,
                               kEpollHangUp = 0x010, kEpollPeerClosed = 0x2000, kEpollEdge = 1u << 31;
int epoll_make() noexcept;
int epoll_add(int epoll, int fd, std::uint32_t events, std::uint64_t data) noexcept;
int epoll_change(int epoll, int fd, std::uint32_t events, std::uint64_t data) noexcept;
// How many events, or -errno. timeout_ns: 0 none, -1 for ever; else rounded up to what the kernel can do. EINTR is
// the caller's.
int epoll_wait_ns(int epoll, EpollEvent* events, int capacity, std::int64_t timeout_ns) noexcept;

}  // namespace gearbox::os
