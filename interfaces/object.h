// Heap objects: type descriptors, Ref<T>, and the write barrier.
//
// Where a reference may live is a rule that types keep, since a missed root is a use after free:
//   T*       plain pointers, only on goroutine stacks (found conservatively)
//   Ref<T>   only inside heap objects (found through the type descriptor)
//   Root<T>  anywhere else (runtime/root.h)
// A plain pointer is touched by its own goroutine only. Its stack is scanned once a cycle, without a barrier: when G2,
// through a captured reference, reads a pointer on G1's stack and overwrites it, the object may be on neither stack at
// the time that stack is scanned, and is freed while G2 uses it. References that goroutines share are in a Root, a Ref
// or a Chan, whose changes are seen.
// Closures that the runtime keeps (go, defer, set_finalizer, after_func) may capture plain pointers by value: they are
// scanned where they lie. What a closure itself keeps in malloc memory, such as a std::function inside it, is not.
//
// A type says where its Refs are with GEARBOX_REFS(Type, field...), or that it has none with GEARBOX_NO_REFS(Type),
// inside its definition. A class that says nothing is refused at compile time; in `checked` builds a Ref that is
// constructed in an object whose type did not name it is a broken contract, and so is one outside the heap.
//
// The barrier is the hybrid one (Yuasa's deletion half and Dijkstra's insertion half; Go proposal 17503): while the P's
// `marking` flag is up, the old and the new value go into the P's buffer BEFORE the store, with no safepoint in
// between; a full buffer is given to the collector.
//
// Memory order of a slot: mutator stores release, collector loads acquire, mutator loads relaxed. All are plain moves
// on x86; release and acquire carry the contents of a newly published object to the marker.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "base/check.h"
#include "interfaces/current.h"
#include "interfaces/mutant.h"
#include "interfaces/processor.h"
#include "interfaces/restart.h"

namespace gearbox {

template <class T>
class Ref;

// The layout of one element, for the marker. Static, immutable after its first use; one per type.
struct TypeDesc {
  const char* name = "";
  std::uint32_t bytes = 0;                     // sizeof one element
  std::uint32_t ref_count = 0;                 // Refs in one element; 0: never scanned
  const std::uint32_t* ref_offsets = nullptr;  // byte offsets of the Refs, ascending
  bool array = false;  // the object is a row of elements up to the end of its cell (the rest of a cell is zero)
  // The window of the allocation caches that serves this type (interfaces/processor.h), given out on first use: 0 = not
  // yet.
  mutable std::atomic<std::uint32_t> window{0};
};

namespace detail {

inline constexpr std::size_t kMaxRefs = 256;
struct RefOffsets {
  std::array<std::uint32_t, kMaxRefs> at{};
  std::uint32_t count = 0;
  constexpr void add(std::size_t offset) { at[count++] = static_cast<std::uint32_t>(offset); }
};
template <class T>
struct IsRef : std::false_type {};
template <class T>
struct IsRef<Ref<T>> : std::true_type {};

template <class T>
concept SaysItsRefs = requires {
  typename T::GearboxRefsDeclared;
};

// Adds the offsets of every Ref in a member of type T at `offset`: a Ref, an array of such, or a nested type that says
// its own.
template <class T>
constexpr void collect_refs(std::size_t offset, RefOffsets& out) {
  if constexpr (IsRef<T>::value) {
    out.add(offset);
  } else if constexpr (std::is_array_v<T>) {
    using Element = std::remove_extent_t<T>;
    for (std::size_t i = 0; i < std::extent_v<T>; ++i) collect_refs<Element>(offset + i * sizeof(Element), out);
  } else if constexpr (SaysItsRefs<T>) {
    T::gearbox_collect_refs(offset, out);
  } else {
    static_assert(std::is_scalar_v<T> && !std::is_pointer_v<T>, "a field named in GEARBOX_REFS holds no Ref");
  }
}
}  // namespace detail

#define GEARBOX_PARENS ()
#define GEARBOX_EXPAND(...) GEARBOX_EXPAND3(GEARBOX_EXPAND3(GEARBOX_EXPAND3(__VA_ARGS__)))
#define GEARBOX_EXPAND3(...) GEARBOX_EXPAND2(GEARBOX_EXPAND2(GEARBOX_EXPAND2(__VA_ARGS__)))
#define GEARBOX_EXPAND2(...) GEARBOX_EXPAND1(GEARBOX_EXPAND1(__VA_ARGS__))
#define GEARBOX_EXPAND1(...) __VA_ARGS__
#define GEARBOX_COLLECT_REFS(Type, ...) __VA_OPT__(GEARBOX_EXPAND(GEARBOX_COLLECT_NEXT(Type, __VA_ARGS__)))
#define GEARBOX_COLLECT_NEXT(Type, field, ...)                                                                         \
  ::gearbox::detail::collect_refs<decltype(Type::field)>(gearbox_base + __builtin_offsetof(Type, field), gearbox_out); \
  __VA_OPT__(GEARBOX_COLLECT_AGAIN GEARBOX_PARENS(Type, __VA_ARGS__))
#define GEARBOX_COLLECT_AGAIN() GEARBOX_COLLECT_NEXT

// Inside a type, after its fields: names every field that is or holds a Ref.
#define GEARBOX_REFS(Type, ...)                                                                                      \
  using GearboxRefsDeclared = void;                                                                                  \
  static constexpr void gearbox_collect_refs(std::size_t gearbox_base, ::gearbox::detail::RefOffsets& gearbox_out) { \
    GEARBOX_COLLECT_REFS(Type, __VA_ARGS__)                                                                          \
  }
// Inside a type: it holds no Ref.
#define GEARBOX_NO_REFS(Type)       \
  using GearboxRefsDeclared = void; \
  static constexpr void gearbox_collect_refs(std::size_t, ::gearbox::detail::RefOffsets&) {}

// What may live on the collected heap: it is destroyed without notice, so its destructor must be trivial (use a
// finalizer for the rest).
template <class T>
concept HeapType = std::is_trivially_destructible_v<T> && alignof(T) <= 16 &&
                   (std::is_arithmetic_v<T> || std::is_enum_v<T> || detail::IsRef<T>::value || detail::SaysItsRefs<T>);

namespace detail {
template <class T>
constexpr RefOffsets offsets_of() {
  RefOffsets out;
  if constexpr (!std::is_arithmetic_v<T> && !std::is_enum_v<T>) collect_refs<T>(0, out);
  return out;
}
template <class T>
struct RefTable {
  static constexpr RefOffsets kOffsets = offsets_of<T>();
};
template <class T>
constexpr const char* type_name() {
  return __PRETTY_FUNCTION__;
}
}  // namespace detail

template <class T>
inline constexpr bool kHasRefs = detail::RefTable<T>::kOffsets.count > 0;

// The descriptor of a single T, and of an array of T.
template <HeapType T>
inline const TypeDesc kTypeDesc{detail::type_name<T>(), sizeof(T), detail::RefTable<T>::kOffsets.count,
                                detail::RefTable<T>::kOffsets.at.data(), false};
template <HeapType T>
inline const TypeDesc kArrayDesc{detail::type_name<T>(), sizeof(T), detail::RefTable<T>::kOffsets.count,
                                 detail::RefTable<T>::kOffsets.at.data(), true};

// COLD side of the barrier: the P's buffer is full. Defined in interfaces/current.cc; hands it to the collector of the
// P's runtime.
void write_barrier_full(P& p) noexcept;

// HOT. Must run before every change of a slot that the collector may look at, while p.marking. No safepoint between
// this and the store.
inline void write_barrier(P& p, std::uintptr_t old_value, std::uintptr_t new_value) noexcept {
  WriteBuffer& buffer = p.write_buffer;
  // Entries are raw words; null and non-heap words are dropped at the flush, which looks at each anyway.
  if (!GEARBOX_MUTANT(kDropDeletionBarrier)) buffer.entries[buffer.count++] = old_value;
  buffer.entries[buffer.count++] = new_value;
  if (buffer.count >= buffer.limit) [[unlikely]]
    write_barrier_full(p);
}

namespace detail {

// Stores value into slot, unless the current P is marking: then calls marking(value), which does. HOT.
// Between the look and the store no mark may begin and the P may not change, or the old value would miss the barrier. The
// look and the store are one restartable sequence (interfaces/restart.h), whose last instruction is the store.
template <class T, class F>
[[gnu::always_inline]] inline void store_unless_marking(std::atomic<T*>* slot, T* value, F&& marking) noexcept {
#if defined(__SANITIZE_THREAD__)
  const Inside inside;  // TSan sees no store that is made in assembly
  if (current_p()->marking) [[unlikely]]
    return marking(value);
  slot->store(value, std::memory_order_release);
#else
  asm goto(GEARBOX_RESTART_BEGIN
           "movq %%fs:gearbox_current@tpoff+16, %%rax\n\t"
           "cmpb $0, %c[marking](%%rax)\n\t"
           "jne %l[is_marking]\n\t"
           "movq %[value], (%[slot])\n\t" GEARBOX_RESTART_END
           :
           : [slot] "r"(slot), [value] "r"(value), [marking] "i"(__builtin_offsetof(P, marking))
           : "rax", "memory", "cc"
           : is_marking);
  return;
is_marking:
  marking(value);
#endif
}

}  // namespace detail

#if defined(GEARBOX_CHECKED)
void check_ref_place(const void* slot) noexcept;  // dies unless slot lies on the collected heap of the current runtime
void check_ref_constructed(
    const void* slot) noexcept;  // dies if slot lies in the object being made, at an offset its type did not name
#endif

// A reference held by a heap object. Word-sized; copying it copies the reference through the barrier.
template <class T>
class Ref {
 public:
  constexpr Ref() noexcept { constructed(); }
  Ref(std::nullptr_t) noexcept { constructed(); }  // NOLINT: a Ref is used like a pointer
  // Initialising stores need the insertion half: the new object may be black, the value's only other holder a stack
  // that dies.
  Ref(T* value) noexcept {  // NOLINT
    constructed();
    store(value);
  }
  Ref(const Ref& other) noexcept {
    constructed();
    store(other.load());
  }
  Ref& operator=(const Ref& other) noexcept {
    store(other.load());
    return *this;
  }
  Ref& operator=(T* value) noexcept {
    store(value);
    return *this;
  }
  Ref& operator=(std::nullptr_t) noexcept {
    store(nullptr);
    return *this;
  }

  T* load() const noexcept { return slot_.load(std::memory_order_relaxed); }
  void store(T* value) noexcept {
    if (GEARBOX_MUTANT(kStoreBeforeBarrier)) slot_.store(value, std::memory_order_release);
#if defined(GEARBOX_CHECKED)
    check_ref_place(this);
#endif
    // partner: the marker's acquire load
    detail::store_unless_marking(&slot_, value, [this](T* changed) { store_marking(changed); });
  }
  // Both values go through the barrier before the attempt, whether or not it succeeds.
  bool compare_exchange(T*& expected, T* desired) noexcept {
    const Inside inside;
    before_change(desired);
    return slot_.compare_exchange_strong(expected, desired, std::memory_order_acq_rel, std::memory_order_acquire);
  }
  T* exchange(T* value) noexcept {
    const Inside inside;
    before_change(value);
    return slot_.exchange(value, std::memory_order_acq_rel);
  }
  operator T*() const noexcept { return load(); }  // NOLINT
  T* operator->() const noexcept { return load(); }
  T& operator*() const noexcept { return *load(); }
  explicit operator bool() const noexcept { return load() != nullptr; }

 private:
  [[gnu::noinline, gnu::cold]] void store_marking(T* value) noexcept {
    const Inside inside;
    before_change(value);
    slot_.store(value, std::memory_order_release);
  }
  void before_change(T* value) noexcept {
#if defined(GEARBOX_CHECKED)
    check_ref_place(this);
#endif
    P* p = current_p();
    if (p->marking) [[unlikely]]
      write_barrier(*p, reinterpret_cast<std::uintptr_t>(slot_.load(std::memory_order_relaxed)),
                    reinterpret_cast<std::uintptr_t>(value));
  }
  constexpr void constructed() noexcept {
#if defined(GEARBOX_CHECKED)
    if (!std::is_constant_evaluated()) check_ref_constructed(this);
#endif
  }
  std::atomic<T*> slot_{nullptr};
};

// Keeps p alive (and in a register or on the stack) up to here, whatever the optimiser made of it.
inline void keep_alive(const void* p) noexcept { asm volatile("" : : "r,m"(p) : "memory"); }

}  // namespace gearbox
