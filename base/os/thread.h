// Threads and the processor: creation with an error that can be handled, names, yielding, identity.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace gearbox::os {

// Starts a joinable thread. EAGAIN (limits) comes back as an Error. stack_bytes is rounded up to pages.
Result<pthread_t> start_thread(void* (*entry)(void*), void* argument, std::size_t stack_bytes, const char* name);
void join_thread(pthread_t thread) noexcept;
void yield_thread() noexcept;
int thread_id() noexcept;  // gettid
int process_id() noexcept;
// Sends a signal to a thread of this process. False when there is no such thread. Async-signal-safe.
bool signal_thread(int thread_id, int signal) noexcept;
int online_cpus() noexcept;  // CPUs this process may run on (sched_getaffinity), at least 1
// The calling thread's stack, [lo, hi).
void thread_stack_bounds(std::uintptr_t& lo, std::uintptr_t& hi) noexcept;

}  // namespace gearbox::os
