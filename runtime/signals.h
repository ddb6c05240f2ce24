// Signals: faults are reported with the goroutine that made them, and the process dies cleanly with exit code 2.
#pragma once

#include "base/result.h"

namespace gearbox {

// Arms SIGSEGV and SIGBUS for the process (idempotent) and ignores SIGPIPE: a write to a closed peer is an EPIPE, not a
// death.
void arm_signals();
// An alternate stack for the calling thread, without which an overflow of a goroutine's stack could not be reported.
// Freed by remove_signal_stack(). An Error with the errno of mmap or sigaltstack.
Result<void*> install_signal_stack();
void remove_signal_stack(void* stack);

}  // namespace gearbox
