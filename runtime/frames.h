// Return addresses of a stack, by frame pointers: all code of this tree keeps them.
#pragma once

#include <cstdint>
#include <vector>

namespace gearbox {

// Appends the calling stack's return addresses, innermost first, by frame pointers.
void capture_trace(std::vector<void*>& out, int skip);
void capture_trace_from(void* frame, std::uintptr_t low, std::uintptr_t high, std::vector<void*>& out);
// The same, one call an address; allocates nothing, so that a signal handler may use it.
void walk_frames(void* frame, std::uintptr_t low, std::uintptr_t high, void (*visit)(void* context, std::uintptr_t),
                 void* context);

}  // namespace gearbox
