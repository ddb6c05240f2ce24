#include "runtime/stacks.h"

#include <algorithm>
#include <new>

namespace gearbox {

namespace {
constexpr std::size_t kGuardBytes = os::kPageBytes;
constexpr std::uint32_t kColours = 16;
constexpr std::uint32_t kBatch = 64;
}  // namespace

Stacks::~Stacks() {
  for (std::uint32_t i = 0; i < count(); ++i) {
    Goroutine* g = at(i);
#if GEARBOX_TSAN
    if (g->identity.tsan_fiber != nullptr) __tsan_destroy_fiber(g->identity.tsan_fiber);
#endif
    g->~Goroutine();
  }
  for (std::uint32_t i = 0; i < kMaxSlabs; ++i) {
    const std::uintptr_t slab = slabs_[i].load(std::memory_order_relaxed);
    if (slab == 0) break;
    os::release(reinterpret_cast<void*>(slab), stack_bytes_ * kSlabSlots);
  }
}

Goroutine* Stacks::place(std::uint32_t slot) const noexcept {
  const std::uintptr_t slab = slabs_[slot / kSlabSlots].load(std::memory_order_acquire);
  const std::uintptr_t top = slab + (slot % kSlabSlots + 1) * stack_bytes_;
  const std::size_t colour = colour_ ? (slot * 7 % kColours) * 64 : 0;  // 7: neighbours get far-apart colours
  return reinterpret_cast<Goroutine*>((top - sizeof(Goroutine) - colour) & ~std::uintptr_t{63});
}

Goroutine* Stacks::at(std::uint32_t slot) const noexcept { return place(slot); }

Status Stacks::grow(std::uint32_t want, GList& out) {
  gearbox::Guard<SpinLock> hold(lock_);
  const std::uint32_t first = count_.load(std::memory_order_relaxed);
  const std::uint32_t slab = first / kSlabSlots;
  if (slab >= kMaxSlabs)
    return Error{fmt::format("too many goroutines: {} stacks are the limit", kMaxSlabs * kSlabSlots)};
  if (slabs_[slab].load(std::memory_order_relaxed) == 0) {
    auto memory = os::reserve(stack_bytes_ * kSlabSlots, 0, os::kPageBytes);
    if (!memory)
      return Error{"no address space for more goroutine stacks: " + memory.error().message,
                   memory.error().error_number};
    slabs_[slab].store(reinterpret_cast<std::uintptr_t>(*memory), std::memory_order_release);  // partner: place()
  }
  const std::uint32_t n = std::min({std::max(want, 1u), kSlabSlots - first % kSlabSlots, kBatch});
  const std::uintptr_t base = slabs_[slab].load(std::memory_order_relaxed) + (first % kSlabSlots) * stack_bytes_;
  if (guard_ != Guard::kNone) {
    void* guards[kBatch];
    for (std::uint32_t i = 0; i < n; ++i) guards[i] = reinterpret_cast<void*>(base + i * stack_bytes_);
    int error = 0;
    if (guard_ == Guard::kInstall) {
      error = os::install_guards(guards, n, kGuardBytes);
    } else {
      for (std::uint32_t i = 0; i < n && error == 0; ++i)
        error = os::install_guard(guards[i], kGuardBytes, os::GuardKind::kMprotect);
    }
    if (error != 0) {
      Error e = os_error("guard page of a goroutine stack", error);
      if (guard_ == Guard::kMprotect && error == ENOMEM)
        e.message += fmt::format(
            "; mprotect guards need a mapping each and end near vm.max_map_count / 2 (now {} stacks); a kernel from "
            "6.13 on "
            "needs none (guard=install)",
            first);
      return e;
    }
  }
  for (std::uint32_t i = 0; i < n; ++i) {
    auto* g = new (place(first + i)) Goroutine();
    g->slot = first + i;
    g->slot_base = base + i * stack_bytes_;
    g->stack_lo = g->slot_base + kGuardBytes;
    g->stack_hi = reinterpret_cast<std::uintptr_t>(g);
    g->identity.asan_bottom = reinterpret_cast<const void*>(g->stack_lo);
    g->identity.asan_bytes = g->stack_hi - g->stack_lo;
    out.push_back(g);
  }
  count_.store(first + n, std::memory_order_release);  // partner: count()
  return Ok{};
}

Goroutine* Stacks::owner_of(std::uintptr_t address) const noexcept {
  for (std::uint32_t i = 0; i < kMaxSlabs; ++i) {
    const std::uintptr_t slab = slabs_[i].load(std::memory_order_acquire);
    if (slab == 0) return nullptr;
    if (address - slab >= stack_bytes_ * kSlabSlots) continue;
    const auto slot = static_cast<std::uint32_t>(i * kSlabSlots + (address - slab) / stack_bytes_);
    return slot < count() ? at(slot) : nullptr;
  }
  return nullptr;
}

Goroutine* Stacks::guard_hit(std::uintptr_t address) const noexcept {
  Goroutine* g = owner_of(address);
  return g != nullptr && address - g->slot_base < kGuardBytes ? g : nullptr;
}

}  // namespace gearbox
