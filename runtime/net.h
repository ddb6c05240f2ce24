// net: TCP for goroutines, in the manner of Go's package net. Waiting parks the goroutine, never the thread.
//
//     auto listener = net::listen("127.0.0.1:0");
//     go([listener = *listener] {
//       for (auto c = listener.accept(); c; c = listener.accept()) go([c = *c] { serve(c); });
//     });
//     auto conn = net::dial(listener->address());
//     net::Transfer got = conn->read(buffer);  // got.bytes == 0 and no error: the peer has closed its side
//
// Idea.       A Conn or Listener is a counted handle on a Socket. An operation locks its direction (O4: one operation
//             per direction is in flight; others queue in order), begins on the poller, parks until it is final.
// Structure.  DescriptorLock (descriptor_lock.h): closed bit, one lock bit a direction, and the references of operations,
//             in one word, so that an operation costs two shared writes here. SpinLock Socket::lock_ guards the
//             deadlines and the Ops that wait: a deadline or a close finds an Op there alive, or the Op's goroutine
//             finds their mark.
// Invariants. N1  The poller's Conn is closed once, after close() and after the last operation has left (O5).
//             N2  An Op is registered (Socket::current_) only while its goroutine waits for it, and cancelled only
//                 under lock_.
//             N3  Runtime::io_waiters_ counts a goroutine from before it parks until it runs again.
//             N4  Each armed timer holds a reference on its Socket; whoever takes it out of the heap gives it back.
//             N5  A write holds its direction until all its bytes are gone: those of two writers never mix. What only
//                 needs the descriptor (close_write) takes a reference and waits for nobody.
// Threads.    Everything here is called on a goroutine; on_deadline() runs on an M's own stack.
// Rejected.   Deadlines inside the poller: they are absolute, per direction, and may be moved while an operation waits;
//             a timer of the runtime and cancel() do that for every poller alike.
// Cost.       Per operation: two read-modify-writes for the direction, two more and a spin lock pair if it parks.
// Weak spot.  set_deadline() before every read pays for a timer heap each time.
// Source.     Go's internal/poll/fd_mutex.go, fd_unix.go; net/net.go for the words of the errors.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace gearbox::net {

namespace detail {
struct Socket;
void add_reference(Socket* socket) noexcept;
void drop_handle(Socket* socket) noexcept;

// A counted handle on a Socket; the last one closes it.
class Handle {
 public:
  Handle() noexcept = default;
  explicit Handle(Socket* owned) noexcept : socket_(owned) {}
  Handle(const Handle& other) noexcept : socket_(other.socket_) {
    if (socket_ != nullptr) add_reference(socket_);
  }
  Handle(Handle&& other) noexcept : socket_(std::exchange(other.socket_, nullptr)) {}
  Handle& operator=(Handle other) noexcept {
    std::swap(socket_, other.socket_);
    return *this;
  }
  ~Handle() {
    if (socket_ != nullptr) drop_handle(socket_);
  }
  Socket& operator*() const noexcept { return *socket_; }
  Socket* operator->() const noexcept { return socket_; }
  explicit operator bool() const noexcept { return socket_ != nullptr; }

 private:
  Socket* socket_ = nullptr;
};
}  // namespace detail

// Why an operation ended early. Small, no allocation: the errno, and Go's words for it.
class Failure {
 public:
  constexpr Failure() noexcept = default;
  constexpr explicit Failure(int number) noexcept : number_(number) {}
  explicit operator bool() const noexcept { return number_ != 0; }
  int number() const noexcept { return number_; }
  bool timeout() const noexcept;  // a deadline passed
  bool closed() const noexcept;   // by close() on this side
  std::string text() const;       // "i/o timeout", "use of closed network connection", "connection reset by peer"

 private:
  int number_ = 0;
};

struct Transfer {
  std::size_t bytes = 0;  // moved before the failure, too
  Failure error;
  bool ok() const noexcept { return !error; }
};

// One that was never connected, or was moved from: every operation fails with "invalid argument".
class Conn {
 public:
  Conn() noexcept = default;
  // Waits for at least one byte. {0, no error}: the peer has shut its side down, or `into` is empty. An empty `into` is
  // refused after close(), but not after the deadline, as in Go.
  Transfer read(std::span<char> into) const;
  // Until `into` is full. Fewer bytes without an error: the stream ended.
  Transfer read_full(std::span<char> into) const;
  // All of it, or an error. Bytes of several writers do not mix: each waits for its turn.
  Transfer write(std::string_view from) const;
  // Fails everything that waits and everything later with "use of closed network connection". A second close fails so
  // itself.
  Failure close() const;
  // No more will be written; the peer reads to the end and may go on sending. A TCP write that waits fails with EPIPE.
  Failure close_write() const;
  // close() will send a reset instead of what is still unsent.
  Failure set_linger_zero() const;

  // Absolute, CLOCK_MONOTONIC ns (now_ns()); 0: none. May be changed while operations wait; a moment that has passed
  // fails them now and all later ones, until it is moved again.
  Failure set_deadline(std::int64_t when_ns) const;
  Failure set_read_deadline(std::int64_t when_ns) const;
  Failure set_write_deadline(std::int64_t when_ns) const;

  std::string local_address() const;
  std::string remote_address() const;
  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

 private:
  friend struct detail::Socket;
  explicit Conn(detail::Handle socket) noexcept : socket_(std::move(socket)) {}
  detail::Handle socket_;
};

class Listener {
 public:
  Listener() noexcept = default;
  // The next connection, TCP_NODELAY set. error_number says why not: EMFILE leaves the connection in the queue for a
  // later accept, ECANCELED is close(), ETIMEDOUT the deadline.
  Result<Conn> accept() const;
  Failure close() const;
  Failure set_deadline(std::int64_t when_ns) const;
  std::string address() const;
  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

 private:
  friend struct detail::Socket;
  explicit Listener(detail::Handle socket) noexcept : socket_(std::move(socket)) {}
  detail::Handle socket_;
};

// address: "127.0.0.1:0", "[::1]:80", "localhost:80", ":6380". Without a host it is loopback; 0.0.0.0 must be asked
// for. Port 0: any free one. Names other than localhost are not looked up. dial() never returns a connection of a socket
// with itself.
Result<Listener> listen(std::string_view address);
Result<Conn> dial(std::string_view address);
// The same, but gives up at deadline_ns (0: never).
Result<Conn> dial_until(std::string_view address, std::int64_t deadline_ns);
// Two connected ends in one process.
Result<std::pair<Conn, Conn>> pipe();
// Takes over a non-blocking descriptor that can be polled (a pipe, an eventfd, a signalfd, a socket). On error it stays
// the caller's.
Result<Conn> adopt(int fd);
// False when this run's poller moves no bytes (the null member): what is read is zeros then.
bool real();

}  // namespace gearbox::net
