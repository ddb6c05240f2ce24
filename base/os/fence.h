// Fences for protocols with a side that runs all the time and a side that runs hardly ever.
//
// Two threads that each store to one place and then look at the other's ("one of the two sees the other") need a full
// fence on both sides, and on the frequent side it costs as much as all the rest. heavy_fence() makes every running
// thread of the process pass a full fence (membarrier(2), PRIVATE_EXPEDITED); so beside it the other side needs to keep
// only the compiler from reordering. It costs the caller a system call and an interrupt on each processor that runs a
// thread of this process: some microseconds.
#pragma once

#include <atomic>

namespace gearbox::os {

// Whether heavy_fence() may be used: the kernel has it (Linux 4.14) and lets us. Registers the process at the first call.
// Any thread.
bool has_heavy_fence() noexcept;
// REQUIRES: has_heavy_fence() said so.
void heavy_fence() noexcept;
// The frequent side: the compiler keeps the order of what is before and behind. partner: heavy_fence()
inline void light_fence() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

}  // namespace gearbox::os
