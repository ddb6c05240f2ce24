// Faults of the program's own code as panics: a nil dereference and an integer division by zero can be recovered, as in
// Go, where that is safe.
//
// The handler does what Go's does: it edits the interrupted context so that the faulting instruction seems to have called a
// function, which raises the panic on the goroutine's own stack, outside of any signal handler. It is safe where
//
//   - the goroutine runs on its own stack, with room for the unwinder, and is not inside the runtime (current_inside());
//   - the instruction lies in the program's own code: text of the executable (in malloc or a C library something would be
//     half done, or locked) whose innermost function, or one that it is inlined into, comes from a source file outside of
//     the rooms that make up the runtime;
//   - the function has no exception table, or one that covers the instruction: such code was compiled to expect an
//     exception there (-fnon-call-exceptions; CMakeLists.txt gives it to workloads and tests, not to what is below them).
//
// Elsewhere the same fault is a fatal error.
#pragma once

#include <csignal>
#include <cstdint>

#include "runtime/frames.h"

namespace gearbox {

struct Fault {
  int signal = 0, code = 0;
  std::uintptr_t address = 0, pc = 0;
  bool is_nil = false;                  // an access to the page at 0
  const char* runtime_error = nullptr;  // Go's words; null: nothing that Go has a runtime error for
};

// From the handler's arguments.
Fault fault_of(const siginfo_t& info, const void* ucontext);
// "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x...]\n"; returns its length.
std::size_t describe_signal(const Fault& fault, char* out, std::size_t bytes);
// True: the goroutine goes on in a panic once the handler returns.
bool make_panic_of(const Fault& fault, const Interrupted& where, void* ucontext);

}  // namespace gearbox
