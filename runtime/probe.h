// Probe: a real-time signal with which the runtime asks one of its own threads to do something at once: to run a function
// on its signal stack. (In a debugger: `handle SIG61 nostop noprint`.)
#pragma once

namespace gearbox {

// Installs the handler; idempotent.
void arm_probe();
// Runs f(context) on the calling thread's signal stack, where there is room for what a goroutine's stack may be too small
// for; where it is, if it is on that stack already or has none. f must not park. Async-signal-safe.
void on_signal_stack(void (*f)(void* context), void* context) noexcept;

}  // namespace gearbox
