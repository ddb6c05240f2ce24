// Futexes: sleep on a word until somebody changes it. Private to the process.
#pragma once

#include <atomic>
#include <cstdint>

namespace gearbox::os {

inline constexpr std::int64_t kForever = -1;

// Sleeps while word == expected. Returns false when timeout_ns (relative, kForever for none) ran out, true otherwise;
// spurious returns are possible, so callers loop on their own condition.
bool futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns) noexcept;

// Wakes at most count sleepers; returns how many. Any thread; async-signal-safe.
int futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept;

}  // namespace gearbox::os
