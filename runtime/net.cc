#include "runtime/net.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/os/clock.h"
#include "base/os/socket.h"
#include "runtime/runtime.h"
#include "runtime/sync.h"
#include "runtime/timer.h"

namespace gearbox::net {
namespace {

constexpr int kClosedNumber = ECANCELED;
constexpr int kBacklog = 4096;  // the kernel caps it at net.core.somaxconn

constexpr int index_of(Direction direction) noexcept { return static_cast<int>(direction); }

// One word and, for the rare case of two operations in one direction, a line.
class DescriptorLock {
 public:
  // False: closed.
  bool acquire(Direction direction) noexcept {
    const std::uint32_t locked = kLocked << index_of(direction);
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    for (;;) {
      if ((word & kClosed) != 0) return false;
      if ((word & locked) != 0) return acquire_slow(direction);
      if (word_.compare_exchange_weak(word, (word | locked) + kReference, std::memory_order_acquire,
                                      std::memory_order_relaxed))
        return true;
    }
  }
  // True: the caller was the last one of a closed descriptor and closes the poller's Conn (N1).
  bool release(Direction direction) noexcept {
    const std::uint32_t locked = kLocked << index_of(direction), waiting = kWaiting << index_of(direction);
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    for (;;) {
      if ((word & waiting) != 0) return release_slow(direction);
      if (word_.compare_exchange_weak(word, (word & ~locked) - kReference, std::memory_order_acq_rel,
                                      std::memory_order_relaxed))
        return is_last((word & ~locked) - kReference);
    }
  }
  // False: it was closed before.
  bool close() noexcept {
    GList woken;
    lines_lock_.lock();
    const std::uint32_t was = word_.fetch_or(kClosed, std::memory_order_seq_cst);  // partner: Socket::await()
    if ((was & kClosed) == 0) {
      word_.fetch_and(~(kWaiting | kWaiting << 1), std::memory_order_relaxed);
      for (auto& line : lines_)
        while (auto* node = line.pop_front()) woken.push_back(node->g);
    }
    lines_lock_.unlock();
    while (G* g = woken.pop_front()) current_runtime().ready(g);
    return (was & kClosed) == 0;
  }
  // A reference without a direction: the descriptor stays open meanwhile, and nobody is waited for. False: closed.
  bool acquire_reference() noexcept {
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    do {
      if ((word & kClosed) != 0) return false;
    } while (
        !word_.compare_exchange_weak(word, word + kReference, std::memory_order_acquire, std::memory_order_relaxed));
    return true;
  }
  // Gives back such a reference, or that of the open descriptor itself. True as for release().
  bool drop() noexcept { return is_last(word_.fetch_sub(kReference, std::memory_order_acq_rel) - kReference); }
  bool closed() const noexcept { return (word_.load(std::memory_order_seq_cst) & kClosed) != 0; }

 private:
  static constexpr std::uint32_t kClosed = 1, kLocked = 2, kWaiting = 8, kReference = 32;
  static bool is_last(std::uint32_t word) noexcept { return (word & kClosed) != 0 && word < kReference; }

  [[gnu::noinline]] bool acquire_slow(Direction direction) noexcept {
    const std::uint32_t locked = kLocked << index_of(direction), waiting = kWaiting << index_of(direction);
    gearbox::detail::ParkedNode node;
    node.g = current_goroutine();
    lines_lock_.lock();
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    for (;;) {
      if ((word & kClosed) != 0) {
        lines_lock_.unlock();
        return false;
      }
      if ((word & locked) == 0) {
        if (!word_.compare_exchange_weak(word, (word | locked) + kReference, std::memory_order_acquire)) continue;
        lines_lock_.unlock();
        return true;
      }
      if (word_.compare_exchange_weak(word, word | waiting, std::memory_order_relaxed)) break;
    }
    lines_[index_of(direction)].push_back(node);
    current_runtime().park_and_unlock(lines_lock_, "network connection in use");
    return node.handed;  // with the lock and the reference of whoever had it; else closed
  }
  [[gnu::noinline]] bool release_slow(Direction direction) noexcept {
    lines_lock_.lock();
    auto& line = lines_[index_of(direction)];
    auto* node = line.pop_front();
    if (line.empty()) word_.fetch_and(~(kWaiting << index_of(direction)), std::memory_order_relaxed);
    if (node == nullptr) {  // close() was faster and has sent them away
      lines_lock_.unlock();
      return release(direction);
    }
    node->handed = true;
    Goroutine* g = node->g;
    lines_lock_.unlock();
    current_runtime().ready(g);
    return false;
  }

  std::atomic<std::uint32_t> word_{kReference};
  SpinLock lines_lock_;
  std::array<gearbox::detail::ParkedList, 2> lines_;
};

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
    default:
      return strerror(number_);
  }
}

namespace detail {

struct Socket {
  static Result<Handle> make(int fd) {
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
    if (from.empty()) return all;
    safepoint();
    if (!lock_word_.acquire(Direction::kOut)) return {0, Failure(kClosedNumber)};
    for (;;) {
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

  Failure set_deadline(bool in, bool out, std::int64_t when_ns) {
    const Inside inside;
    if (lock_word_.closed()) return Failure(kClosedNumber);
    if (in) move_deadline(0, when_ns);
    if (out) move_deadline(1, when_ns);
    return Failure();
  }

  // For calls that need the descriptor but no direction: keeps it open meanwhile. False: closed.
  template <class F>
  Failure with_descriptor(F f) {
    const Inside inside;
    if (!lock_word_.acquire_reference()) return Failure(kClosedNumber);
    const int answer = f(conn_->fd);
    if (lock_word_.drop()) runtime_.poller().close(conn_, runtime_.lane());
    return Failure(-answer);
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
    {
      Guard<SpinLock> hold(socket->lock_);
      if (sequence == socket->timers_[kIndex].sequence) {
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
  if (into.empty()) return {};
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
Transfer Conn::write(std::string_view from) const { return socket_->write_all(from); }
Failure Conn::close() const { return socket_->close(); }
Failure Conn::close_write() const { return socket_->with_descriptor(os::shut_down_writing); }
Failure Conn::set_linger_zero() const { return socket_->with_descriptor(os::set_linger_zero); }
Failure Conn::set_deadline(std::int64_t when_ns) const { return socket_->set_deadline(true, true, when_ns); }
Failure Conn::set_read_deadline(std::int64_t when_ns) const { return socket_->set_deadline(true, false, when_ns); }
Failure Conn::set_write_deadline(std::int64_t when_ns) const { return socket_->set_deadline(false, true, when_ns); }
std::string Conn::local_address() const { return socket_->local_.text(); }
std::string Conn::remote_address() const { return socket_->remote_.text(); }

// ---- Listener

Result<Conn> Listener::accept() const {
  const Inside inside;
  for (;;) {
    const std::int64_t got = socket_->perform(Verb::kAccept, nullptr, 0);
    if (got == -ECONNABORTED || got == -EPROTO || got == -EINTR) continue;  // the client has gone already: the next one
    if (got < 0)
      return Error{fmt::format("accept tcp {}: {}", address(), words_of(static_cast<int>(-got))),
                   static_cast<int>(-got)};
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
Failure Listener::close() const { return socket_->close(); }
Failure Listener::set_deadline(std::int64_t when_ns) const { return socket_->set_deadline(true, false, when_ns); }
std::string Listener::address() const { return socket_->local_.text(); }

// ---- making them

Result<Listener> listen(std::string_view address) {
  const Inside inside;
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

Result<Conn> dial_until(std::string_view address, std::int64_t deadline_ns) {
  const Inside inside;
  const auto failed = [&](std::string_view call, int number) {
    return Error{fmt::format("dial tcp {}: {}{}", address, call, words_of(number)), number};
  };
  auto wanted = os::parse_address(address);
  if (!wanted) return wanted.error();
  const int fd = os::open_stream_socket(wanted->family());
  if (fd < 0) return failed("socket: ", -fd);
  os::set_no_delay(fd);
  auto socket = Socket::make(fd);
  if (!socket) {
    os::close_descriptor(fd);
    return socket.error();
  }
  if (deadline_ns != 0) (*socket)->set_deadline(false, true, deadline_ns);
  const std::int64_t answer = (*socket)->perform(Verb::kConnect, wanted->raw(), wanted->bytes);
  if (answer < 0) return failed(answer == -ETIMEDOUT ? "" : "connect: ", static_cast<int>(-answer));
  if (deadline_ns != 0) (*socket)->set_deadline(false, true, 0);
  os::local_address(fd, (*socket)->local_);
  (*socket)->remote_ = *wanted;
  return Socket::as_conn(std::move(*socket));
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

bool real() { return current_runtime().poller().caps().real_io; }

}  // namespace gearbox::net
