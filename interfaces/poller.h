// Poller: parks goroutines on I/O and hands them back.
//
// Op-shaped: the goroutine side says begin / finish / cancel, the scheduler side says poll / wake for a lane.
// The goroutine side is the same for all pollers (runtime/net.cc):
//
//     step = begin(op, lane);  while (step == kPark) { park until op.state is ready; step = finish(op); }  return
//     op.result;
//
// On readiness pollers the resumed goroutine does the system call itself in finish(), which may say kPark again; on
// completion pollers the result is there.
//
// A lane is one kernel wait object (an epoll instance, a ring). caps().issuer says who may use it: kAny, one lane (0)
// for everybody; kLaneOwner, lane i belongs to M i: only that thread may begin and poll on it, and the runtime runs
// blocking calls elsewhere so that the owner keeps polling. prepare() makes what a lane needs of the kernel before the
// M's thread is started, so that a kernel that says no (no descriptor is left) is a thread refused, not an M without
// I/O.
//
// What begin() queues goes to the kernel with the next poll of the lane. There is no call that submits without looking:
// it would cost the same system call, and who has something to send has something to fetch. So the runtime polls every
// 64 switches, whenever a P's own queue is empty, and when a goroutine's time slice is over.
//
// Invariants (tests/contract/poller_test.cc has a test for each):
//   O1  Exactly one final per Op; `result` is stored before `state` becomes ready; after that the poller touches
//       neither Op nor buffer.
//   O2  From begin() == kPark to the final, Op, buffer, stack and Conn are pinned: nobody leaves early. A full
//       submission queue is flushed, never dropped.
//   O3  The state word loses no wake-up whichever of {kernel event, deadline, close, cancel} comes first.
//   O4  At most one Op per (Conn, direction) is in flight.
//   O5  An fd number is closed only when no queued, submitted or armed operation can refer to it.
//   O6  A kLaneOwner lane is used by its owner only. wake() alone may come from any thread.
//   O7  EINTR from a wait is "woken", never an error.
//   O8  wake(lane) before, during or after a wait: the next poll returns promptly; wakes coalesce.
//   O9  poll(budget) readies at most `budget` Gs.
//   O10 poll() allocates nothing on the heap of the program; readied Gs go to the list, never into a queue.
//   O11 Timeouts are rounded up, never down.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "interfaces/goroutine.h"
#include "interfaces/option.h"

namespace gearbox {

enum class Verb : std::uint8_t { kRead, kWrite, kAccept, kConnect };
enum class Direction : std::uint8_t { kIn = 0, kOut = 1 };
constexpr Direction direction_of(Verb verb) noexcept {
  return verb == Verb::kRead || verb == Verb::kAccept ? Direction::kIn : Direction::kOut;
}
enum class Step : std::uint8_t { kDone, kPark };
enum class Issuer : std::uint8_t { kAny, kLaneOwner };

struct PollerCaps {
  bool completion = false;
  Issuer issuer = Issuer::kAny;
  bool real_io = true;  // false: no bytes move (the null member)
};

// One per descriptor, made by Poller::open(); counted: the net layer holds one reference, each Op in flight another.
// The fd is closed by the last one.
struct Conn {
  int fd = -1;
  std::atomic<std::uint32_t> references{1};
  std::atomic<bool> closing{false};
  virtual ~Conn() = default;
};

// One operation, on the goroutine's stack: pinned from begin() == kPark until final.
struct Op {
  // state: kOpIdle -> kOpWaiting (begin said kPark) -> G* (the goroutine has parked) -> kOpReady (final, or readiness:
  // call finish()).
  static constexpr std::uintptr_t kIdle = 0, kWaiting = 1, kReady = 2;

  Verb verb = Verb::kRead;
  Conn* conn = nullptr;
  void* buffer = nullptr;  // kRead, kWrite: data; kAccept: unused; kConnect: a sockaddr
  std::size_t bytes = 0;   // of the buffer
  // Bytes (kWrite may be short: the net layer loops), or the accepted fd (real_io false: a number that is no
  // descriptor's), or 0; or -errno.
  std::int64_t result = 0;
  std::atomic<std::uintptr_t> state{kIdle};
  std::uint32_t lane = 0;        // where it was begun
  std::uint32_t generation = 0;  // the poller's own: tells a stale completion or cancel from a live one
  void* impl = nullptr;          // the poller's own
  int cancel_error = 0;          // the errno that a cancel asked for; the poller's own

  // Scheduler side, any thread: marks ready. Returns the parked G to be run, or null if it has not parked yet (it will
  // see kReady).
  G* make_ready() noexcept {
    const std::uintptr_t was = state.exchange(kReady, std::memory_order_acq_rel);
    return was > kReady ? reinterpret_cast<G*>(was) : nullptr;
  }
  // Goroutine side, after it has left its stack: true if it may stay parked; false if it was made ready meanwhile.
  bool park_as(G* g) noexcept {
    std::uintptr_t expected = kWaiting;
    return state.compare_exchange_strong(expected, reinterpret_cast<std::uintptr_t>(g), std::memory_order_acq_rel,
                                         std::memory_order_acquire);
  }
};

struct PollResult {
  std::uint32_t readied = 0;  // Gs appended to the list
  bool more = false;          // the budget ran out with events left
  bool woken = false;         // by wake()
};

class Poller {
 public:
  virtual ~Poller() = default;
  virtual PollerCaps caps() const noexcept = 0;

  // COLD. Before M `lane` comes up (kLaneOwner: takes descriptors and memory for its lane; others: nothing). Any
  // thread, also again for a lane that nobody has bound. On error there is no such M: the caller does without.
  virtual Status prepare(std::uint32_t lane) = 0;
  // COLD. The M is there; on its thread. Prepares the lane if nobody has. Of a prepared lane, an Error is a kernel that
  // forbids the calls themselves: the M has no I/O, and the runtime dies with it.
  virtual Status bind(std::uint32_t lane) = 0;

  // WARM. Takes over a non-blocking socket or pipe. Any thread. On error the fd stays the caller's.
  virtual Result<Conn*> open(int fd) = 0;
  // WARM. Drops the net layer's reference. Operations in flight become final with -ECANCELED (in lane order); the fd is
  // closed with the last reference. On a goroutine; `lane` is its M's.
  virtual void close(Conn* conn, std::uint32_t lane) noexcept = 0;

  // WARM. Starts op. Goroutine context; never blocks. kDone: op.result is final. kPark: op.state is kWaiting (or
  // already kReady).
  virtual Step begin(Op& op, std::uint32_t lane) noexcept = 0;
  // WARM. After the goroutine was made ready. kDone: final. kPark: spurious, park again (op.state is kWaiting again).
  virtual Step finish(Op& op, std::uint32_t lane) noexcept = 0;
  // COLD. Asks that op end with -error (ETIMEDOUT, ECANCELED). Any thread that keeps op alive meanwhile (the net
  // layer's connection lock); a request: the op may still succeed. Returns a G to be made runnable by the caller, or
  // null.
  virtual G* cancel(Op& op, int error) noexcept = 0;

  // WARM. Waits up to timeout_ns (0: not at all, -1: for ever) for events; appends at most `budget` Gs to `ready`.
  // Lane's user (kAny: one at a time waits; polls with timeout 0 may run beside it). On an M's own stack, with or
  // without a P; allocates nothing.
  virtual PollResult poll(std::uint32_t lane, std::int64_t timeout_ns, std::uint32_t budget, GList& ready) noexcept = 0;
  // Any thread, async-signal-safe, coalesced: the lane's current or next poll returns promptly.
  virtual void wake(std::uint32_t lane) noexcept = 0;
  // Any thread, a hint: operations in flight on the lane (kAny: everywhere). 0: nobody needs to poll.
  virtual std::uint64_t in_flight(std::uint32_t lane) const noexcept = 0;

  virtual void counters(CounterVisitor&) const {}
};

}  // namespace gearbox
