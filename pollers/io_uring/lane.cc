#include "pollers/io_uring/lane.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/os/clock.h"
#include "base/os/socket.h"

namespace gearbox::pollers::uring_parts {
namespace {

// user_data: bit 63 says "the answer to a cancel", then 31 bits of generation and 32 of slot. The wake is a number of
// its own.
constexpr std::uint64_t kCancelBit = std::uint64_t{1} << 63, kWakeData = ~std::uint64_t{0};
constexpr std::uint32_t kGenerationMask = 0x7fffffff;
constexpr std::size_t kMostBytes = std::size_t{1} << 30;
constexpr std::int64_t kEvictionNs = 1'000'000'000;

std::uint32_t generation_of(std::uint64_t name) { return static_cast<std::uint32_t>(name) & kGenerationMask; }
std::uint32_t index_of(std::uint64_t name) { return static_cast<std::uint32_t>(name >> 32) & 0xfffff; }

}  // namespace

Lane::~Lane() {
  if (wake_fd_ >= 0) os::close_descriptor(wake_fd_);
  for (auto& slab : slabs_) delete[] slab.load(std::memory_order_relaxed);
}

Status Lane::prepare(const Rung& rung, std::uint32_t entries, std::uint32_t completion_entries) {
  tells_work_ = rung.tells_work;
  // First, since at the limit of descriptors it is the cheaper refusal. Blocking: on a non-blocking one the kernel
  // would answer EAGAIN instead of waiting.
  wake_fd_ = os::make_eventfd(true);
  if (wake_fd_ < 0) return os_error("eventfd", -wake_fd_);
  return ring_.set_up(entries, completion_entries, rung.flags);
}

Status Lane::enable() {
  owner_ = pthread_self();
  if (auto enabled = ring_.enable(); !enabled) return enabled;
  arm_wake();
  count(counters_.enters);
  const int answer = ring_.enter(false, 0, true);
  if (answer < 0) return os_error("io_uring_enter", -answer);
  return Ok{};
}

// A name fits one atomic word: 12 bits of lane, 20 of slot, 32 of generation.
std::uint64_t Lane::name_of(const Op& op) const noexcept {
  const auto* slot = static_cast<const Slot*>(op.impl);
  return std::uint64_t{id_} << 52 | std::uint64_t{slot->index} << 32 | op.generation;
}

Lane::Slot* Lane::slot_at(std::uint32_t index) const noexcept {
  Slot* slab = slabs_[index / kSlabSlots].load(std::memory_order_acquire);
  return slab == nullptr ? nullptr : &slab[index % kSlabSlots];
}

Lane::Slot* Lane::take_slot() {
  if (free_ == nullptr) {
    GEARBOX_REQUIRE(slots_ < kSlabSlots * kMaxSlabs, "more than {} operations in flight on one ring", slots_);
    auto* slab = new Slot[kSlabSlots];
    slabs_[slots_ / kSlabSlots].store(slab, std::memory_order_release);  // partner: slot_at()
    for (std::uint32_t i = kSlabSlots; i-- > 0;) {
      slab[i].index = slots_ + i;
      slab[i].next_free = free_;
      free_ = &slab[i];
    }
    slots_ += kSlabSlots;
  }
  Slot* slot = free_;
  free_ = slot->next_free;
  return slot;
}

// ---- submission

void Lane::make_room() noexcept {
  while (ring_.full()) {
    // O2: full is no reason to lose anything. If the kernel takes none because completions wait, those are taken first.
    count(counters_.full);
    const int answer = enter(false, 0);
    if (answer == -EBUSY || answer == -EAGAIN) {
      PollResult ignored;
      reap(~std::uint32_t{0}, stash_, ignored);
    }
  }
}

os::UringSqe* Lane::next_sqe() noexcept {
  make_room();
  count(counters_.entries);
  return ring_.next_sqe();
}

int Lane::enter(bool wait, std::int64_t timeout_ns) noexcept {
  count(counters_.enters);
  if (ring_.overflowed()) count(counters_.overflows);
  const int answer = ring_.enter(wait, timeout_ns, true);
  GEARBOX_REQUIRE(answer >= 0 || answer == -ETIME || answer == -EINTR || answer == -EBUSY || answer == -EAGAIN,
                  "io_uring_enter: {}", strerror(-answer));
  return answer;
}

void Lane::submit(Slot& slot) noexcept {
  const Op& op = *slot.op;
  const auto& conn = static_cast<const UringConn&>(*op.conn);
  os::UringSqe* sqe = next_sqe();
  sqe->fd = conn.fd;
  sqe->addr = reinterpret_cast<std::uint64_t>(op.buffer);
  sqe->len = static_cast<std::uint32_t>(std::min(op.bytes, kMostBytes));
  sqe->user_data = std::uint64_t{slot.generation} << 32 | slot.index;
  switch (op.verb) {
    case Verb::kRead:
      sqe->opcode = conn.socket ? os::uring::kRecv : os::uring::kRead;
      if (!conn.socket) sqe->off = os::uring::kCurrentPosition;
      if (conn.socket && conn.empty) sqe->ioprio = os::uring::kPollFirst;
      break;
    case Verb::kWrite:
      sqe->opcode = conn.socket ? os::uring::kSend : os::uring::kWrite;
      if (conn.socket) sqe->op_flags = MSG_NOSIGNAL | MSG_WAITALL;
      if (!conn.socket) sqe->off = os::uring::kCurrentPosition;
      break;
    case Verb::kAccept:
      sqe->opcode = os::uring::kAccept;
      sqe->addr = 0;
      sqe->len = 0;
      sqe->op_flags = SOCK_CLOEXEC;
      break;
    case Verb::kConnect:
      sqe->opcode = os::uring::kConnect;
      sqe->len = 0;
      sqe->off = op.bytes;
      break;
  }
}

void Lane::start(Op& op, UringConn& conn) noexcept {
  Slot& slot = *take_slot();
  slot.op = &op;
  slot.cancel_error = 0;
  op.impl = &slot;
  op.lane = id_;
  op.generation = slot.generation;
  op.state.store(Op::kWaiting, std::memory_order_relaxed);
  conn.references.fetch_add(1, std::memory_order_relaxed);
  const std::uint64_t now = in_flight_.load(std::memory_order_relaxed) + 1;
  in_flight_.store(now, std::memory_order_relaxed);
  if (now > counters_.most_in_flight.load(std::memory_order_relaxed))
    counters_.most_in_flight.store(now, std::memory_order_relaxed);
  submit(slot);
  conn.in_flight[static_cast<int>(direction_of(op.verb))].store(name_of(op),
                                                                std::memory_order_seq_cst);  // partner: close()
  if (conn.closing.load(std::memory_order_seq_cst)) request_cancel(slot, slot.generation, ECANCELED);
}

void Lane::arm_wake() noexcept {
  os::UringSqe* sqe = next_sqe();
  sqe->opcode = os::uring::kRead;
  sqe->fd = wake_fd_;
  sqe->addr = reinterpret_cast<std::uint64_t>(&wake_value_);
  sqe->len = sizeof(wake_value_);
  sqe->off = os::uring::kCurrentPosition;
  sqe->user_data = kWakeData;
}

// ---- cancel and wake

void Lane::cancel(std::uint64_t name, int error) noexcept {
  if (name == 0) return;
  Slot* slot = slot_at(index_of(name));
  if (slot == nullptr) return;
  const std::uint32_t generation = generation_of(name);
  if (owned_by_caller()) {
    request_cancel(*slot, generation, error);
    return;
  }
  const std::uint64_t mine = std::uint64_t{generation} << 32 | static_cast<std::uint32_t>(error);
  std::uint64_t there = slot->request.load(std::memory_order_relaxed);
  do {
    // A request for a later life of the slot must not be replaced by one for an earlier.
    const auto age = static_cast<std::int32_t>((generation - static_cast<std::uint32_t>(there >> 32)) << 1);
    if (there != 0 && age < 0) return;
  } while (!slot->request.compare_exchange_weak(there, mine, std::memory_order_acq_rel, std::memory_order_relaxed));
  if (!slot->posted.exchange(true, std::memory_order_acq_rel)) {
    Slot* first = inbox_.load(std::memory_order_relaxed);
    do {
      slot->next_posted = first;
    } while (!inbox_.compare_exchange_weak(first, slot, std::memory_order_seq_cst, std::memory_order_relaxed));
  }
  if (sleeps_.load(std::memory_order_seq_cst)) wake();  // partner: poll(), which looks into the inbox after saying so
}

void Lane::read_inbox() noexcept {
  if (inbox_.load(std::memory_order_relaxed) == nullptr) return;
  Slot* slot = inbox_.exchange(nullptr, std::memory_order_seq_cst);
  while (slot != nullptr) {
    Slot* next = slot->next_posted;
    slot->posted.exchange(false, std::memory_order_acq_rel);  // from here it may be posted again
    const std::uint64_t request = slot->request.exchange(0, std::memory_order_acq_rel);
    if (request != 0)
      request_cancel(*slot, static_cast<std::uint32_t>(request >> 32), static_cast<int>(request & 0xffffffff));
    slot = next;
  }
}

void Lane::request_cancel(Slot& slot, std::uint32_t generation, int error) noexcept {
  if (slot.op == nullptr || slot.generation != generation) return;  // it was final before
  if (slot.cancel_error != 0) return;                               // the first reason counts
  slot.cancel_error = error;
  count(counters_.cancels);
  send_cancel(slot);
}

void Lane::send_cancel(Slot& slot) noexcept {
  const std::uint32_t generation = slot.generation;
  make_room();  // may end the operation, and the slot may have a new life by now: that one is not to be cancelled
  if (slot.op == nullptr || slot.generation != generation) return;
  os::UringSqe* sqe = next_sqe();  // after the operation's own entry: the kernel takes them in order
  sqe->opcode = os::uring::kAsyncCancel;
  sqe->fd = -1;
  sqe->addr = std::uint64_t{generation} << 32 | slot.index;
  sqe->user_data = kCancelBit | sqe->addr;
}

void Lane::wake() noexcept {
  if (wake_pending_.exchange(true, std::memory_order_acq_rel)) {  // partner: complete()
    counters_.coalesced.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  counters_.wakes.fetch_add(1, std::memory_order_relaxed);
  os::signal_eventfd(wake_fd_);
}

// ---- completion

G* Lane::complete(const os::UringCqe& cqe, PollResult& result) noexcept {
  if (cqe.user_data == kWakeData) {
    wake_pending_.exchange(false, std::memory_order_acq_rel);
    arm_wake();
    result.woken = true;
    return nullptr;
  }
  count(counters_.completions);
  const auto generation = static_cast<std::uint32_t>(cqe.user_data >> 32) & kGenerationMask;
  Slot* slot = slot_at(static_cast<std::uint32_t>(cqe.user_data));
  const bool live = slot != nullptr && slot->op != nullptr && slot->generation == generation;
  if ((cqe.user_data & kCancelBit) != 0) {
    // Not found, or being carried out at this moment: if it waits again after all, it is asked again.
    if (live && cqe.result < 0) {
      count(counters_.cancels_again);
      send_cancel(*slot);
    }
    return nullptr;
  }
  if (!live) {
    count(counters_.stale);
    return nullptr;
  }
  Op& op = *slot->op;
  auto& conn = static_cast<UringConn&>(*op.conn);
  std::int64_t answer = cqe.result;
  if (answer == -ECANCELED || answer == -EINTR || answer == -EAGAIN) {
    if (slot->cancel_error != 0) {
      answer = -slot->cancel_error;
    } else if (answer != -ECANCELED) {
      count(counters_.restarts);
      submit(*slot);
      return nullptr;
    }
  }
  if (op.verb == Verb::kRead) conn.empty = (cqe.flags & os::uring::kCqeSockNonEmpty) == 0;
  conn.in_flight[static_cast<int>(direction_of(op.verb))].store(0, std::memory_order_relaxed);
  slot->op = nullptr;
  slot->generation = slot->generation == kGenerationMask ? 1 : slot->generation + 1;
  slot->next_free = free_;
  free_ = slot;
  in_flight_.store(in_flight_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  op.result = answer;
  G* g = op.make_ready();  // O1: from here op belongs to its goroutine
  drop_(poller_, &conn);
  return g;
}

void Lane::reap(std::uint32_t budget, GList& ready, PollResult& result) noexcept {
  while (result.readied < budget && ring_.has_completion()) {
    if (G* g = complete(ring_.take_completion(), result)) {
      ready.push_back(g);
      ++result.readied;
    }
  }
  result.more = ring_.has_completion();
}

PollResult Lane::poll(std::int64_t timeout_ns, std::uint32_t budget, GList& ready) noexcept {
  GEARBOX_INVARIANT(O6, owned_by_caller(), "lane {} is polled by a thread that does not own it", id_);
  PollResult result;
  read_inbox();
  while (result.readied < budget && !stash_.empty()) {
    ready.push_back(stash_.pop_front());
    ++result.readied;
  }
  const bool at_once = timeout_ns == 0 || result.readied > 0 || ring_.has_completion();
  if (at_once) {
    if (ring_.queued() > 0 || !tells_work_ || ring_.has_work()) enter(false, 0);
  } else {
    sleeps_.store(true, std::memory_order_seq_cst);  // partner: cancel()
    if (inbox_.load(std::memory_order_seq_cst) == nullptr) {
      if (enter(true, timeout_ns) == -EINTR) result.woken = true;  // O7
    }
    sleeps_.store(false, std::memory_order_relaxed);
    read_inbox();
  }
  reap(budget, ready, result);
  result.more = result.more || !stash_.empty();
  return result;
}

void Lane::evict_all() noexcept {
  if (!ring_.is_set_up() || !owned_by_caller() || in_flight() == 0) return;
  os::UringSqe* sqe = next_sqe();
  sqe->opcode = os::uring::kAsyncCancel;
  sqe->fd = -1;
  sqe->op_flags = os::uring::kCancelAll | os::uring::kCancelAny;
  sqe->user_data = kCancelBit;  // slot 0 of generation 0: nobody's
  const std::int64_t until = os::monotonic_ns() + kEvictionNs;
  GList nobody_runs;
  while (in_flight() > 0 && os::monotonic_ns() < until) {
    PollResult ignored;
    enter(true, kEvictionNs / 100);
    reap(~std::uint32_t{0}, nobody_runs, ignored);
  }
}

}  // namespace gearbox::pollers::uring_parts
