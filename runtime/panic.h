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
// goexit() unwinds the same way, runs the deferred functions, cannot be recovered, and ends the goroutine. Code that
// catches everything (`catch (...)`) must rethrow.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

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
};
struct GoexitInFlight {};

[[noreturn]] void panic(std::string_view message);
[[noreturn]] void runtime_panic(std::string_view message);  // "runtime error: ..." and the like, raised by the runtime
// In a function deferred by a scope that a panic is passing: stops it and returns what was raised. Otherwise nothing.
std::optional<PanicValue> recover();
// Runs the deferred functions of all scopes and ends this goroutine. From main: the program goes on until the others
// end (or deadlock).
[[noreturn]] void goexit();

// Collects deferred functions; made by scope().
class Defer {
 public:
  template <class F>
  void operator()(F&& f) {
    functions_.emplace_back(std::forward<F>(f));
  }

 private:
  template <class F>
  friend auto scope(F&& body);
  // Runs all, last in first out. `in_flight` null: normal return. True when a panic in flight was recovered.
  bool run(PanicInFlight* in_flight);
  std::vector<std::function<void()>> functions_;
};

namespace detail {
void begin_unwinding() noexcept;  // a scope was reached by a panic or goexit
}

// Runs body(defer), then what it deferred. Returns body's result; after a recovered panic, a value-initialised one.
template <class F>
auto scope(F&& body) {
  using R = std::invoke_result_t<F&, Defer&>;
  Defer defer;
  try {
    if constexpr (std::is_void_v<R>) {
      body(defer);
      defer.run(nullptr);
      return;
    } else {
      R result = body(defer);
      defer.run(nullptr);
      return result;
    }
  } catch (PanicInFlight& in_flight) {
    if (!defer.run(&in_flight)) throw;
  } catch (GoexitInFlight&) {
    defer.run(nullptr);
    throw;
  }
  if constexpr (!std::is_void_v<R>) return R{};
}

// The entry of every goroutine: runs f(argument), ends the process on what nobody caught.
void run_guarded(void (*f)(void*), void* argument);

// "fatal error: <message>" with the trace of the current goroutine; exit code 2. Any thread.
[[noreturn]] void fatal_error(std::string_view message);

// Appends the calling stack's return addresses, innermost first, by frame pointers.
void capture_trace(std::vector<void*>& out, int skip);
void capture_trace_from(void* frame, std::uintptr_t low, std::uintptr_t high, std::vector<void*>& out);
// Symbol names, one line an address: as text, or to standard error.
std::string describe_trace(const std::vector<void*>& trace);
void print_trace(const std::vector<void*>& trace);
// Ends the process with `code` after flushing standard output; nothing else is run.
[[noreturn]] void exit_process(int code);

}  // namespace gearbox
