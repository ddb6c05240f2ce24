// Stacks: where goroutines live.
//
// Slabs of address space are cut into equal slots, one goroutine each. From low to high a slot is: guard page, stack
// (grows down), the goroutine's closure, and the G itself, offset by a colour so that the Gs and first frames of
// neighbouring slots do not share one cache set. Only touched pages are resident: a parked goroutine with a shallow
// stack costs one page. Slots are never unmapped while the runtime lives, so a stale G* is safe to read, and the
// collector can walk all goroutines by slot number.
//
// The guard is MADV_GUARD_INSTALL where the kernel has it (no mapping is split: a million stacks in a handful of
// mappings); mprotect otherwise, which ends near vm.max_map_count / 2 stacks, and then creation fails with an error
// that says so.
//
// Invariants.  K1  slot numbers are dense: every slot below count() has an initialised G.
//              K2  a slab's address is published (release) before any of its slots is counted.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/lock.h"
#include "base/os/memory.h"
#include "base/result.h"
#include "interfaces/goroutine.h"
#include "runtime/context.h"

namespace gearbox {

// A G with what only the runtime needs beside it.
struct Goroutine : G {
  StackIdentity identity;
  std::uintptr_t slot_base = 0;   // low end of the slot: the guard page
  std::uintptr_t syscall_sp = 0;  // while kSyscall: everything live is at or above it (blocking.h)
};

class Stacks {
 public:
  enum class Guard : std::uint8_t { kInstall, kMprotect, kNone };
  Stacks(std::size_t stack_bytes, bool colour, Guard guard)
      : stack_bytes_(stack_bytes), colour_(colour), guard_(guard) {}
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  // Makes up to `want` new Gs (at least one), appended to `out`. An Error when address space or guards run out. Any
  // thread.
  Status grow(std::uint32_t want, GList& out);
  std::uint32_t count() const noexcept { return count_.load(std::memory_order_acquire); }  // partner: grow()
  // REQUIRES: slot < count().
  Goroutine* at(std::uint32_t slot) const noexcept;
  // The G whose slot holds the address in its guard page, or null. For the fault handler: async-signal-safe.
  Goroutine* guard_hit(std::uintptr_t address) const noexcept;
  // The G whose slot holds the address anywhere, or null.
  Goroutine* owner_of(std::uintptr_t address) const noexcept;
  std::size_t stack_bytes() const noexcept { return stack_bytes_; }
  Guard guard() const noexcept { return guard_; }

 private:
  static constexpr std::uint32_t kSlabSlots = 1024, kMaxSlabs = 65536;
  Goroutine* place(std::uint32_t slot) const noexcept;

  const std::size_t stack_bytes_;
  const bool colour_;
  const Guard guard_;
  SpinLock lock_;  // guards growth
  std::atomic<std::uint32_t> count_{0};
  std::unique_ptr<std::atomic<std::uintptr_t>[]> slabs_ = std::make_unique<std::atomic<std::uintptr_t>[]>(kMaxSlabs);
};

}  // namespace gearbox
