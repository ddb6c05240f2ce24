// guarded(f): runs code that reads what may be broken (a stack that is walked, a symbol table), and survives its fault.
#pragma once

namespace gearbox {

// Runs f(context). False if f faulted: then f was left where it faulted, nothing was unwound, so f must hold no lock and
// own no memory. f must not park. Async-signal-safe. Under a sanitizer, whose fault handler is not ours, a fault ends the
// process as ever.
bool guarded(void (*f)(void* context), void* context) noexcept;
// For the fault handler: does not return if the calling thread is inside guarded().
void leave_guarded_call() noexcept;

}  // namespace gearbox
