// Lock rules that Clang checks. A field says which lock guards it, a function says which lock its caller holds, and
// `-Wthread-safety` refuses code that breaks either; .ci/run's tidy stage makes that an error. Other compilers see
// nothing.
//
// The analysis works on one function at a time and knows locks by their names. A lock that is released on the other
// side of a goroutine switch (Runtime::park) cannot be followed: such a function is marked
// GEARBOX_NO_THREAD_SAFETY_ANALYSIS, and the mark has the reason behind it.
#pragma once

#if defined(__clang__)
#define GEARBOX_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define GEARBOX_THREAD_ATTRIBUTE(x)
#endif

#define GEARBOX_CAPABILITY(name) GEARBOX_THREAD_ATTRIBUTE(capability(name))
#define GEARBOX_SCOPED_CAPABILITY GEARBOX_THREAD_ATTRIBUTE(scoped_lockable)
#define GEARBOX_GUARDED_BY(lock) GEARBOX_THREAD_ATTRIBUTE(guarded_by(lock))
#define GEARBOX_LOCK_HELD(...) GEARBOX_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define GEARBOX_LOCK_NOT_HELD(...) GEARBOX_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define GEARBOX_ACQUIRE(...) GEARBOX_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define GEARBOX_RELEASE(...) GEARBOX_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
#define GEARBOX_TRY_ACQUIRE(...) GEARBOX_THREAD_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define GEARBOX_RETURN_CAPABILITY(lock) GEARBOX_THREAD_ATTRIBUTE(lock_returned(lock))
#define GEARBOX_NO_THREAD_SAFETY_ANALYSIS GEARBOX_THREAD_ATTRIBUTE(no_thread_safety_analysis)
