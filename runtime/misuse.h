// Misuse: a call of the runtime where there is no P. Inside blocking(f) and on threads that are no goroutine nothing may
// allocate in the collected heap, park, stop the world, or arm a timer.
//
// The paths that are inlined into programs do not look: they would pay at each call for the few that are wrong. They read
// a field of the P, and fault close to address 0; the handler recognises that. Paths that reach the switch without a P
// are met there.
#pragma once

#include "runtime/faults.h"
#include "runtime/frames.h"

namespace gearbox {

// Whether the fault is such a read. In the handler.
bool is_misuse(const Fault& fault, const Interrupted& where) noexcept;
// "fatal error: make() inside blocking(): ...", named by the frames, from which the trace is printed, too. Exit code 2.
[[noreturn]] void die_of_misuse(const FrameList& frames);
// The same with the frames of the caller.
[[noreturn]] void die_of_misuse();
// For what must run on a goroutine but needs no P.
void require_goroutine();

}  // namespace gearbox
