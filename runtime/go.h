// go(f): starts a goroutine. Also what the exported package says about goroutines.
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

#include "interfaces/mutant.h"
#include "runtime/heap.h"
#include "runtime/holds_refs.h"
#include "runtime/panic.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace detail {

// Puts the closure into the new goroutine (a large one into malloc memory that it owns), where the collector sees its
// words, and makes it runnable. Part of the function that says go(), whose line the creator's address then is.
template <class F>
[[gnu::always_inline]] inline void spawn(Runtime& runtime, F&& f, bool system) {
  using Closure = std::decay_t<F>;
  static_assert(!kHoldsRefs<Closure>,
                "only heap objects hold Refs: a goroutine's function captures a T*, or a Root<T>");
  const Inside inside;
  Goroutine* g = runtime.new_goroutine();
  constexpr bool kInside = sizeof(Closure) <= Goroutine::kClosureRoom && alignof(Closure) <= 16;
  constexpr std::align_val_t kAlign{alignof(Closure) < 16 ? 16 : alignof(Closure)};
  void* at = g->closure_room;
  if constexpr (!kInside) at = ::operator new(sizeof(Closure), kAlign);
  g->closure = new (at) Closure(std::forward<F>(f));
  if constexpr (sizeof(Closure) >= sizeof(void*)) g->closure_bytes = sizeof(Closure) & ~std::uint32_t{7};
  g->entry = [](void* closure) {
    struct Owner {
      Closure* f;
      ~Owner() {
        f->~Closure();
        current_goroutine()->closure_bytes = 0;
        if constexpr (!kInside) ::operator delete(f, kAlign);
      }
    } owner{static_cast<Closure*>(closure)};
    (*owner.f)();
  };
  g->system = system;
  asm("leaq 1f(%%rip), %0\n1:" : "=r"(g->creator_pc));
  if constexpr (sizeof(Closure) >= sizeof(void*)) {
    // The spawner's stack is black, but the new one was never scanned: what the closure carries over is shaded.
    if (current_p() != nullptr && !GEARBOX_MUTANT(kNoShadeGoArguments)) shade_if_marking(g->closure, g->closure_bytes);
  }
  runtime.start_goroutine(g, Why::kSpawned);
}

}  // namespace detail

// Runs f() on a new goroutine. f is moved to that goroutine's stack; plain pointers to heap objects may be captured by
// value. HOT. On a goroutine.
template <class F>
[[gnu::always_inline]] inline void go(F&& f) {
  detail::spawn(current_runtime(), std::forward<F>(f), false);
  safepoint_if_on_p();  // a loop that only starts goroutines must be stoppable
}

std::uint64_t num_goroutine();
// Sets how many goroutines run at the same time and returns the former number; as in Go, less than 1 only asks. Stops the
// world. More than 256, or than the scheduler runs, panics: Go has no such limit, and a measurement must not go on with
// another number than the program has asked for.
int gomaxprocs(std::int64_t n);
int num_cpu();
// Lets others run; with the scheduler's rule for a yielded goroutine.
inline void gosched() { current_runtime().gosched(Why::kYielded); }
// From here to unlock_os_thread() this goroutine runs on one thread only, and that thread runs nothing else.
// Not counted: one unlock ends it. With a poller whose lanes have owners it may be moved to a new thread first (S6 in
// runtime/blocking.cc).
void lock_os_thread();
void unlock_os_thread();
// A trace of this goroutine, as text for people.
std::string stack();
inline std::uint64_t goroutine_id() {
  safepoint_if_on_p();
  return current_g()->id;
}

}  // namespace gearbox

// A place in a loop that calls nothing of the runtime where this goroutine may be stopped or preempted. One load when
// nobody asks.
#define GEARBOX_SAFEPOINT() ::gearbox::safepoint()
