#include "runtime/stacks.h"

#include <algorithm>
#include <new>

namespace gearbox {

namespace {
constexpr std::size_t kGuardBytes = os::kPageBytes;
constexpr std::uint32_t kColours = 16;
constexpr std::uint32_t kBatch = 32;
static_assert(kBatch <= StackCache::kMost);
}  // namespace

// ---- Gs

GoroutineTable::~GoroutineTable() {
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
    os::release(reinterpret_cast<void*>(slab), kSlabBytes);
  }
}

Goroutine* GoroutineTable::at(std::uint32_t number) const noexcept {
  return reinterpret_cast<Goroutine*>(slabs_[number / kSlabGs].load(std::memory_order_acquire)) + number % kSlabGs;
}

std::atomic<std::uint32_t>& GoroutineTable::group_epoch(std::uint32_t number) const noexcept {
  const std::uintptr_t slab = slabs_[number / kSlabGs].load(std::memory_order_acquire);
  return reinterpret_cast<std::atomic<std::uint32_t>*>(
      slab + kSlabGs * sizeof(Goroutine))[number % kSlabGs / kSlotsAGroup];  // the kernel's zeroes: epoch 0
}

Status GoroutineTable::grow(std::uint32_t want, GList& out) {
  Guard<Mutex> hold(lock_);
  const std::uint32_t first = count_.load(std::memory_order_relaxed);
  const std::uint32_t slab = first / kSlabGs;
  if (slab >= kMaxSlabs) return Error{fmt::format("too many goroutines: {} are the limit", kMaxSlabs * kSlabGs)};
  if (slabs_[slab].load(std::memory_order_relaxed) == 0) {
    auto memory = os::reserve(kSlabBytes, 0, os::kPageBytes);
    if (!memory) return Error{"no memory for more goroutines: " + memory.error().message, memory.error().error_number};
    slabs_[slab].store(reinterpret_cast<std::uintptr_t>(*memory), std::memory_order_release);  // partner: at()
  }
  const std::uint32_t n = std::min(std::max(want, 1u), kSlabGs - first % kSlabGs);
  for (std::uint32_t i = 0; i < n; ++i) {
    auto* g = new (at(first + i)) Goroutine();
    g->slot = first + i;
    out.push_back(g);
  }
  count_.store(first + n, std::memory_order_release);  // partner: count()
  return Ok{};
}

// ---- stacks

Stacks::~Stacks() {
  for (const std::uintptr_t slab : slabs_) {
#if GEARBOX_ASAN
    // Goroutines that have not ended leave the marks of their frames, which would outlive the mapping: the next runtime's
    // heap may lie here.
    __asan_unpoison_memory_region(reinterpret_cast<void*>(slab), stack_bytes_ * kSlabStacks);
#endif
    os::release(reinterpret_cast<void*>(slab), stack_bytes_ * kSlabStacks);
  }
}

Status Stacks::refill(StackCache& cache) {
  gearbox::Guard<Mutex> hold(lock_);
  for (; cache.count < kBatch && !pool_.empty(); pool_.pop_back()) cache.stacks[cache.count++] = pool_.back();
  low_water_ = std::min(low_water_, pool_.size());
  for (; cache.count < kBatch && !clean_.empty(); clean_.pop_back()) cache.stacks[cache.count++] = clean_.back();
  return cache.count != 0 ? Status(Ok{}) : make(kBatch, cache);
}

void Stacks::take_back(StackCache& cache, bool all) {
  const std::uint32_t n = all ? cache.count : StackCache::kMost / 2;
  {
    gearbox::Guard<Mutex> hold(lock_);
    pool_.insert(pool_.end(), cache.stacks.begin(), cache.stacks.begin() + n);
  }
  std::copy(cache.stacks.begin() + n, cache.stacks.begin() + cache.count, cache.stacks.begin());
  cache.count -= n;
}

std::uint32_t Stacks::release_idle(std::uint32_t most) {
  std::vector<Stack> idle;
  {
    gearbox::Guard<Mutex> hold(lock_);
    const std::size_t n = std::min<std::size_t>(most, low_water_);
    if (n == 0) {
      low_water_ = pool_.size();
      return 0;
    }
    const auto end = pool_.begin() + static_cast<std::ptrdiff_t>(n);
    idle.assign(pool_.begin(), end);  // nobody's while their pages go
    pool_.erase(pool_.begin(), end);
    low_water_ -= n;
  }
  for (const Stack& each : idle) {
    const std::uintptr_t end = (each.hi + os::kPageBytes - 1) & ~(os::kPageBytes - 1);
    os::discard(reinterpret_cast<void*>(each.lo), end - each.lo);
  }
  gearbox::Guard<Mutex> hold(lock_);
  clean_.insert(clean_.end(), idle.begin(), idle.end());
  return static_cast<std::uint32_t>(idle.size());
}

Status Stacks::make(std::uint32_t want, StackCache& out) {
  const std::uint32_t first = made_.load(std::memory_order_relaxed);
  if (first >= kMaxStacks) return Error{fmt::format("too many goroutine stacks: {} are the limit", kMaxStacks)};
  if (first / kSlabStacks == slabs_.size()) {
    auto memory = os::reserve(stack_bytes_ * kSlabStacks, 0, os::kPageBytes);
    if (!memory)
      return Error{"no address space for more goroutine stacks: " + memory.error().message,
                   memory.error().error_number};
    slabs_.push_back(reinterpret_cast<std::uintptr_t>(*memory));
  }
  const std::uint32_t n = std::min(want, kSlabStacks - first % kSlabStacks);
  const std::uintptr_t base = slabs_.back() + (first % kSlabStacks) * stack_bytes_;
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
            "6.13 on needs none (guard=install)",
            first);
      return e;
    }
  }
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uintptr_t slot = base + i * stack_bytes_;
    const std::size_t colour = colour_ ? ((first + i) * 7 % kColours) * 64 : 0;  // 7: neighbours get far-apart colours
    out.stacks[out.count++] = {slot + kGuardBytes, slot + stack_bytes_ - colour};
  }
  made_.store(first + n, std::memory_order_relaxed);
  return Ok{};
}

}  // namespace gearbox
