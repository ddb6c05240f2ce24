#include "runtime/net.h"

#include <array>
#include <cerrno>

#include "base/os/clock.h"
#include "base/os/socket.h"
#include "interfaces/mutant.h"
#include "runtime/descriptor_lock.h"
#include "runtime/runtime.h"
#include "runtime/timer.h"

namespace gearbox::net {
namespace {

constexpr int kClosedNumber = ECANCELED;
constexpr int kBacklog = 4096;  // the kernel caps it at net.core.somaxconn

constexpr Failure kNoHandle{EINVAL};  // Go's error for a connection that is none

std::string words_of(int number) { return Failure(number).text(); }

}  // namespace

bool Failure::timeout() const noexcept { return number_ == ETIMEDOUT; }
bool Failure::closed() const noexcept { return number_ == kClosedNumber; }
std::string Failure::text() const {
  switch (number_) {
    case 0:
      return "no error";
    case ETIMEDOUT:
      return "i/o timeout";
    case kClosedNumber:
      return "use of closed network connection";
    case ECONNRESET:
      return "connection reset by peer";
    case ECONNREFUSED:
      return "connection refused";
    case EPIPE:
      return "broken pipe";
    case EMFILE:
      return "too many open files";
    case ENFILE:
      return "too many open files in system";
    case EADDRINUSE:
      return "address already in use";
    case EADDRNOTAVAIL:
      return "cannot assign requested address";
    case EINVAL:
      return "invalid argument";
    default:
      return strerror(number_);
  }
}

namespace detail {

struct Socket {
  static Result<Handle> make(int fd) {
    safepoint();
    const Inside inside;
    Runtime& runtime = current_runtime();
    auto conn = runtime.poller().open(fd);
    if (!conn) return conn.error();
    return Handle(new Socket(runtime, *conn));
  }
  static Conn as_conn(Handle handle) { return Conn(std::move(handle)); }
  static Listener as_listener(Handle handle) { return Listener(std::move(handle)); }

  Socket(Runtime& runtime, gearbox::Conn* conn) : runtime_(runtime), conn_(conn) {}

  // One operation, with its direction locked. >= 0, or -errno.
  std::int64_t perform(Verb verb, void* buffer, std::size_t bytes) {
    const Inside inside;
    safepoint();  // a stream that never runs dry must not keep everybody else waiting
    const Direction direction = direction_of(verb);
    if (!lock_word_.acquire(direction)) return -kClosedNumber;
    const std::int64_t result = perform_locked(verb, buffer, bytes);
    if (lock_word_.release(direction)) runtime_.poller().close(conn_, runtime_.lane());
    return result;
  }

  // Everything, or an error. N5: one lock over all of it.
  Transfer write_all(std::string_view from) {
    const Inside inside;
    Transfer all;
    safepoint();
    if (!lock_word_.acquire(Direction::kOut)) return {0, Failure(kClosedNumber)};
    if (from.empty() && expired_[index_of(Direction::kOut)].load(std::memory_order_acquire))
      all.error = Failure(ETIMEDOUT);
    while (!from.empty()) {
      const std::int64_t put =
          perform_locked(Verb::kWrite, const_cast<char*>(from.data()) + all.bytes, from.size() - all.bytes);
      if (put > 0) all.bytes += static_cast<std::size_t>(put);
      if (all.bytes == from.size()) break;
      if (put < 0 && put != -EINTR) {
        all.error = Failure(static_cast<int>(-put));
        break;
      }
      if (lock_word_.closed()) {  // by somebody who need not wait until the peer has taken all this
        all.error = Failure(kClosedNumber);
        break;
      }
      safepoint();
    }
    if (lock_word_.release(Direction::kOut)) runtime_.poller().close(conn_, runtime_.lane());
    return all;
  }

  Failure close() {
    const Inside inside;
    if (!lock_word_.close()) return Failure(kClosedNumber);
    G* woken[2] = {nullptr, nullptr};
    {
      Guard<SpinLock> hold(lock_);
      for (int i = 0; i < 2; ++i)
        if (current_[i] != nullptr) woken[i] = runtime_.poller().cancel(*current_[i], kClosedNumber);
    }
    for (G* g : woken)
      if (g != nullptr) runtime_.ready(g);
    for (int i = 0; i < 2; ++i) move_deadline(i, 0);
    if (lock_word_.drop()) runtime_.poller().close(conn_, runtime_.lane());
    return Failure();
  }
  Failure close_handle() {  // a call of the program's, not the end of a handle
    safepoint_if_on_p();
    return close();
  }

  Failure set_deadline(bool in, bool out, std::int64_t when_ns) {
    const Inside inside;
    safepoint();
    if (lock_word_.closed()) return Failure(kClosedNumber);
    if (in) move_deadline(0, when_ns);
    if (out) move_deadline(1, when_ns);
    return Failure();
  }

  // For calls that need the descriptor but no direction: keeps it open meanwhile. False: closed.
  template <class F>
  Failure with_descriptor(F f) {
    const Inside inside;
    safepoint();
    if (!lock_word_.acquire_reference()) return Failure(kClosedNumber);
    const int answer = f(conn_->fd);
    if (lock_word_.drop()) runtime_.poller().close(conn_, runtime_.lane());
    return Failure(-answer);
  }

  std::string text_of(const os::SocketAddress& address) const {
    safepoint_if_on_p();
    return address.text();
  }

  std::atomic<std::uint32_t> references_{1};  // handles and armed timers
  std::atomic<std::uint32_t> handles_{1};
  os::SocketAddress local_, remote_;

 private:
  // REQUIRES: the direction is locked.
  std::int64_t perform_locked(Verb verb, void* buffer, std::size_t bytes) {
    const Direction direction = direction_of(verb);
    if (expired_[index_of(direction)].load(std::memory_order_acquire)) return -ETIMEDOUT;
    Op op;
    op.verb = verb;
    op.conn = conn_;
    op.buffer = buffer;
    op.bytes = bytes;
    Step step = runtime_.poller().begin(op, runtime_.lane());
    while (step == Step::kPark) {
      await(op, direction);
      step = runtime_.poller().finish(op, runtime_.lane());
    }
    return op.result;
  }

  void await(Op& op, Direction direction) {
    const int i = index_of(direction);
    {
      Guard<SpinLock> hold(lock_);
      current_[i] = &op;
      // A deadline or close() that came before found no Op here.
      if (const int error = lock_word_.closed()                           ? kClosedNumber
                            : expired_[i].load(std::memory_order_relaxed) ? ETIMEDOUT
                                                                          : 0;
          error != 0)
        runtime_.poller().cancel(op, error);  // returns nobody: this goroutine has not parked
    }
    if (op.state.load(std::memory_order_acquire) != Op::kReady) {
      runtime_.io_waiters_.fetch_add(1, std::memory_order_relaxed);
      runtime_.park(
          [](Runtime& runtime, Goroutine* g, void* waited) {
            if (!static_cast<Op*>(waited)->park_as(g)) runtime.ready(g);
          },
          &op, direction == Direction::kIn ? "IO wait (read)" : "IO wait (write)");
      runtime_.io_waiters_.fetch_sub(1, std::memory_order_relaxed);
    }
    Guard<SpinLock> hold(lock_);
    current_[i] = nullptr;
  }

  void move_deadline(int i, std::int64_t when_ns) {
    G* woken = nullptr;
    bool drop = false;
    {
      Guard<SpinLock> hold(lock_);
      drop = disarm(timers_[i]);
      ++timers_[i].sequence;  // a firing under way is stale from here
      const bool past = when_ns != 0 && when_ns <= os::monotonic_ns();
      expired_[i].store(past, std::memory_order_release);
      if (past && current_[i] != nullptr) woken = runtime_.poller().cancel(*current_[i], ETIMEDOUT);
      if (when_ns != 0 && !past && !lock_word_.closed()) {
        timers_[i].when = when_ns;
        timers_[i].argument = this;
        timers_[i].fire = i == 0 ? &on_deadline<0> : &on_deadline<1>;
        if (!drop) references_.fetch_add(1, std::memory_order_relaxed);  // N4
        drop = false;
        runtime_.arm_timer(timers_[i]);
      }
    }
    if (woken != nullptr) runtime_.ready(woken);
    if (drop) drop_reference();
  }

  template <int kIndex>
  static void on_deadline(void* argument, std::uint64_t sequence, std::int64_t) {
    auto* socket = static_cast<Socket*>(argument);
    G* woken = nullptr;
    if (GEARBOX_MUTANT(kStaleDeadline)) os::sleep_ns(20'000);  // on its way longer than usual
    {
      Guard<SpinLock> hold(socket->lock_);
      // A firing that left the heap before the deadline was moved is stale: it must not end what began after that.
      if (sequence == socket->timers_[kIndex].sequence || GEARBOX_MUTANT(kStaleDeadline)) {
        socket->expired_[kIndex].store(true, std::memory_order_release);
        if (socket->current_[kIndex] != nullptr)
          woken = socket->runtime_.poller().cancel(*socket->current_[kIndex], ETIMEDOUT);
      }
    }
    if (woken != nullptr) socket->runtime_.ready(woken);
    socket->drop_reference();
  }

 public:
  void drop_reference() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

 private:
  Runtime& runtime_;
  gearbox::Conn* const conn_;
  DescriptorLock lock_word_;
  SpinLock lock_;  // guards the fields below
  std::array<Op*, 2> current_{nullptr, nullptr};
  std::array<Timer, 2> timers_;
  std::array<std::atomic<bool>, 2> expired_{};  // written under lock_, read without
};

void add_reference(Socket* socket) noexcept { socket->handles_.fetch_add(1, std::memory_order_relaxed); }
void drop_handle(Socket* socket) noexcept {
  const Inside inside;
  if (socket->handles_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  socket->close();
  socket->drop_reference();
}

}  // namespace detail

using detail::Socket;

// ---- Conn

Transfer Conn::read(std::span<char> into) const {
  if (!socket_) return {0, kNoHandle};
  if (into.empty()) return {0, socket_->with_descriptor([](int) { return 0; })};  // closed, or nothing to do
  for (;;) {
    const std::int64_t got = socket_->perform(Verb::kRead, into.data(), into.size());
    if (got == -EINTR) continue;
    if (got < 0) return {0, Failure(static_cast<int>(-got))};
    return {static_cast<std::size_t>(got), {}};
  }
}
Transfer Conn::read_full(std::span<char> into) const {
  Transfer all;
  while (all.bytes < into.size()) {
    const Transfer part = read(into.subspan(all.bytes));
    all.bytes += part.bytes;
    all.error = part.error;
    if (part.error || part.bytes == 0) break;
  }
  return all;
}
Transfer Conn::write(std::string_view from) const {
  return socket_ ? socket_->write_all(from) : Transfer{0, kNoHandle};
}
Failure Conn::close() const { return socket_ ? socket_->close_handle() : kNoHandle; }
Failure Conn::close_write() const { return socket_ ? socket_->with_descriptor(os::shut_down_writing) : kNoHandle; }
Failure Conn::set_linger_zero() const { return socket_ ? socket_->with_descriptor(os::set_linger_zero) : kNoHandle; }
Failure Conn::set_deadline(std::int64_t when_ns) const {
  return socket_ ? socket_->set_deadline(true, true, when_ns) : kNoHandle;
}
Failure Conn::set_read_deadline(std::int64_t when_ns) const {
  return socket_ ? socket_->set_deadline(true, false, when_ns) : kNoHandle;
}
Failure Conn::set_write_deadline(std::int64_t when_ns) const {
  return socket_ ? socket_->set_deadline(false, true, when_ns) : kNoHandle;
}
std::string Conn::local_address() const { return socket_ ? socket_->text_of(socket_->local_) : ""; }
std::string Conn::remote_address() const { return socket_ ? socket_->text_of(socket_->remote_) : ""; }

// ---- Listener

Result<Conn> Listener::accept() const {
  const Inside inside;
  const auto failed = [&](int number) {
    const std::string where = address();
    return Error{fmt::format("accept tcp{}{}: {}", where.empty() ? "" : " ", where, words_of(number)), number};
  };
  if (!socket_) return failed(kNoHandle.number());
  for (;;) {
    const std::int64_t got = socket_->perform(Verb::kAccept, nullptr, 0);
    if (got == -ECONNABORTED || got == -EPROTO || got == -EINTR) continue;  // the client has gone already: the next one
    if (got < 0) return failed(static_cast<int>(-got));
    const int fd = static_cast<int>(got);
    auto socket = Socket::make(fd);
    if (!socket) {
      if (real()) os::close_descriptor(fd);
      return socket.error();
    }
    if (real()) {
      os::set_no_delay(fd);
      os::remote_address(fd, (*socket)->remote_);
    }
    (*socket)->local_ = socket_->local_;
    return Socket::as_conn(std::move(*socket));
  }
}
Failure Listener::close() const { return socket_ ? socket_->close_handle() : kNoHandle; }
Failure Listener::set_deadline(std::int64_t when_ns) const {
  return socket_ ? socket_->set_deadline(true, false, when_ns) : kNoHandle;
}
std::string Listener::address() const { return socket_ ? socket_->text_of(socket_->local_) : ""; }

// ---- making them

Result<Listener> listen(std::string_view address) {
  const Inside inside;
  safepoint();
  const auto failed = [&](std::string_view call, int number) {
    return Error{fmt::format("listen tcp {}: {}: {}", address, call, words_of(number)), number};
  };
  auto wanted = os::parse_address(address);
  if (!wanted) return wanted.error();
  const int fd = os::open_stream_socket(wanted->family());
  if (fd < 0) return failed("socket", -fd);
  if (const int bound = os::bind_and_listen(fd, *wanted, kBacklog); bound < 0) {
    os::close_descriptor(fd);
    return failed("bind", -bound);
  }
  auto socket = Socket::make(fd);
  if (!socket) {
    os::close_descriptor(fd);
    return socket.error();
  }
  os::local_address(fd, (*socket)->local_);
  return Socket::as_listener(std::move(*socket));
}

Result<Conn> dial(std::string_view address) { return dial_until(address, 0); }

namespace {

// One attempt.
Result<Conn> dial_once(std::string_view address, os::SocketAddress& wanted, std::int64_t deadline_ns) {
  const auto failed = [&](std::string_view call, int number) {
    return Error{fmt::format("dial tcp {}: {}{}", address, call, words_of(number)), number};
  };
  const int fd = os::open_stream_socket(wanted.family());
  if (fd < 0) return failed("socket: ", -fd);
  os::set_no_delay(fd);
  auto socket = Socket::make(fd);
  if (!socket) {
    os::close_descriptor(fd);
    return socket.error();
  }
  if (deadline_ns != 0) (*socket)->set_deadline(false, true, deadline_ns);
  const std::int64_t answer = (*socket)->perform(Verb::kConnect, wanted.raw(), wanted.bytes);
  if (answer < 0) return failed(answer == -ETIMEDOUT ? "" : "connect: ", static_cast<int>(-answer));
  if (deadline_ns != 0) (*socket)->set_deadline(false, true, 0);
  os::local_address(fd, (*socket)->local_);
  (*socket)->remote_ = wanted;
  return Socket::as_conn(std::move(*socket));
}

}  // namespace

// A port that nobody listens on and that lies in the range of ephemeral ports may be the one which the kernel chooses
// for our own end. TCP takes the two ends for two sides that open at the same time, and the socket is connected to
// itself. Such a connection is closed and tried again, as Go does; the closed one keeps its port for a while, so another
// is chosen. Also tried again: EADDRNOTAVAIL, which Linux says when it loses a race for the last free ports.
Result<Conn> dial_until(std::string_view address, std::int64_t deadline_ns) {
  const Inside inside;
  safepoint();
  constexpr int kAttempts = 3;
  auto wanted = os::parse_address(address);
  if (!wanted) return wanted.error();
  for (int attempt = 1;; ++attempt) {
    auto conn = dial_once(address, *wanted, deadline_ns);
    if (conn ? conn->local_address() != conn->remote_address() || !real()
             : conn.error().error_number != EADDRNOTAVAIL || attempt == kAttempts)
      return conn;
    if (conn) conn->close();
    // Go hands its last attempt out whatever it is connected to. What is certain is that nobody listens there.
    if (attempt == kAttempts)
      return Error{fmt::format("dial tcp {}: connect: {}", address, words_of(ECONNREFUSED)), ECONNREFUSED};
  }
}

Result<Conn> adopt(int fd) {
  const Inside inside;
  auto socket = Socket::make(fd);
  if (!socket) return socket.error();
  return Socket::as_conn(std::move(*socket));
}

Result<std::pair<Conn, Conn>> pipe() {
  const Inside inside;
  int fds[2];
  if (const int made = os::socket_pair(fds); made < 0) return os_error("socketpair", -made);
  auto first = adopt(fds[0]);
  auto second = first.ok() ? adopt(fds[1]) : Result<Conn>(Error{});
  if (!second) {
    if (!first) os::close_descriptor(fds[0]);
    os::close_descriptor(fds[1]);
    return first.ok() ? second.error() : first.error();
  }
  return std::pair<Conn, Conn>(std::move(*first), std::move(*second));
}

bool real() {
  safepoint_if_on_p();
  return current_runtime().poller().caps().real_io;
}

}  // namespace gearbox::net
