// panic, defer, recover, goexit: Go's, on C++ exceptions.
//
//     scope([&](Defer& defer) {
//       defer([&] { if (auto p = recover()) log(p->message); });
//       panic("boom");
//     });                                   // goes on here: the panic was recovered
//
// A panic unwinds the goroutine's stack. Each scope on the way runs its deferred functions, last in first out, on a
// stack where the panic is in flight; recover() inside one of them stops the unwinding at the end of that scope. A
// panic that nobody recovers prints Go's message with the trace of where it was raised, and ends the process with 2.
// goexit() unwinds the same way, runs the deferred functions, cannot be recovered, and ends the goroutine. A foreign C++
// exception runs the deferred functions of the scopes it passes and cannot be recovered either. Code that catches
// everything (`catch (...)`) must rethrow.
//
// What happens when a deferred function raises in turn is Go's: the latest counts, and
//     a panic    replaces a panic (both are printed if nobody recovers); over a goexit it unwinds as ever, but where it
//                is recovered the goexit goes on
//     goexit     ends a panic in flight: it cannot be recovered any more and does not end the process
//     a foreign exception replaces either, and is replaced by either
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/holds_refs.h"

namespace gearbox {

// What was raised. Thrown by panic(), and by the runtime for its own errors ("send on closed channel").
struct PanicValue {
  std::string message;
  bool runtime_error = false;
};

// The exception types of this surface. Catch neither by value.
struct PanicInFlight {
  PanicValue value;
  std::vector<std::string> earlier;  // panics that this one replaced, oldest first
  std::vector<void*> trace;          // return addresses where it was raised
  bool over_goexit = false;          // it was raised while a goexit passed, which goes on where this is recovered
  std::string signal;                // "[signal ...]\n" of a fault, printed behind the message
};
struct GoexitInFlight {
  std::vector<std::string> earlier;  // panics that it cut off, for the message of one that follows
};

[[noreturn]] void panic(std::string_view message);
[[noreturn]] void runtime_panic(std::string_view message);  // "runtime error: ..." and the like, raised by the runtime
// In a function deferred by a scope that a panic is passing: stops it and returns what was raised. Otherwise nothing.
std::optional<PanicValue> recover();
// Runs the deferred functions of all scopes and ends this goroutine. From main: the program goes on until the others
// end (or deadlock).
[[noreturn]] void goexit();

// Collects deferred functions; made by scope(), used by its goroutine only.
//
// A deferred function may capture plain pointers to heap objects, so closures lie where the collector looks: in the
// Defer itself, which is on its goroutine's stack, and when there is no room left, in chunks that are root blocks. A
// chunk's words are shaded when a closure comes in and before it leaves; to be called it is moved to the stack.
class Defer {
 public:
  Defer() noexcept = default;
  Defer(const Defer&) = delete;
  Defer& operator=(const Defer&) = delete;
  ~Defer();  // what was not run (an exception that is none of ours passes) is dropped

  // f: movable, called once.
  template <class F>
  void operator()(F&& f) {
    using Closure = std::decay_t<F>;
    static_assert(!kHoldsRefs<Closure>, "only heap objects hold Refs: a deferred function captures a T*, or a Root<T>");
    static_assert(alignof(Closure) <= alignof(Entry), "a deferred closure is aligned like any other object");
    Entry* entry = place(sizeof(Closure));
    new (entry + 1) Closure(std::forward<F>(f));
    entry->leave = [](Defer& defer, Entry* entry, bool call) {
      auto* at = std::launder(reinterpret_cast<Closure*>(entry + 1));
      Closure mine(std::move(*at));
      at->~Closure();
      defer.give_back(entry);
      if (call) mine();
    };
    push(entry);
  }

 private:
  template <class F>
  friend auto scope(F&& body);
  struct alignas(16) Entry {  // the closure lies behind it
    Entry* previous;
    void (*leave)(Defer& defer, Entry* entry, bool call);
    std::size_t bytes;  // of the closure
  };
  struct Chunk;  // panic.cc
  static constexpr std::size_t kInlineBytes = 256;

  // Run all, last in first out. They return when the scope is to go on behind its end, and throw otherwise: what passed,
  // or what a deferred function raised in its place.
  void run_at_return();
  void run_for(PanicInFlight& in_flight);
  void run_for(GoexitInFlight& in_flight);
  void run_for_foreign(std::exception_ptr in_flight);
  struct Passage;
  void run(Passage& passage);
  Entry* place(std::size_t bytes);  // room for an entry and its closure, not yet part of the list
  void push(Entry* entry);
  void pop(bool call);
  void give_back(Entry* entry) noexcept;

  Entry* last_ = nullptr;
  Chunk* chunk_ = nullptr;  // the newest; null while everything fits inline
  std::size_t inline_used_ = 0;
  alignas(16) std::byte inline_[kInlineBytes];
};

// Runs body(defer), then what it deferred. Returns body's result; after a recovered panic, a value-initialised one.
template <class F>
auto scope(F&& body) {
  using R = std::invoke_result_t<F&, Defer&>;
  static_assert(!kHoldsRefs<R>, "only heap objects hold Refs: a scope returns a T*");
  Defer defer;
  try {
    if constexpr (std::is_void_v<R>) {
      body(defer);
      defer.run_at_return();
      return;
    } else {
      R result = body(defer);
      defer.run_at_return();
      return result;
    }
  } catch (PanicInFlight& in_flight) {
    defer.run_for(in_flight);  // returns if it was recovered
  } catch (GoexitInFlight& in_flight) {
    defer.run_for(in_flight);
  } catch (...) {
    defer.run_for_foreign(std::current_exception());
  }
  if constexpr (!std::is_void_v<R>) return R{};
}

// The runtime error that a fault of the program's own code is (runtime/faults.h). The trace begins at the faulting line.
[[noreturn]] void raise_fault(std::string message, std::string signal, std::vector<void*> trace);
// Go's report of a panic that nobody recovers, and why nobody could (empty: nobody did). Exit code 2.
[[noreturn]] void report_panic(const PanicInFlight& in_flight, std::string_view why);
// The handler of std::terminate().
[[noreturn]] void on_terminate();

// The entry of every goroutine: runs f(argument), ends the process on what nobody caught.
void run_guarded(void (*f)(void*), void* argument);

}  // namespace gearbox
