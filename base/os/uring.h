// io_uring without liburing: three system calls, two mappings, and the kernel's ABI as far as it is used here. The
// system's headers are older than the kernels this runs on, so the numbers are our own.
//
// A Ring belongs to one thread: it alone takes submission entries, enters and reads completions. Another may set it
// up before, so that what can be refused is refused there.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace gearbox::os {

struct UringSqe {
  std::uint8_t opcode;
  std::uint8_t flags;
  std::uint16_t ioprio;
  std::int32_t fd;
  std::uint64_t off;
  std::uint64_t addr;
  std::uint32_t len;
  std::uint32_t op_flags;  // msg_flags, accept_flags, cancel_flags, ...
  std::uint64_t user_data;
  std::uint64_t rest[3];
};
static_assert(sizeof(UringSqe) == 64);

struct UringCqe {
  std::uint64_t user_data;
  std::int32_t result;
  std::uint32_t flags;
};
static_assert(sizeof(UringCqe) == 16);

namespace uring {
enum Opcode : std::uint8_t {
  kNop = 0,
  kAccept = 13,
  kAsyncCancel = 14,
  kConnect = 16,
  kRead = 22,
  kWrite = 23,
  kSend = 26,
  kRecv = 27
};
inline constexpr std::uint32_t kSetupCqSize = 1u << 3, kSetupClamp = 1u << 4, kSetupDisabled = 1u << 6,
                               kSetupSubmitAll = 1u << 7, kSetupCoopTaskrun = 1u << 8, kSetupTaskrunFlag = 1u << 9,
                               kSetupSingleIssuer = 1u << 12, kSetupDeferTaskrun = 1u << 13;
inline constexpr std::uint32_t kSqCqOverflow = 1u << 1, kSqTaskrun = 1u << 2;
inline constexpr std::uint16_t kPollFirst = 1u << 0;  // ioprio of send and recv: wait before the first attempt
inline constexpr std::uint32_t kCqeSockNonEmpty = 1u << 2;
inline constexpr std::uint32_t kCancelAll = 1u << 0, kCancelAny = 1u << 2;
inline constexpr std::uint64_t kCurrentPosition = ~std::uint64_t{0};
}  // namespace uring

class Ring {
 public:
  Ring() = default;
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Any thread. The ring does nothing before enable(). Error: io_uring_setup's or mmap's.
  Status set_up(std::uint32_t entries, std::uint32_t completion_entries, std::uint32_t flags);
  // Once, on the thread that owns it from then on. Takes no descriptor and no memory: the Error is a kernel's, or a
  // container's, that forbids io_uring_register.
  Status enable();
  bool is_set_up() const noexcept { return fd_ >= 0; }

  bool full() const noexcept { return sq_tail_ - sq_head_->load(std::memory_order_acquire) >= sq_entries_; }
  // A zeroed entry, to be filled in before the next call here; null when the queue is full: enter() first.
  UringSqe* next_sqe() noexcept {
    if (full()) return nullptr;
    UringSqe* sqe = &sqes_[sq_tail_ & sq_mask_];
    ++sq_tail_;
    *sqe = {};
    return sqe;
  }
  // Entries filled in and not yet given to the kernel.
  std::uint32_t queued() const noexcept { return sq_tail_ - sq_head_->load(std::memory_order_acquire); }
  // The kernel has something that only enter() brings: deferred work, or completions that did not fit.
  bool has_work() const noexcept {
    return (sq_flags_->load(std::memory_order_acquire) & (uring::kSqTaskrun | uring::kSqCqOverflow)) != 0;
  }
  bool overflowed() const noexcept { return (sq_flags_->load(std::memory_order_acquire) & uring::kSqCqOverflow) != 0; }

  // Gives everything queued to the kernel; with `wait`, waits for a completion up to timeout_ns (-1: for ever); runs
  // deferred work. Returns what was submitted, or -errno (-ETIME, -EINTR: nothing is wrong). HOT.
  int enter(bool wait, std::int64_t timeout_ns, bool reap) noexcept;

  bool has_completion() const noexcept { return cq_head_local_ != cq_tail_->load(std::memory_order_acquire); }
  // REQUIRES: has_completion().
  UringCqe take_completion() noexcept {
    const UringCqe cqe = cqes_[cq_head_local_ & cq_mask_];
    cq_head_->store(++cq_head_local_, std::memory_order_release);
    return cqe;
  }

 private:
  int fd_ = -1, enter_fd_ = -1;
  std::uint32_t enter_flags_ = 0;
  pthread_t registered_by_{};
  std::uint32_t sq_entries_ = 0, sq_mask_ = 0, cq_mask_ = 0, sq_tail_ = 0, cq_head_local_ = 0;
  std::atomic<std::uint32_t>* sq_head_ = nullptr;
  std::atomic<std::uint32_t>* sq_ktail_ = nullptr;
  std::atomic<std::uint32_t>* sq_flags_ = nullptr;
  std::atomic<std::uint32_t>* cq_head_ = nullptr;
  std::atomic<std::uint32_t>* cq_tail_ = nullptr;
  UringSqe* sqes_ = nullptr;
  UringCqe* cqes_ = nullptr;
  void* rings_ = nullptr;
  std::size_t rings_bytes_ = 0, sqes_bytes_ = 0;
};

}  // namespace gearbox::os
