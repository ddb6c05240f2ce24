// null: every operation is complete before it begins. Measures the price of the poller interface and of the net layer
// above it.
//
// Idea.       begin() says kDone at once: a read fills its buffer with zeros, a write has written everything, a connect
//             succeeds (result 0), an accept too, with nothing behind it (result kNoDescriptor). Nothing ever parks, so
//             poll() never readies anybody.
// Structure.  The sleep of an idle M, a futex word; and a list of the open Conns, since the descriptors that net made
//             for listen and dial are real and are closed as everywhere.
// Rejected.   Calling the kernel without waiting: then it would measure the kernel.
#include <cstring>
#include <limits>

#include "base/lock.h"
#include "base/os/futex.h"
#include "base/os/socket.h"
#include "interfaces/poller.h"
#include "interfaces/registry.h"

namespace gearbox::pollers {
namespace {

constexpr int kNoDescriptor = std::numeric_limits<int>::max();

struct NullConn final : Conn {
  NullConn* previous = nullptr;  // the poller's list of all
  NullConn* next = nullptr;
};

class Null final : public Poller {
 public:
  Null(World&, const NoOptions&) {}
  ~Null() override {
    // What goroutines still had open when the program ended.
    while (conns_ != nullptr) destroy(conns_);
  }
  PollerCaps caps() const noexcept override { return {.real_io = false}; }
  Status prepare(std::uint32_t) override { return Ok{}; }
  Status bind(std::uint32_t) override { return Ok{}; }
  Result<Conn*> open(int fd) override {
    auto* conn = new NullConn;
    conn->fd = fd == kNoDescriptor ? -1 : fd;
    Guard<SpinLock> hold(conns_lock_);
    conn->next = conns_;
    if (conns_ != nullptr) conns_->previous = conn;
    conns_ = conn;
    return conn;
  }
  void close(Conn* raw, std::uint32_t) noexcept override {
    auto* conn = static_cast<NullConn*>(raw);
    if (conn->references.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(conn);
  }
  Step begin(Op& op, std::uint32_t) noexcept override {
    if (op.verb == Verb::kRead) std::memset(op.buffer, 0, op.bytes);
    op.result = op.verb == Verb::kRead || op.verb == Verb::kWrite ? static_cast<std::int64_t>(op.bytes)
                : op.verb == Verb::kAccept                        ? kNoDescriptor
                                                                  : 0;
    operations_.fetch_add(1, std::memory_order_relaxed);
    return Step::kDone;
  }
  Step finish(Op&, std::uint32_t) noexcept override { return Step::kDone; }
  G* cancel(Op&, int) noexcept override { return nullptr; }
  PollResult poll(std::uint32_t, std::int64_t timeout_ns, std::uint32_t, GList&) noexcept override {
    PollResult result;
    if (timeout_ns != 0 && wakes_.load(std::memory_order_acquire) == seen_) os::futex_wait(wakes_, seen_, timeout_ns);
    const std::uint32_t now = wakes_.load(std::memory_order_acquire);
    result.woken = now != seen_;
    seen_ = now;
    return result;
  }
  void wake(std::uint32_t) noexcept override {
    wakes_.fetch_add(1, std::memory_order_release);
    os::futex_wake(wakes_, 1);
  }
  std::uint64_t in_flight(std::uint32_t) const noexcept override { return 0; }
  void counters(CounterVisitor& v) const override {
    v.counter("operations", operations_.load(std::memory_order_relaxed), "Operations completed.");
  }

 private:
  void destroy(NullConn* conn) noexcept {
    {
      Guard<SpinLock> hold(conns_lock_);
      (conn->previous != nullptr ? conn->previous->next : conns_) = conn->next;
      if (conn->next != nullptr) conn->next->previous = conn->previous;
    }
    if (conn->fd >= 0) os::close_descriptor(conn->fd);
    delete conn;
  }

  SpinLock conns_lock_;  // guards the list of Conns
  NullConn* conns_ = nullptr;
  std::atomic<std::uint32_t> wakes_{0};
  std::uint32_t seen_ = 0;  // one M waits at a time
  std::atomic<std::uint64_t> operations_{0};
};

}  // namespace

PollerEntry null() {
  return make_entry<Null, NoOptions>(EntryFacts<PollerTraits>{
      .name = "null",
      .summary = "Operations complete at once without a kernel: the price of the interface.",
      .traits = {.completion = true, .lane_owner = false, .real_io = false},
  });
}

}  // namespace gearbox::pollers
