// io_uring: the kernel does the operation. One ring for each M, used by its thread alone.
//
// Idea.       begin() writes a submission entry; everything queued goes to the kernel with the next poll, in one call
//             that also brings completions. With SINGLE_ISSUER and DEFER_TASKRUN the kernel does its half inside that
//             call, on the owner's thread: no interrupt, no lock. What can be done at once need not go through the
//             ring: with `try_first` the call is tried without waiting before it is queued.
// Structure.  Lane (io_uring/lane.h): ring, slots, wake. prepared_[M]: made, by whoever starts the M, and disabled;
//             lanes_[M]: the same, enabled by the M's thread. UringConn: what is in flight in each direction, by name.
// Invariants. U1  A slot is live from start() to its one completion; user_data carries its generation, so nothing late
//                 can touch a new life.
//             U2  Only the owner touches a lane. A cancel from elsewhere is a request in the lane's inbox, and a wake
//                 if its owner sleeps.
//             U3  Each operation in flight holds a reference of its Conn, and the last reference closes the descriptor:
//                 no entry, queued or submitted, ever names a number that means something else (O5).
// Ladder.     `taskrun=best` takes the first rung the kernel knows: defer (Linux 6.1), coop (6.0), plain. Any other
//             level is that rung or an error. The rung in use is a counter. A kernel or container that refuses io_uring
//             altogether is an error, never another poller.
// Threads.    begin, finish, poll: the lane's owner. cancel, close, wake: anybody.
// Rejected.   One ring with a lock: interrupts between threads, EINTR in foreign waits, operations that die with their
//             thread (all measured at 0.8 of this). LINK_TIMEOUT for deadlines: a deadline may move while the operation
//             waits, and from another thread. Multishot receive with provided buffers: a copy more for readers that
//             bring their own buffer; 2 % apart on echo.
// Cost.       In the steady state one io_uring_enter brings a batch of completions; 0.1 to 0.5 system calls a message.
// Weak spot.  An M that computes keeps the completions of its lane to itself until it polls; sysmon can only ask it to
//             yield.
// Source.     Jens Axboe's io_uring papers; TigerBeetle and Seastar for the shape; the flags as measured here.
#include <array>
#include <memory>

#include "base/lock.h"
#include "base/os/socket.h"
#include "interfaces/poller.h"
#include "interfaces/processor.h"
#include "interfaces/registry.h"
#include "interfaces/world.h"
#include "pollers/io_uring/lane.h"

namespace gearbox::pollers {
namespace {

using uring_parts::Lane;
using uring_parts::Rung;
using uring_parts::UringConn;

struct Options {
  enum class TryFirst : std::uint8_t { kOff, kRead, kSend, kBoth } try_first = TryFirst::kSend;
  enum class Taskrun : std::uint8_t { kBest, kDefer, kCoop, kPlain } taskrun = Taskrun::kBest;
  std::uint64_t entries = 256;
  std::uint64_t completions = 4096;

  void visit(OptionVisitor& v) {
    v.field(
        "try_first", try_first, {"off", "read", "send", "both"},
        "What is tried by an ordinary call that does not wait, before it is queued: receives, sends, both or nothing.");
    v.field("taskrun", taskrun, {"best", "defer", "coop", "plain"},
            "When the kernel does its half: when the owner polls (defer), when it next enters the kernel (coop), or by "
            "interrupt (plain). "
            "best: the first of these that the kernel has. The others fail where the kernel lacks them.");
    v.field("entries", entries, {8, 4096}, "Submission entries of each ring. A full queue is submitted.");
    v.field("completions", completions, {16, 65536},
            "Completion entries of each ring, at least as many as submission entries. More wait in the kernel.");
  }
};

constexpr std::uint32_t kBase = os::uring::kSetupSubmitAll;
constexpr std::array<Rung, 3> kLadder = {{
    {"defer", kBase | os::uring::kSetupSingleIssuer | os::uring::kSetupDeferTaskrun | os::uring::kSetupTaskrunFlag,
     true},
    {"coop", kBase | os::uring::kSetupSingleIssuer | os::uring::kSetupCoopTaskrun | os::uring::kSetupTaskrunFlag, true},
    {"plain", kBase, false},
}};

class IoUring final : public Poller {
 public:
  static Result<std::unique_ptr<Poller>> create(World&, const Options& options) {
    const bool best = options.taskrun == Options::Taskrun::kBest;
    const std::size_t first = best ? 0 : static_cast<std::size_t>(options.taskrun) - 1;
    const std::size_t last = best ? kLadder.size() - 1 : first;
    for (std::size_t rung = first;; ++rung) {
      // The ring of this trial is thrown away: rings belong to the threads that will bind them.
      Lane trial(0, nullptr, nullptr);
      auto made = trial.prepare(kLadder[rung], static_cast<std::uint32_t>(options.entries), cq_entries(options));
      if (made) made = trial.enable();
      if (made) return std::unique_ptr<Poller>(new IoUring(options, rung));
      if (made.error().error_number == EINVAL && rung < last) continue;
      return refused(made.error(), kLadder[rung]);
    }
  }

  ~IoUring() override {
    for (auto& entry : lanes_)
      if (Lane* lane = entry.load(std::memory_order_acquire)) lane->evict_all();
    for (auto& entry : lanes_) delete entry.load(std::memory_order_relaxed);
    for (auto& entry : prepared_) delete entry.load(std::memory_order_relaxed);
    // What goroutines still had open when the program ended.
    while (conns_ != nullptr) {
      UringConn* conn = conns_;
      conns_ = conn->next;
      os::close_descriptor(conn->fd);
      delete conn;
    }
  }

  PollerCaps caps() const noexcept override { return {.completion = true, .issuer = Issuer::kLaneOwner}; }

  Status prepare(std::uint32_t lane) override {
    GEARBOX_REQUIRE(lane < lanes_.size() && lanes_[lane].load() == nullptr, "lane {} is bound, or is none", lane);
    if (prepared_[lane].load(std::memory_order_relaxed) != nullptr) return Ok{};
    auto made = std::make_unique<Lane>(lane, this,
                                       [](void* self, UringConn* conn) { static_cast<IoUring*>(self)->drop(conn); });
    if (auto done = made->prepare(kLadder[rung_], static_cast<std::uint32_t>(options_.entries), cq_entries(options_));
        !done)
      return done;
    prepared_[lane].store(made.release(), std::memory_order_release);
    return Ok{};
  }

  Status bind(std::uint32_t lane) override {
    if (auto prepared = prepare(lane); !prepared) return prepared;
    std::unique_ptr<Lane> mine(prepared_[lane].exchange(nullptr, std::memory_order_acq_rel));
    if (auto up = mine->enable(); !up) return up;
    lanes_[lane].store(mine.release(), std::memory_order_release);
    return Ok{};
  }

  Result<Conn*> open(int fd) override {
    const bool socket = os::socket_type(fd) >= 0;
    // The kernel answers EAGAIN for a non-blocking descriptor instead of waiting for it.
    if (const int set = os::set_blocking(fd, true); set < 0 && set != -ENOTTY)
      return os_error("making the descriptor wait", -set);
    auto* conn = new UringConn;
    conn->fd = fd;
    conn->socket = socket;
    Guard<SpinLock> hold(conns_lock_);
    conn->next = conns_;
    if (conns_ != nullptr) conns_->previous = conn;
    conns_ = conn;
    return conn;
  }

  void close(Conn* raw, std::uint32_t) noexcept override {
    auto* conn = static_cast<UringConn*>(raw);
    conn->closing.store(true, std::memory_order_seq_cst);  // partner: Lane::start()
    for (auto& direction : conn->in_flight)
      if (const std::uint64_t name = direction.load(std::memory_order_seq_cst); name != 0)
        lane(Lane::lane_of(name)).cancel(name, ECANCELED);
    drop(conn);
  }

  Step begin(Op& op, std::uint32_t lane_id) noexcept override {
    auto* conn = static_cast<UringConn*>(op.conn);
    if (conn->closing.load(std::memory_order_relaxed)) {
      op.result = -ECANCELED;
      return Step::kDone;
    }
    if (conn->socket && tries(op.verb)) {
      const std::int64_t answer = op.verb == Verb::kRead ? os::try_receive(conn->fd, true, op.buffer, op.bytes)
                                                         : os::try_send(conn->fd, true, op.buffer, op.bytes);
      if (answer != -EAGAIN) {
        tried_.fetch_add(1, std::memory_order_relaxed);
        op.result = answer;
        if (op.verb == Verb::kRead) conn->empty = answer > 0 && static_cast<std::size_t>(answer) < op.bytes;
        return Step::kDone;
      }
      if (op.verb == Verb::kRead) conn->empty = true;
    }
    Lane& mine = lane(lane_id);
    GEARBOX_INVARIANT(O6, mine.owned_by_caller(), "an operation is begun on lane {} by a thread that does not own it",
                      lane_id);
    mine.start(op, *conn);
    return Step::kPark;
  }

  Step finish(Op&, std::uint32_t) noexcept override { return Step::kDone; }

  G* cancel(Op& op, int error) noexcept override {
    Lane& at = lane(op.lane);
    at.cancel(at.name_of(op), error);
    return nullptr;  // it ends with its completion
  }

  PollResult poll(std::uint32_t lane_id, std::int64_t timeout_ns, std::uint32_t budget,
                  GList& ready) noexcept override {
    return lane(lane_id).poll(timeout_ns, budget, ready);
  }
  void wake(std::uint32_t lane_id) noexcept override {
    // A lane that is not there yet has nobody asleep in it.
    if (Lane* at = lanes_[lane_id].load(std::memory_order_acquire)) at->wake();
  }
  std::uint64_t in_flight(std::uint32_t lane_id) const noexcept override {
    const Lane* at = lanes_[lane_id].load(std::memory_order_acquire);
    return at == nullptr ? 0 : at->in_flight();
  }

  void counters(CounterVisitor& v) const override {
    std::uint64_t lanes = 0, sums[12] = {};
    for (const auto& entry : lanes_) {
      const Lane* at = entry.load(std::memory_order_acquire);
      if (at == nullptr) continue;
      ++lanes;
      const auto& c = at->counters();
      const std::atomic<std::uint64_t>* all[] = {&c.enters,    &c.entries,  &c.completions,   &c.full,
                                                 &c.overflows, &c.restarts, &c.stale,         &c.wakes,
                                                 &c.coalesced, &c.cancels,  &c.cancels_again, &c.most_in_flight};
      for (std::size_t i = 0; i < 12; ++i) sums[i] += all[i]->load(std::memory_order_relaxed);
    }
    v.counter("taskrun_rung", rung_, "The rung of the ladder in use: 0 defer, 1 coop, 2 plain.");
    v.counter("lanes", lanes, "Rings made, one for each M.");
    v.counter("enters", sums[0], "Calls of io_uring_enter.");
    v.counter("entries", sums[1], "Submission entries written.");
    v.counter("completions", sums[2], "Completions taken.");
    v.counter("queue_full", sums[3], "Times the submission queue was full and was submitted for that.");
    v.counter("overflows", sums[4], "Enters that found completions waiting outside the ring.");
    v.counter("restarts", sums[5], "Operations submitted again after EINTR or EAGAIN.");
    v.counter("stale", sums[6], "Completions of an operation that was over.");
    v.counter("wakes", sums[7], "Wakes written to a lane's eventfd.");
    v.counter("wakes_coalesced", sums[8], "Wakes that met a pending one.");
    v.counter("cancels", sums[9], "Operations asked to end by a deadline or close.");
    v.counter("cancels_again", sums[10], "Cancels sent again because the kernel did not find the operation waiting.");
    v.counter("most_in_flight", sums[11], "Most operations in flight, the lanes' own maxima added.");
    v.counter("tried", tried_.load(std::memory_order_relaxed), "Operations done by try_first, without the ring.");
  }

 private:
  IoUring(const Options& options, std::size_t rung) : options_(options), rung_(rung) {}

  static std::uint32_t cq_entries(const Options& options) {
    return static_cast<std::uint32_t>(std::max(options.completions, options.entries));
  }

  static Error refused(const Error& e, const Rung& rung) {
    switch (e.error_number) {
      case EPERM:
      case EACCES:
        return {e.message + "; io_uring is forbidden here (a container's seccomp profile, or kernel.io_uring_disabled)",
                e.error_number};
      case ENOSYS:
        return {e.message + "; this kernel has no io_uring, or hides it", e.error_number};
      case EINVAL:
        return {fmt::format("{}; this kernel does not know taskrun={}", e.message, rung.name), e.error_number};
      default:
        return e;
    }
  }

  bool tries(Verb verb) const noexcept {
    const auto mask = static_cast<unsigned>(options_.try_first);  // 1: read, 2: send, 3: both
    return (verb == Verb::kRead && (mask & 1) != 0) || (verb == Verb::kWrite && (mask & 2) != 0);
  }
  Lane& lane(std::uint32_t id) noexcept { return *lanes_[id].load(std::memory_order_acquire); }

  void drop(UringConn* conn) noexcept {
    if (conn->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    {
      Guard<SpinLock> hold(conns_lock_);
      (conn->previous != nullptr ? conn->previous->next : conns_) = conn->next;
      if (conn->next != nullptr) conn->next->previous = conn->previous;
    }
    os::close_descriptor(conn->fd);
    delete conn;
  }

  const Options options_;
  const std::size_t rung_;
  std::array<std::atomic<Lane*>, kMaxMs> lanes_{}, prepared_{};
  SpinLock conns_lock_;  // guards the list of Conns
  UringConn* conns_ = nullptr;
  std::atomic<std::uint64_t> tried_{0};
};

}  // namespace

PollerEntry io_uring() {
  return make_entry<IoUring, Options>(EntryFacts<PollerTraits>{
      .name = "io_uring",
      .summary = "One io_uring for each M; the kernel does the operations and hands results back in batches.",
      .traits = {.completion = true, .lane_owner = true, .real_io = true},
  });
}

}  // namespace gearbox::pollers
