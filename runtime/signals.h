// Signals: faults are reported with the goroutine that made them, and the process dies cleanly with exit code 2.
//
//   SIGSEGV SIGBUS SIGFPE   a panic where the program's own code is to blame and can recover (runtime/faults.h), else a
//                           fatal error
//   SIGILL                  a report
//   SIGABRT                 a report, then the default action
//   SIGQUIT                 all goroutines, those that run with where they are now; exit code 2, as in Go. (TSan holds it
//                           back while the thread that got it computes.)
//   SIGPIPE                 ignored: a write to a closed peer is an EPIPE, not a death
//
// A thread that runs no goroutine dies by its signal, after the report. std::terminate() reports, too.
#pragma once

#include "base/result.h"

namespace gearbox {

// Arms all of these for the process (idempotent).
void arm_signals();
// An alternate stack for the calling thread, without which an overflow of a goroutine's stack could not be reported.
// Freed by remove_signal_stack(). An Error with the errno of mmap or sigaltstack.
Result<void*> install_signal_stack();
void remove_signal_stack(void* stack);

}  // namespace gearbox
