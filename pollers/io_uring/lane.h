// One lane of the io_uring poller: a ring, the table of operations that are in it, and the ways in from other threads.
//
// A lane belongs to the thread that enabled it. Others may only post() a cancel and wake() it. What the kernel hands
// back is a number, generation and slot, never a pointer: a completion or a cancel that comes late finds another
// generation and is dropped. Slots lie in slabs that are never freed while the lane lives, so a late post() may read
// them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/os/uring.h"
#include "interfaces/poller.h"

namespace gearbox::pollers::uring_parts {

// What each rung of the ladder sets up (io_uring.cc).
struct Rung {
  const char* name;
  std::uint32_t flags;
  bool tells_work;  // the ring says when there is deferred work, so that a look without any costs no system call
};

struct UringConn final : Conn {
  std::atomic<std::uint64_t> in_flight[2] = {
      0, 0};  // the direction's operation (Lane::name_of), 0: none. Lane's owner writes
  bool socket = true;
  bool empty = false;  // the last receive left nothing behind, as far as is known. Whoever holds the reading direction
  UringConn* previous = nullptr;  // the poller's list of all
  UringConn* next = nullptr;
};

class Lane {
 public:
  using DropConn = void (*)(void* poller, UringConn* conn);

  Lane(std::uint32_t id, void* poller, DropConn drop) : id_(id), poller_(poller), drop_(drop) {}
  ~Lane();
  // Any thread: descriptors and memory. Then, once, on the thread that will own the lane: the ring begins to work.
  Status prepare(const Rung& rung, std::uint32_t entries, std::uint32_t completion_entries);
  Status enable();
  bool owned_by_caller() const noexcept { return pthread_equal(owner_, pthread_self()) != 0; }

  // ---- the owner
  void start(Op& op, UringConn& conn) noexcept;
  PollResult poll(std::int64_t timeout_ns, std::uint32_t budget, GList& ready) noexcept;
  // Cancels everything and waits, not for ever: the buffers are about to go.
  void evict_all() noexcept;

  // ---- any thread
  // Asks that an operation end with -error. `name`: what start() stored in UringConn::in_flight, 0 for none.
  void cancel(std::uint64_t name, int error) noexcept;
  void wake() noexcept;
  std::uint64_t in_flight() const noexcept { return in_flight_.load(std::memory_order_relaxed); }
  static std::uint32_t lane_of(std::uint64_t name) noexcept { return static_cast<std::uint32_t>(name >> 52); }
  std::uint64_t name_of(const Op& op) const noexcept;

  struct Counters {
    std::atomic<std::uint64_t> enters{0}, entries{0}, completions{0}, full{0}, overflows{0}, restarts{0}, stale{0},
        wakes{0}, coalesced{0}, cancels{0}, cancels_again{0}, most_in_flight{0};
  };
  const Counters& counters() const noexcept { return counters_; }

 private:
  static constexpr std::uint32_t kSlabSlots = 1024, kMaxSlabs = 1024;  // 20 bits of slot
  struct Slot {
    Op* op = nullptr;              // null: free
    std::uint32_t generation = 1;  // 31 bits, never 0
    std::uint32_t index = 0;
    int cancel_error = 0;
    Slot* next_free = nullptr;
    // From other threads: generation << 32 | error, and the place in the inbox.
    std::atomic<std::uint64_t> request{0};
    std::atomic<bool> posted{false};
    Slot* next_posted = nullptr;
  };

  Slot* take_slot();
  Slot* slot_at(std::uint32_t index) const noexcept;
  // May take completions to make room, and so end any operation; fills stash_.
  void make_room() noexcept;
  os::UringSqe* next_sqe() noexcept;  // makes room
  void submit(Slot& slot) noexcept;
  void request_cancel(Slot& slot, std::uint32_t generation, int error) noexcept;
  void send_cancel(Slot& slot) noexcept;
  void arm_wake() noexcept;
  int enter(bool wait, std::int64_t timeout_ns) noexcept;
  void read_inbox() noexcept;
  // Takes completions until the list holds `budget` or there are none.
  void reap(std::uint32_t budget, GList& ready, PollResult& result) noexcept;
  G* complete(const os::UringCqe& cqe, PollResult& result) noexcept;
  void count(std::atomic<std::uint64_t>& counter, std::uint64_t n = 1) noexcept {  // one writer
    counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }

  const std::uint32_t id_;
  void* const poller_;
  const DropConn drop_;
  pthread_t owner_{};
  os::Ring ring_;
  bool tells_work_ = false;
  int wake_fd_ = -1;
  std::uint64_t wake_value_ = 0;  // the kernel reads the eventfd into it
  GList stash_;                   // readied while begin() had to make room
  Slot* free_ = nullptr;
  std::uint32_t slots_ = 0;

  alignas(64) std::atomic<std::uint64_t> in_flight_{0};
  alignas(64) std::atomic<Slot*> inbox_{nullptr};
  std::atomic<bool> wake_pending_{false};
  std::atomic<bool> sleeps_{false};
  std::array<std::atomic<Slot*>, kMaxSlabs> slabs_{};
  Counters counters_;
};

}  // namespace gearbox::pollers::uring_parts
