// Queue: what one P has to run. A ring that its owner fills at the tail, and from whose head owner and thieves take; and
// the slot before it (run_next.h).
//
// Invariant. G1  tail - head <= slots; slots in [head, tail) hold queued Gs, each once. head moves by compare-exchange
//                only, tail by its owner only.
// Source.    Go's runtime/proc.go (runqput, runqget, runqgrab).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/lock.h"
#include "base/random.h"
#include "interfaces/mutant.h"
#include "schedulers/gmp/run_next.h"

namespace gearbox::schedulers::gmp_parts {

enum class Steal : std::uint8_t { kOne, kHalf, kAll };

struct alignas(128) Queue {
  Queue(std::uint32_t slot_count, std::uint64_t seed)
      : size(slot_count), mask(slot_count - 1), random(seed), slots(std::make_unique<std::atomic<G*>[]>(slot_count)) {}

  std::atomic<std::uint32_t> head{0};  // next to take; owner and thieves
  RunNext runnext;
  alignas(64) std::atomic<std::uint32_t> tail{0};  // next free; owner writes
  const std::uint32_t size, mask;
  std::atomic<std::uint32_t> picks{0};  // moves with every pick; owner writes, thieves look whether it does
  bool spinning = false;                // owner only, as all below
  std::uint32_t slices = 0;             // moves with every pick that begins a slice (Go's schedtick)
  std::uint32_t next_global = 0;        // the slice that is taken from the global queue first
  Random random;
  std::uint64_t steals = 0, stolen = 0, failed_searches = 0, overflows = 0, runnext_hits = 0;
  const std::unique_ptr<std::atomic<G*>[]> slots;

  G* at(std::uint32_t i) const noexcept { return slots[i & mask].load(std::memory_order_relaxed); }
  bool ring_is_empty() const noexcept {
    return head.load(std::memory_order_seq_cst) == tail.load(std::memory_order_seq_cst);
  }

  // Owner. False when the ring is full.
  bool try_put(G* g) noexcept {
    const std::uint32_t end = tail.load(std::memory_order_relaxed);
    if (end - head.load(std::memory_order_acquire) >= size) [[unlikely]]  // partner: whoever took
      return false;
    slots[end & mask].store(g, std::memory_order_relaxed);
    tail.store(end + 1, std::memory_order_release);  // partner: steal_from()
    return true;
  }

  // Owner. The oldest, or null.
  G* pop() noexcept {
    std::uint32_t first = head.load(std::memory_order_acquire);
    for (;;) {
      if (first == tail.load(std::memory_order_relaxed)) return nullptr;
      G* g = at(first);
      if (head.compare_exchange_weak(first, first + 1, std::memory_order_acq_rel, std::memory_order_acquire)) return g;
    }
  }

  // A thief. Whether the owner picks nothing for about 3 us: what lies in runnext is then behind a goroutine that goes on
  // running, and not one of a pair that ready each other, which would only lose by being torn apart (Go sleeps that long).
  bool stands_still() const noexcept {
    if (runnext.look() == nullptr) return false;
    const std::uint32_t before = picks.load(std::memory_order_relaxed);
    for (int i = 0; i < 150; ++i) {
      cpu_relax();
      if (picks.load(std::memory_order_relaxed) != before) return false;
    }
    return true;
  }

  // For a thief's last look before it parks: false only when runnext was seen empty. An owner that picks all the time will
  // take what is there itself; but it may be about to begin something long, so seeing it pick once is not enough.
  bool runnext_waits() const noexcept {
    for (int looks = 0; looks < 20; ++looks) {
      if (runnext.look(std::memory_order_seq_cst) == nullptr) return false;
      if (stands_still()) return true;
    }
    return true;
  }

  // Owner of this one, which is empty, as a thief at another: takes that many of its oldest, keeps all but the youngest
  // of them, and returns that. runnext only when it may and the ring is empty; `patient`: and its owner stands still.
  // Null when there was nothing.
  G* steal_from(Queue& from, Steal amount, bool take_runnext, bool patient) {
    for (;;) {
      std::uint32_t first = from.head.load(std::memory_order_acquire);
      const std::uint32_t there = from.tail.load(std::memory_order_acquire) - first;  // partner: try_put()
      if (there > size) continue;                                                     // head and tail were read apart
      std::uint32_t n = there - there / 2;
      if (amount == Steal::kOne) n = std::min(there, 1u);
      if (amount == Steal::kAll) n = there;
      if (n == 0) {
        G* g = take_runnext && (!patient || from.stands_still()) ? from.runnext.steal() : nullptr;
        if (g != nullptr) {
          ++steals;
          ++stolen;
        }
        return g;
      }
      const std::uint32_t base = tail.load(std::memory_order_relaxed);
      for (std::uint32_t i = 0; i < n; ++i)
        slots[(base + i) & mask].store(from.at(first + i), std::memory_order_relaxed);
      const std::uint32_t gone = GEARBOX_MUTANT(kStealTwice) ? n - 1 : n;
      if (!from.head.compare_exchange_strong(first, first + gone, std::memory_order_acq_rel)) continue;
      ++steals;
      stolen += n;
      G* g = at(base + n - 1);
      if (n > 1) tail.store(base + n - 1, std::memory_order_release);
      return g;
    }
  }
};

}  // namespace gearbox::schedulers::gmp_parts
