// SIGINT, SIGTERM and SIGHUP as something to read: for programs that serve until they are told to stop.
//
// The three are blocked in every thread and taken by one that does nothing else. A handler would run on whatever thread
// the kernel picks: it would interrupt that thread's system call, and a thread sanitizer puts it off until that thread
// calls libc again, which one that sleeps in a futex or in the poller never does.
#pragma once

#include "base/result.h"

namespace gearbox::os {

// On the first thread, before it starts another: later ones inherit what it blocks. Until interrupt_eventfd() is called
// a signal ends the process as if nobody had blocked it. Signals that the process ignores stay ignored. Once.
Status take_interrupts();

// An eventfd that becomes readable at the first of these signals from here on; the second one ends the process. The
// descriptor is the caller's. Process-wide, once. Error without take_interrupts().
Result<int> interrupt_eventfd();

}  // namespace gearbox::os
