// Stacks: what goroutines run on, and the table of goroutines.
//
// A G and its stack are two things. A G is made by go() and has a place in a dense table, with its closure inside; a
// stack is given to it when it first runs and taken back when it ends, so a goroutine that waits for its first turn
// costs its block in the table only, and one that ends leaves a stack with warm pages for the next (a tree of goroutines
// whose leaves never block needs stacks for its inner nodes alone).
//
// Stacks are equal slots of large slabs of address space: a guard page at the low end, then the stack, whose high end is
// offset by a colour so that the first frames of neighbouring slots do not share one cache set. Only touched pages are
// resident: a parked goroutine with a shallow stack costs one page. Neither slabs nor table are unmapped while the
// runtime lives, so a stale G* is safe to read, and the collector can walk all goroutines by number.
//
// The guard is MADV_GUARD_INSTALL where the kernel has it (no mapping is split: a million stacks in a handful of
// mappings); mprotect otherwise, which ends near vm.max_map_count / 2 stacks, and then the error says so.
//
// Groups. For each kSlotsAGroup numbers a word says in which stack scan (epoch) somebody was last born or found alive
// there, so that a scan passes over dead Gs without touching them. The words lie behind their slab's Gs.
//
// Invariants.  K1  numbers are dense: every G below count() is initialised, and a slab's address is published (release)
//                  before any G in it is counted.
//              K2  a stack is in exactly one of: a G that has run and not ended, a P's cache, the pool.
//              K3  a G gets its stack after its scan for the cycle under way is done, and on the M that runs it: whoever
//                  scans a G sees either no stack or a whole one.
//              K4  a group with a live G has stamp e or e - 1 when the scan of epoch e is armed: its G was born since
//                  the last arming, or was found alive by the scan after it.
// Rejected.    G and stack as one slot: a million goroutines that wait for their first turn cost a page fault each, and
//              a spawned one never runs on the pages that the last one left warm.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <ucontext.h>

#include "base/lock.h"
#include "base/os/memory.h"
#include "base/result.h"
#include "interfaces/goroutine.h"
#include "runtime/context.h"

namespace gearbox {

// A G with what only the runtime needs beside it.
struct Goroutine : G {
  StackIdentity identity;
  std::uintptr_t syscall_sp = 0;  // while kSyscall: everything live is at or above it (blocking.h)
  // While it is held in a signal handler: its registers, on its thread's signal stack (preempt.h, X1).
  const ucontext_t* frozen = nullptr;
  std::uint32_t closure_bytes = 0;  // of the words at G::closure that may hold references; 0: none, or it has ended
  static constexpr std::size_t kClosureRoom = 128;
  alignas(16) std::byte closure_room[kClosureRoom];  // larger closures are malloc memory
};

// Usable bytes [lo, hi); the guard page lies right below lo.
struct Stack {
  std::uintptr_t lo = 0, hi = 0;
};

// A P's free stacks. Its owner only; the last one in is the first one out.
struct StackCache {
  static constexpr std::uint32_t kMost = 64;
  std::array<Stack, kMost> stacks;
  std::uint32_t count = 0;
};

class GoroutineTable {
 public:
  GoroutineTable() = default;
  ~GoroutineTable();
  GoroutineTable(const GoroutineTable&) = delete;
  GoroutineTable& operator=(const GoroutineTable&) = delete;

  // Makes up to `want` new Gs (at least one), appended to `out`. Any thread.
  Status grow(std::uint32_t want, GList& out);
  std::uint32_t count() const noexcept { return count_.load(std::memory_order_acquire); }  // partner: grow()
  // REQUIRES: number < count().
  Goroutine* at(std::uint32_t number) const noexcept;
  // The stamp of the group that number is in (K4). Written by births and by scans, with the epoch of the moment only.
  // REQUIRES: number < count().
  std::atomic<std::uint32_t>& group_epoch(std::uint32_t number) const noexcept;

 private:
  static constexpr std::uint32_t kSlabGs = 1024, kMaxSlabs = 65536;
  static constexpr std::size_t kSlabBytes =
      kSlabGs * sizeof(Goroutine) + kSlabGs / kSlotsAGroup * sizeof(std::uint32_t);
  Mutex lock_;  // guards growth
  std::atomic<std::uint32_t> count_{0};
  std::unique_ptr<std::atomic<std::uintptr_t>[]> slabs_ = std::make_unique<std::atomic<std::uintptr_t>[]>(kMaxSlabs);
};

class Stacks {
 public:
  enum class Guard : std::uint8_t { kInstall, kMprotect, kNone };
  Stacks(std::size_t stack_bytes, bool colour, Guard guard)
      : stack_bytes_(stack_bytes), colour_(colour), guard_(guard) {}
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  // Puts stacks into an empty cache: from the pool, or new ones (at least one). An Error when address space or guards
  // run out. Any thread that owns the cache.
  Status refill(StackCache& cache);
  // Takes the older half of a full cache, or all of it, into the pool.
  void take_back(StackCache& cache, bool all);
  // Gives pages back to the kernel: of pooled stacks that nobody has used since the last round, at most `most` of them a
  // call, so that it may run beside goroutines. How many that were; 0 ends a round and begins the next. Any thread.
  std::uint32_t release_idle(std::uint32_t most);

  std::uint32_t made() const noexcept { return made_.load(std::memory_order_relaxed); }
  std::size_t stack_bytes() const noexcept { return stack_bytes_; }
  Guard guard() const noexcept { return guard_; }
  // Whether the address lies in the guard page of g's stack. For the fault handler: async-signal-safe.
  static bool in_guard(const Goroutine& g, std::uintptr_t address) noexcept {
    return g.stack_hi != 0 && g.stack_lo - address - 1 < os::kPageBytes;
  }

 private:
  static constexpr std::uint32_t kSlabStacks = 1024, kMaxStacks = 1u << 26;
  Status make(std::uint32_t want, StackCache& out);  // lock_ held

  const std::size_t stack_bytes_;
  const bool colour_;
  const Guard guard_;
  Mutex lock_;  // guards what follows
  std::atomic<std::uint32_t> made_{0};
  std::vector<std::uintptr_t> slabs_;
  std::deque<Stack> pool_;     // taken from the back: what is used least lies at the front
  std::vector<Stack> clean_;   // have no pages; taken when the pool is empty
  std::size_t low_water_ = 0;  // so many at the pool's front have not been used since the last round of release_idle()
};

}  // namespace gearbox
