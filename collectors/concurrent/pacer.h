// Pacer: when to begin a cycle, and how much a mutator owes for what it allocates while one runs.
//
// The goal is the heap size at which marking should have ended: what the last cycle left, plus gogc percent. A cycle
// begins early enough that mutators, going on as in the last cycle, reach the goal when it ends; if they are faster,
// assists make them mark in proportion to what they allocate.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace gearbox::collectors::concurrent_parts {

class Pacer {
 public:
  Pacer(std::uint64_t gogc, std::uint64_t min_heap_bytes) : gogc_(gogc), min_heap_(min_heap_bytes / 100 * gogc) {
    after_mark(0, 0, 0, 0);
  }

  // World stopped. live: what survives, objects born black included. born: bytes allocated while marking. marked: bytes
  // that were marked, work: what that took (Marker::work_bytes).
  void after_mark(std::uint64_t live, std::uint64_t born, std::uint64_t marked, std::uint64_t work) noexcept {
    if (gogc_ == 0) {
      goal_.store(~std::uint64_t{0}, std::memory_order_relaxed);
      trigger_.store(~std::uint64_t{0}, std::memory_order_relaxed);
      return;
    }
    const std::uint64_t goal = std::max(min_heap_, live + live / 100 * gogc_);
    const std::uint64_t room = goal - live;
    // The runway: what is allocated during a mark and a little more, within limits: a mark that begins earlier than at
    // 70 % of the room (Go's floor) costs more cycles than its assists would. Smoothed, since one cycle says little
    // about the next.
    born_ = born_ == 0 ? born : (born_ + born) / 2;
    const std::uint64_t runway = std::clamp(born_ + born_ / 8, room / 16, room / 10 * 3);
    last_live_ = live;
    if (marked >= kEnoughToJudge) work_per_marked_ = static_cast<double>(work) / static_cast<double>(marked);
    goal_.store(goal, std::memory_order_relaxed);
    trigger_.store(goal - runway, std::memory_order_relaxed);
  }
  // World stopped, a mark begins with `live` bytes in the heap.
  void before_mark(std::uint64_t live) noexcept {
    const std::uint64_t goal = goal_.load(std::memory_order_relaxed);
    const std::uint64_t work = std::max<std::uint64_t>(std::min(live, last_live_ + last_live_ / 8), 1 << 20);
    const std::uint64_t room =
        goal > live ? std::max<std::uint64_t>(goal - live, live / 16 + 1) : live / 16 + 1;  // too late: mark fast
    work_per_byte_ = work_per_marked_ * static_cast<double>(work) / static_cast<double>(room);
  }
  std::uint64_t trigger() const noexcept { return trigger_.load(std::memory_order_relaxed); }
  std::uint64_t goal() const noexcept { return goal_.load(std::memory_order_relaxed); }
  // While marking: work that is owed for each byte allocated.
  double work_per_byte() const noexcept { return work_per_byte_; }

 private:
  const std::uint64_t gogc_, min_heap_;
  static constexpr std::uint64_t kEnoughToJudge = 64 << 10;
  std::uint64_t last_live_ = 0, born_ = 0;
  double work_per_byte_ = 1;
  double work_per_marked_ = 1.5;
  std::atomic<std::uint64_t> trigger_{0}, goal_{0};
};

}  // namespace gearbox::collectors::concurrent_parts
