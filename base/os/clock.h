// Clocks, in nanoseconds.
#pragma once

#include <cstdint>

namespace gearbox::os {

std::int64_t monotonic_ns() noexcept;    // CLOCK_MONOTONIC; for durations and deadlines. ~20 ns a call (vDSO)
std::int64_t wall_ns() noexcept;         // CLOCK_REALTIME since 1970
std::int64_t process_cpu_ns() noexcept;  // user + system of the whole process
std::int64_t thread_cpu_ns() noexcept;
void sleep_ns(std::int64_t ns) noexcept;  // the thread, not the goroutine

}  // namespace gearbox::os
