// epoll: Go's netpoll. One edge-triggered instance for everybody; the goroutine does its own system calls.
//
// Idea.       begin() makes the call. Only when the kernel says it would wait does the Op go into its direction's word
//             and the goroutine park. An event is nothing but a hint: it takes the Op out of the word and readies it;
//             finish() makes the call again and may find that it must park once more. So the work is done in parallel,
//             by the goroutine it is for, and a wrong hint costs one system call.
// Structure.  Each Conn has one word a direction (Go's pd.rg and pd.wg): kNothing, kEdge (an event came that nobody
//             has looked at), or the Op that waits. The kernel's side exchanges in kEdge; the goroutine's side changes
//             kNothing into its Op, and tries again if it finds kEdge: an edge that comes between the failed call
//             and the park is seen. Conns lie in slabs and are reused, never freed; an event carries 48 bits of
//             address and 16 of the Conn's generation.
// Invariants. E1  Whoever takes an Op out of a word, and nobody else, makes it ready, once per park.
//             E2  A word is reset to kNothing only before the call that would see what the edge announced.
//             E3  The wake eventfd is level-triggered and drained only by polls that may wait: a look with timeout 0
//                 beside a sleeping M cannot eat the wake that is meant for it.
//             E4  A read that came up short is taken for "nothing is left" only where a further byte must make a
//                 further edge: on a stream (one read takes one datagram, however many wait), with no urgent byte in
//                 it (reads stop there), before the peer has closed or failed (no further edge comes). A hang-up alone
//                 does not count: a socket that has not connected yet reports one, and one that is over says "peer
//                 closed" besides.
// Threads.    Words are the only thing shared between goroutine, poll, cancel and close. `drained` and the rest of
//             an Op belong to the goroutine that holds the direction.
// Rejected.   EPOLLONESHOT with a re-arm for each wait: one more system call per wait (measured at 0.88 of this one).
//             A count of waiting operations for in_flight(): two shared writes per wait; open Conns do as a hint.
// Cost.       2 calls per message with et_shortread, 3 with et_drain; two exchanges on the Conn's own line per wait.
// Weak spot.  All events go through one kernel object: its ready list is a lock that many cores would share.
// Source.     Go's runtime/netpoll.go and netpoll_epoll.go; the short-read rule is mio's and tokio's.
#include <array>
#include <memory>
#include <vector>

#include "base/lock.h"
#include "base/os/socket.h"
#include "base/sanitize.h"
#include "interfaces/poller.h"
#include "interfaces/registry.h"
#include "interfaces/world.h"

namespace gearbox::pollers {
namespace {

constexpr std::uint64_t kMostEvents = 128;  // callers ask for no more: their budget

struct Options {
  enum class Trigger : std::uint8_t { kDrain, kShortRead } trigger = Trigger::kShortRead;
  std::uint64_t events = kMostEvents;

  void visit(OptionVisitor& v) {
    v.field("trigger", trigger, {"et_drain", "et_shortread"},
            "et_drain reads until the kernel says it would wait, as Go does; et_shortread takes a read that came up "
            "short for that answer and waits for the next event without asking. Only on stream sockets.");
    v.field("events", events, {1, kMostEvents}, "Events taken from the kernel by one poll.");
  }
};

constexpr std::uintptr_t kNothing = 0, kEdge = 1;
constexpr std::uint64_t kWakeData = 0;  // no Conn has address 0
constexpr int kAddressBits = 48;
constexpr std::uint32_t kInterest =
    os::kEpollIn | os::kEpollUrgent | os::kEpollOut | os::kEpollPeerClosed | os::kEpollEdge;

struct alignas(64) EpollConn final : Conn {
  std::atomic<std::uintptr_t> words[2] = {kNothing, kNothing};
  std::atomic<bool> ask_always{false};  // E4: a short read proves nothing from here on
  bool drained = false;                 // the last read came up short. Whoever holds the reading direction
  bool socket = true, stream = true;
  std::atomic<std::uint16_t> generation{0};
  EpollConn* next_free = nullptr;
};

class Epoll final : public Poller {
 public:
  static Result<std::unique_ptr<Poller>> create(World& world, const Options& options) {
    const int epoll = os::epoll_make();
    if (epoll < 0) return os_error("epoll_create1", -epoll);
    const int wake = os::make_eventfd(false);
    if (wake < 0) {
      os::close_descriptor(epoll);
      return os_error("eventfd", -wake);
    }
    std::unique_ptr<Epoll> made(new Epoll(world, options, epoll, wake));
    if (const int added = os::epoll_add(epoll, wake, os::kEpollIn, kWakeData); added < 0)
      return os_error("epoll_ctl", -added);
    return std::unique_ptr<Poller>(std::move(made));
  }
  ~Epoll() override {
    // What goroutines still had open when the program ended.
    for (const auto& slab : slabs_)
      for (EpollConn& conn : *slab)
        if (conn.fd >= 0) os::close_descriptor(conn.fd);
    os::close_descriptor(wake_fd_);
    os::close_descriptor(epoll_fd_);
  }

  PollerCaps caps() const noexcept override { return {.completion = false, .issuer = Issuer::kAny}; }
  Status prepare(std::uint32_t) override { return Ok{}; }
  Status bind(std::uint32_t) override { return Ok{}; }

  Result<Conn*> open(int fd) override {
    EpollConn* conn = take_conn();
    const int type = os::socket_type(fd);
    conn->socket = type >= 0;
    conn->stream = type == SOCK_STREAM;
    conn->fd = fd;
    const std::uint64_t data = reinterpret_cast<std::uint64_t>(conn) |
                               std::uint64_t{conn->generation.load(std::memory_order_relaxed)} << kAddressBits;
    tell_tsan_published(conn);  // to whoever is given an event of it; the kernel orders the two
    if (const int added = os::epoll_add(epoll_fd_, fd, kInterest, data); added < 0) {
      conn->fd = -1;
      give_conn(conn);
      if (added == -EPERM) return Error{"this descriptor cannot be polled: it is a file or a directory", EPERM};
      return os_error("epoll_ctl", -added);
    }
    open_.fetch_add(1, std::memory_order_relaxed);
    return conn;
  }

  void close(Conn* raw, std::uint32_t) noexcept override {
    auto* conn = static_cast<EpollConn*>(raw);
    conn->closing.store(true, std::memory_order_seq_cst);  // partner: wait_in_word()
    for (auto& word : conn->words) {
      const std::uintptr_t was = word.exchange(kEdge, std::memory_order_seq_cst);
      if (was <= kEdge) continue;
      if (G* g = reinterpret_cast<Op*>(was)->make_ready()) world_.ready(g);
    }
    drop(conn);
  }

  Step begin(Op& op, std::uint32_t) noexcept override {
    auto* conn = static_cast<EpollConn*>(op.conn);
    op.cancel_error = 0;
    auto& word = conn->words[static_cast<int>(direction_of(op.verb))];
    if (op.verb == Verb::kRead && conn->drained && word.load(std::memory_order_acquire) != kEdge &&
        !conn->ask_always.load(std::memory_order_relaxed)) {
      conn->references.fetch_add(1, std::memory_order_relaxed);
      if (wait_in_word(op, *conn)) return Step::kPark;
      return attempt(op, *conn, true);
    }
    return attempt(op, *conn, false);
  }

  Step finish(Op& op, std::uint32_t) noexcept override { return attempt(op, *static_cast<EpollConn*>(op.conn), true); }

  G* cancel(Op& op, int error) noexcept override {
    auto* conn = static_cast<EpollConn*>(op.conn);
    std::atomic_ref<int>(op.cancel_error).store(error, std::memory_order_seq_cst);  // partner: wait_in_word()
    auto expected = reinterpret_cast<std::uintptr_t>(&op);
    if (!conn->words[static_cast<int>(direction_of(op.verb))].compare_exchange_strong(
            expected, kNothing, std::memory_order_seq_cst, std::memory_order_seq_cst))
      return nullptr;  // an event was faster: finish() sees the error before it would park again
    cancels_.fetch_add(1, std::memory_order_relaxed);
    return op.make_ready();
  }

  PollResult poll(std::uint32_t, std::int64_t timeout_ns, std::uint32_t budget, GList& ready) noexcept override {
    PollResult result;
    std::array<os::EpollEvent, kMostEvents> events;  // not cleared: the kernel fills in what is read
    const auto capacity =
        static_cast<int>(std::min<std::uint64_t>(options_.events, std::max<std::uint32_t>(budget, 1)));
    const int count = os::epoll_wait_ns(epoll_fd_, events.data(), capacity, timeout_ns);
    if (count < 0) {
      GEARBOX_REQUIRE(count == -EINTR, "epoll_wait: {}", strerror(-count));
      result.woken = true;  // O7
      return result;
    }
    waits_.fetch_add(1, std::memory_order_relaxed);
    events_.fetch_add(static_cast<std::uint64_t>(count), std::memory_order_relaxed);
    for (int i = 0; i < count; ++i) {
      if (events[i].data == kWakeData) {
        result.woken = true;
        if (timeout_ns != 0) {  // E3
          os::drain_eventfd(wake_fd_);
          wake_pending_.exchange(false, std::memory_order_seq_cst);  // partner: wake()
        }
        continue;
      }
      handle(events[i], budget, ready, result);
    }
    result.more = result.more || count == capacity;
    return result;
  }

  void wake(std::uint32_t) noexcept override {
    if (wake_pending_.exchange(true, std::memory_order_seq_cst)) return;
    wakes_.fetch_add(1, std::memory_order_relaxed);
    os::signal_eventfd(wake_fd_);
  }
  std::uint64_t in_flight(std::uint32_t) const noexcept override { return open_.load(std::memory_order_relaxed); }

  void counters(CounterVisitor& v) const override {
    v.counter("waits", waits_.load(), "Calls of epoll_wait.");
    v.counter("events", events_.load(), "Events they brought.");
    v.counter("wakes", wakes_.load(), "Wakes written to the eventfd; those that met a pending one are not counted.");
    v.counter("cancels", cancels_.load(), "Operations ended by a deadline or close.");
    v.counter("stale", stale_.load(), "Events of a Conn that was closed and is used anew.");
    v.counter("deferred", deferred_.load(), "Conns asked about again because the budget ran out in the middle of one.");
  }

 private:
  static constexpr std::size_t kSlabConns = 64;
  using Slab = std::array<EpollConn, kSlabConns>;

  Epoll(World& world, const Options& options, int epoll, int wake)
      : world_(world), options_(options), epoll_fd_(epoll), wake_fd_(wake) {}

  static std::int64_t call(Op& op, EpollConn& conn) noexcept {
    switch (op.verb) {
      case Verb::kRead:
        return os::try_receive(conn.fd, conn.socket, op.buffer, op.bytes);
      case Verb::kWrite:
        return os::try_send(conn.fd, conn.socket, op.buffer, op.bytes);
      case Verb::kAccept:
        return os::try_accept(conn.fd);
      case Verb::kConnect:
        return os::try_connect(conn.fd, op.buffer, op.bytes);
    }
    return -EINVAL;
  }

  // Makes the call until it has an answer or the Op waits in its word. `counted`: the Op holds a reference already.
  Step attempt(Op& op, EpollConn& conn, bool counted) noexcept {
    auto& word = conn.words[static_cast<int>(direction_of(op.verb))];
    for (;;) {
      std::int64_t answer = -ECANCELED;
      if (!conn.closing.load(std::memory_order_seq_cst)) {
        if (word.load(std::memory_order_relaxed) == kEdge) word.store(kNothing, std::memory_order_seq_cst);  // E2
        answer = call(op, conn);
        if (op.verb == Verb::kRead)
          conn.drained = options_.trigger == Options::Trigger::kShortRead && conn.stream &&
                         ((answer > 0 && static_cast<std::size_t>(answer) < op.bytes) || answer == -EAGAIN);
        if (answer == -EAGAIN) {
          if (const int error = std::atomic_ref<int>(op.cancel_error).load(std::memory_order_seq_cst); error != 0)
            answer = -error;
        }
      }
      if (answer != -EAGAIN) {
        op.result = answer;
        if (counted) drop(&conn);
        return Step::kDone;
      }
      if (!counted) {
        counted = true;
        conn.references.fetch_add(1, std::memory_order_relaxed);
      }
      if (wait_in_word(op, conn)) return Step::kPark;
    }
  }

  // Puts op into its word. False: an edge was there, or a cancel or close came, so the caller looks again. From the
  // moment the word holds op until it is taken out again, others may make it ready.
  bool wait_in_word(Op& op, EpollConn& conn) noexcept {
    auto& word = conn.words[static_cast<int>(direction_of(op.verb))];
    op.state.store(Op::kWaiting, std::memory_order_relaxed);  // published by the exchange below
    std::uintptr_t expected = kNothing;
    const auto mine = reinterpret_cast<std::uintptr_t>(&op);
    if (!word.compare_exchange_strong(expected, mine, std::memory_order_seq_cst, std::memory_order_seq_cst))
      return false;
    // Either cancel() and close() find op in the word, or their marks are seen here.
    if (std::atomic_ref<int>(op.cancel_error).load(std::memory_order_seq_cst) == 0 &&
        !conn.closing.load(std::memory_order_seq_cst)) [[likely]]
      return true;
    expected = mine;
    return !word.compare_exchange_strong(expected, kNothing, std::memory_order_seq_cst, std::memory_order_seq_cst);
  }

  void handle(const os::EpollEvent& event, std::uint32_t budget, GList& ready, PollResult& result) noexcept {
    auto* conn = reinterpret_cast<EpollConn*>(event.data & ((std::uint64_t{1} << kAddressBits) - 1));
    tell_tsan_seen(conn);
    if (conn->generation.load(std::memory_order_acquire) != static_cast<std::uint16_t>(event.data >> kAddressBits)) {
      stale_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    constexpr std::uint32_t kBoth = os::kEpollError | os::kEpollHangUp;
    if ((event.events & (os::kEpollError | os::kEpollPeerClosed | os::kEpollUrgent)) != 0)  // E4: before the word
      conn->ask_always.store(true, std::memory_order_relaxed);
    const bool due[2] = {(event.events & (os::kEpollIn | os::kEpollUrgent | os::kEpollPeerClosed | kBoth)) != 0,
                         (event.events & (os::kEpollOut | kBoth)) != 0};
    for (int i = 0; i < 2; ++i) {
      if (!due[i]) continue;
      auto& word = conn->words[i];
      if (result.readied >= budget && word.load(std::memory_order_relaxed) > kEdge) {
        // O9: the event is asked for again.
        ask_again(conn, event.data);
        result.more = true;
        return;
      }
      const std::uintptr_t was = word.exchange(kEdge, std::memory_order_seq_cst);
      if (was <= kEdge) continue;
      if (G* g = reinterpret_cast<Op*>(was)->make_ready()) {
        ready.push_back(g);
        ++result.readied;
      }
    }
  }

  void ask_again(EpollConn* conn, std::uint64_t data) noexcept {
    // Only with a reference of one's own does the number still mean this connection (O5).
    std::uint32_t references = conn->references.load(std::memory_order_relaxed);
    do {
      if (references == 0) return;  // closed meanwhile, and its Ops are ready
    } while (!conn->references.compare_exchange_weak(references, references + 1, std::memory_order_acquire,
                                                     std::memory_order_relaxed));
    if (conn->generation.load(std::memory_order_acquire) == static_cast<std::uint16_t>(data >> kAddressBits))
      os::epoll_change(epoll_fd_, conn->fd, kInterest, data);
    deferred_.fetch_add(1, std::memory_order_relaxed);
    drop(conn);
  }

  void drop(EpollConn* conn) noexcept {
    if (conn->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    const int fd = conn->fd;
    conn->fd = -1;
    conn->generation.fetch_add(1, std::memory_order_release);  // events of the old life are stale from here
    os::close_descriptor(fd);
    open_.fetch_sub(1, std::memory_order_relaxed);
    give_conn(conn);
  }

  EpollConn* take_conn() {
    Guard<SpinLock> hold(free_lock_);
    if (free_ == nullptr) {
      slabs_.push_back(std::make_unique<Slab>());
      for (EpollConn& conn : *slabs_.back()) {
        conn.next_free = free_;
        free_ = &conn;
      }
    }
    EpollConn* conn = free_;
    free_ = conn->next_free;
    conn->references.store(1, std::memory_order_relaxed);
    conn->closing.store(false, std::memory_order_relaxed);
    conn->ask_always.store(false, std::memory_order_relaxed);
    conn->drained = false;
    for (auto& word : conn->words) word.store(kNothing, std::memory_order_relaxed);
    return conn;
  }
  void give_conn(EpollConn* conn) noexcept {
    Guard<SpinLock> hold(free_lock_);
    conn->next_free = free_;
    free_ = conn;
  }

  World& world_;
  const Options options_;
  const int epoll_fd_, wake_fd_;
  std::atomic<bool> wake_pending_{false};
  std::atomic<std::uint64_t> open_{0};

  SpinLock free_lock_;  // guards the two below
  EpollConn* free_ = nullptr;
  std::vector<std::unique_ptr<Slab>> slabs_;

  std::atomic<std::uint64_t> waits_{0}, events_{0}, wakes_{0}, cancels_{0}, stale_{0}, deferred_{0};
};

}  // namespace

PollerEntry epoll() {
  return make_entry<Epoll, Options>(EntryFacts<PollerTraits>{
      .name = "epoll",
      .summary = "One edge-triggered epoll instance for all; goroutines make their own system calls, as in Go.",
      .traits = {.completion = false, .lane_owner = false, .real_io = true},
  });
}

}  // namespace gearbox::pollers
