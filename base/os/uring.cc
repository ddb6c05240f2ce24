#include "base/os/uring.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace gearbox::os {
namespace {

constexpr int kSetupCall = 425, kEnterCall = 426, kRegisterCall = 427;
constexpr std::uint32_t kFeatureSingleMmap = 1u << 0, kFeatureNoDrop = 1u << 1, kFeatureExtArg = 1u << 8;
constexpr std::uint32_t kEnterGetEvents = 1u << 0, kEnterExtArg = 1u << 3, kEnterRegisteredRing = 1u << 4;
constexpr std::uint32_t kEnableRings = 12, kRegisterRingFds = 20, kUnregisterRingFds = 21;
constexpr off_t kOffsetRings = 0, kOffsetSqes = 0x10000000;

struct SqOffsets {
  std::uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
  std::uint64_t user_addr;
};
struct CqOffsets {
  std::uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
  std::uint64_t user_addr;
};
struct Parameters {
  std::uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv[3];
  SqOffsets sq_off;
  CqOffsets cq_off;
};
static_assert(sizeof(Parameters) == 120);
struct TimeSpec {
  std::int64_t seconds;
  long long nanoseconds;
};
struct EventsArgument {
  std::uint64_t sigmask;
  std::uint32_t sigmask_bytes, pad;
  std::uint64_t timeout;
};
struct ResourceUpdate {
  std::uint32_t offset, resv;
  std::uint64_t data;
};

template <class T>
T* at(void* base, std::uint32_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(base) + offset);
}

}  // namespace

Status Ring::set_up(std::uint32_t entries, std::uint32_t completion_entries, std::uint32_t flags) {
  Parameters p{};
  p.flags = flags | uring::kSetupCqSize | uring::kSetupClamp | uring::kSetupDisabled;
  p.cq_entries = completion_entries;
  const int fd = static_cast<int>(::syscall(kSetupCall, entries, &p));
  if (fd < 0) return os_error("io_uring_setup", errno);
  if ((p.features & (kFeatureSingleMmap | kFeatureNoDrop | kFeatureExtArg)) !=
      (kFeatureSingleMmap | kFeatureNoDrop | kFeatureExtArg)) {
    ::close(fd);
    return Error{"io_uring_setup: this kernel's io_uring is too old, Linux 5.11 or newer is needed", ENOSYS};
  }
  rings_bytes_ = std::max<std::size_t>(p.sq_off.array + p.sq_entries * sizeof(std::uint32_t),
                                       p.cq_off.cqes + p.cq_entries * sizeof(UringCqe));
  sqes_bytes_ = p.sq_entries * sizeof(UringSqe);
  rings_ = ::mmap(nullptr, rings_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, kOffsetRings);
  void* sqes = ::mmap(nullptr, sqes_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, kOffsetSqes);
  if (rings_ == MAP_FAILED || sqes == MAP_FAILED) {
    const int error = errno;
    if (rings_ != MAP_FAILED) ::munmap(rings_, rings_bytes_);
    if (sqes != MAP_FAILED) ::munmap(sqes, sqes_bytes_);
    rings_ = nullptr;
    ::close(fd);
    return os_error("mapping an io_uring", error);
  }
  fd_ = fd;
  sqes_ = static_cast<UringSqe*>(sqes);
  cqes_ = at<UringCqe>(rings_, p.cq_off.cqes);
  using Word = std::atomic<std::uint32_t>;
  sq_head_ = at<Word>(rings_, p.sq_off.head);
  sq_ktail_ = at<Word>(rings_, p.sq_off.tail);
  sq_flags_ = at<Word>(rings_, p.sq_off.flags);
  cq_head_ = at<Word>(rings_, p.cq_off.head);
  cq_tail_ = at<Word>(rings_, p.cq_off.tail);
  sq_entries_ = p.sq_entries;
  sq_mask_ = *at<std::uint32_t>(rings_, p.sq_off.ring_mask);
  cq_mask_ = *at<std::uint32_t>(rings_, p.cq_off.ring_mask);
  auto* array = at<std::uint32_t>(rings_, p.sq_off.array);
  for (std::uint32_t i = 0; i < sq_entries_; ++i) array[i] = i;  // entry i is always at place i
  sq_tail_ = sq_ktail_->load(std::memory_order_relaxed);
  cq_head_local_ = cq_head_->load(std::memory_order_relaxed);
  enter_fd_ = fd_;
  return Ok{};
}

Status Ring::enable() {
  // With SINGLE_ISSUER the thread that enables is the issuer.
  if (::syscall(kRegisterCall, fd_, kEnableRings, nullptr, 0) < 0) return os_error("io_uring_register", errno);
  // Spares each enter the look-up of the descriptor. Only for this thread; kernels that refuse lose some tens of
  // nanoseconds.
  ResourceUpdate update{~std::uint32_t{0}, 0, static_cast<std::uint64_t>(fd_)};
  if (::syscall(kRegisterCall, fd_, kRegisterRingFds, &update, 1) == 1) {
    enter_fd_ = static_cast<int>(update.offset);
    enter_flags_ = kEnterRegisteredRing;
    registered_by_ = ::pthread_self();
  }
  return Ok{};
}

Ring::~Ring() {
  if (fd_ < 0) return;
  if (enter_flags_ != 0 &&
      ::pthread_equal(registered_by_, ::pthread_self()) != 0) {  // else that thread's end has done it
    ResourceUpdate update{static_cast<std::uint32_t>(enter_fd_), 0, 0};
    ::syscall(kRegisterCall, fd_, kUnregisterRingFds, &update, 1);
  }
  ::munmap(rings_, rings_bytes_);
  ::munmap(sqes_, sqes_bytes_);
  ::close(fd_);
}

int Ring::enter(bool wait, std::int64_t timeout_ns, bool reap) noexcept {
  sq_ktail_->store(sq_tail_, std::memory_order_release);
  const std::uint32_t to_submit = sq_tail_ - sq_head_->load(std::memory_order_acquire);
  std::uint32_t flags = enter_flags_ | (wait || reap ? kEnterGetEvents : 0);
  TimeSpec timeout{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
  EventsArgument argument{0, 0, 0, reinterpret_cast<std::uint64_t>(&timeout)};
  const bool timed = wait && timeout_ns >= 0;
  if (timed) flags |= kEnterExtArg;
  const long answer = ::syscall(kEnterCall, enter_fd_, to_submit, wait ? 1u : 0u, flags, timed ? &argument : nullptr,
                                timed ? sizeof(argument) : 0);
  return answer < 0 ? -errno : static_cast<int>(answer);
}

}  // namespace gearbox::os
