// make<T>() and friends: the inline allocation path.
//
// Taking a cell is a count of trailing zeros over one word of the P's window; no call, no atomic, no safepoint. Between
// taking the cell and the end of the constructor there is no safepoint either, unless the constructor itself allocates
// or parks, so nobody sees a half-made object that is not on this stack. Everything else (refill, accounting, trigger,
// assists, out of memory) is in allocate_slow().
#pragma once

#include <cstring>
#include <new>
#include <span>
#include <utility>

#include "interfaces/heap.h"
#include "interfaces/restart.h"
#include "runtime/count.h"
#include "runtime/rooted.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace detail {

// COLD sides, heap.cc. All may collect, park, and come back on another P. They end the process with "out of memory"
// rather than return null.
void* allocate_slow(std::uint32_t window, const TypeDesc* type, std::size_t bytes);
void* allocate_with_header(const TypeDesc* type, std::size_t bytes);
void* allocate_large(const TypeDesc* type, std::size_t bytes);
std::uint32_t give_window(const TypeDesc& type);  // the type's first allocation
[[noreturn]] void array_too_long(Count count, std::size_t element_bytes);

// The first free cell of a window of the current P; null when there is none. HOT.
// The look at the P and the change of its window are one restartable sequence (interfaces/restart.h): the change is the
// last instruction, and the cell's address is in a register before it, where a collector finds it.
struct Taken {
  void* at;
  std::uint32_t needs_zero;
};
[[gnu::always_inline]] inline Taken take_from_window(std::uint32_t window) noexcept {
#if defined(__SANITIZE_THREAD__)
  const Inside inside;  // TSan sees no change that is made in assembly
  Window& w = current_p()->cache.windows[window];
  if (w.free == 0) return {nullptr, 0};
  const int cell = __builtin_ctzll(w.free);
  w.free &= w.free - 1;
  return {reinterpret_cast<void*>(w.base + static_cast<std::size_t>(cell) * w.stride), w.needs_zero};
#else
  static_assert(sizeof(Window) == 24);
  std::uintptr_t w, at, free, rest;
  std::uint32_t needs_zero;
  asm volatile(
      GEARBOX_RESTART_BEGIN
      "movq %%fs:gearbox_current@tpoff+16, %[w]\n\t"
      "leaq %c[windows](%[w], %[offset]), %[w]\n\t"
      "xorl %k[at], %k[at]\n\t"
      "movq %c[w_free](%[w]), %[free]\n\t"
      "testq %[free], %[free]\n\t"
      "je 8883f\n\t"
      "bsfq %[free], %[at]\n\t"
      "movl %c[w_stride](%[w]), %k[rest]\n\t"
      "movl %c[w_needs_zero](%[w]), %[needs_zero]\n\t"
      "imulq %[rest], %[at]\n\t"
      "leaq -1(%[free]), %[rest]\n\t"
      "addq %c[w_base](%[w]), %[at]\n\t"
      "andq %[free], %[rest]\n\t"
      "movq %[rest], %c[w_free](%[w])\n\t" GEARBOX_RESTART_END "8883:\n\t"
      : [w] "=&r"(w), [at] "=&r"(at), [free] "=&r"(free), [rest] "=&r"(rest), [needs_zero] "=&r"(needs_zero)
      : [offset] "r"(static_cast<std::size_t>(window) * sizeof(Window)),
        [windows] "i"(__builtin_offsetof(P, cache) + __builtin_offsetof(AllocCache, windows)),
        [w_free] "i"(__builtin_offsetof(Window, free)), [w_base] "i"(__builtin_offsetof(Window, base)),
        [w_stride] "i"(__builtin_offsetof(Window, stride)), [w_needs_zero] "i"(__builtin_offsetof(Window, needs_zero))
      : "memory", "cc");
  return {reinterpret_cast<void*>(at), needs_zero};
#endif
}

// bytes: payload, at most kMaxSmallBytes. window: a noscan or typed one. HOT.
[[gnu::always_inline]] inline void* take_cell(std::uint32_t window, const TypeDesc* type, std::size_t bytes) {
  const Taken taken = take_from_window(window);
  if (taken.at != nullptr) [[likely]] {
    if (taken.needs_zero != 0) std::memset(taken.at, 0, bytes);
    return taken.at;
  }
  return allocate_slow(window, type, bytes);
}

// Up to 8 bytes without references: two to a 16-byte cell, which lives as long as either (Go's tiny allocator). HOT.
[[gnu::always_inline]] inline void* take_tiny() {
  const Inside inside;
  AllocCache& cache = current_p()->cache;
  if (cache.tiny_left != 0) {
    cache.tiny_left = 0;
    return reinterpret_cast<void*>(cache.tiny);
  }
  void* cell = take_cell(kNoscanWindow, nullptr, 16);
  AllocCache& now = current_p()->cache;  // the refill may have moved this goroutine to another P
  now.tiny = reinterpret_cast<std::uintptr_t>(cell) + 8;
  now.tiny_left = 8;
  return cell;
}

// In `checked` builds, lets the Refs under construction check that their type names them.
class MakingScope {
 public:
#if defined(GEARBOX_CHECKED)
  MakingScope(const void* object, const TypeDesc* type)
      : outer_(current_g()->making), outer_type_(current_g()->making_type) {
    current_g()->making = object;
    current_g()->making_type = type;
  }
  ~MakingScope() {
    current_g()->making = outer_;
    current_g()->making_type = outer_type_;
  }

 private:
  const void* outer_;
  const void* outer_type_;
#else
  MakingScope(const void*, const TypeDesc*) {}
#endif
};

}  // namespace detail

// A new T on the collected heap. The result lives as long as it is reachable: from a goroutine's stack, a Ref in a
// reachable object, a Root, a channel. On a goroutine.
template <HeapType T, class... Arguments>
[[nodiscard]] T* make(Arguments&&... arguments) {
  void* at;
  const TypeDesc* const type = &kTypeDesc<T>;
  if constexpr (sizeof(T) > kMaxSmallBytes) {
    at = detail::allocate_large(kHasRefs<T> ? type : nullptr, sizeof(T));
  } else if constexpr (!kHasRefs<T> && sizeof(T) <= 8) {
    at = detail::take_tiny();
  } else if constexpr (!kHasRefs<T>) {
    at = detail::take_cell(kNoscanWindow + size_class_of(sizeof(T)), nullptr, sizeof(T));
  } else {
    std::uint32_t window = type->window.load(std::memory_order_relaxed);
    if (window == 0) [[unlikely]]
      window = detail::give_window(*type);
    at = window >= kTypedWindow ? detail::take_cell(window, type, sizeof(T))
                                : detail::allocate_with_header(type, sizeof(T));
  }
  detail::MakingScope making(at, type);
  return new (at) T(std::forward<Arguments>(arguments)...);
}

// A row of `count` zeroed Ts, like Go's make([]T, n). References are null; no constructor runs. One byte more than
// needed is allocated, so that a pointer one past the end keeps the row alive. Panics as Go does when `wanted` is negative
// or the row would be longer than memory.
template <HeapType T>
[[nodiscard]] std::span<T> make_array(Count wanted) {
  if (!wanted.fits(sizeof(T))) [[unlikely]]
    detail::array_too_long(wanted, sizeof(T));
  const std::size_t count = wanted.value();
  const std::size_t bytes = count * sizeof(T) + (GEARBOX_MUTANT(kNoPad) ? 0 : 1);
  void* at;
  if constexpr (!kHasRefs<T>) {
    at = bytes <= 8                ? detail::take_tiny()
         : bytes <= kMaxSmallBytes ? detail::take_cell(kNoscanWindow + size_class_of(bytes), nullptr, bytes)
                                   : detail::allocate_large(nullptr, bytes);
  } else {
    at = bytes + sizeof(ObjectHeader) <= kMaxSmallBytes ? detail::allocate_with_header(&kArrayDesc<T>, bytes)
                                                        : detail::allocate_large(&kArrayDesc<T>, bytes);
  }
  return {static_cast<T*>(at), count};
}

// Zeroed memory without references.
[[nodiscard]] inline char* make_bytes(Count count) { return make_array<char>(count).data(); }

// ---- the exported package's memory side

// A full collection; returns when everything unreachable at the call has been taken back.
void gc();
struct MemStats {
  std::uint64_t heap_live = 0;        // bytes marked by the last collection plus handed out since
  std::uint64_t heap_in_use = 0;      // bytes of pages that hold objects
  std::uint64_t total_allocated = 0;  // bytes handed out so far; never falls
  std::uint64_t cycles = 0;
  std::uint64_t freed_objects = 0;
  std::uint64_t pause_total_ns = 0, pauses = 0;
  // Objects that have died and whose finalizer has not returned. One that grows: a finalizer blocks, or has ended its
  // goroutine, or they die faster than one goroutine can bury them.
  std::uint64_t finalizers_waiting = 0;
};
MemStats read_mem_stats();  // stops the world for a moment, as Go's does

// f(object) is called once, after object has become unreachable; what object refers to stays alive until then. So does
// what f captures, plain pointers included (runtime/rooted.h); as in Go, an f that captures the object itself keeps it
// for ever. Replaces an earlier one; nullptr removes it. REQUIRES: object came from make<T>.
// As in Go, one goroutine calls all finalizers of the program, one after the other: an f that blocks or calls goexit()
// silences the others for good (MemStats::finalizers_waiting shows it). Let f start a goroutine for what takes long.
void set_finalizer_erased(void* object, RootedCall<void*> f);
template <class T, class F>
void set_finalizer(T* object, F f) {
  set_finalizer_erased(object, RootedCall<void*>([f = std::move(f)](void* p) mutable { f(static_cast<T*>(p)); }));
}
template <class T>
void set_finalizer(T* object, std::nullptr_t) {
  set_finalizer_erased(object, {});
}

// Shades the words of a value that is copied from stack to stack or into a place scanned once. HOT when the world is
// not marking: one load.
inline void shade_if_marking(const void* first, std::size_t bytes) noexcept {
  P* p = current_p();
  if (p->marking) [[unlikely]]
    p->collector->shade_words(*p, static_cast<const std::uintptr_t*>(first), bytes / sizeof(std::uintptr_t));
}
// Types whose values cannot hold a reference.
template <class T>
inline constexpr bool kMayRefer =
    !(std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_empty_v<T>)&&sizeof(T) >= sizeof(void*);

}  // namespace gearbox
