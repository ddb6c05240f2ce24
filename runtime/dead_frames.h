// What calls leave behind on a goroutine's stack. A stack is scanned conservatively, from the stack pointer up; a frame that
// covers the place of an older, deeper one holds that one's words wherever it has not written yet, and a dead reference
// among them keeps its object. It goes with the next call that writes there; a goroutine that parks for long in the same
// frames keeps it that long. Whoever knows that overwrites the dead frames first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gearbox {

// Overwrites the part of the stack below the caller's frame that the frames of a park and what leads to it will cover.
// On a goroutine. COLD.
[[gnu::noinline]] inline void overwrite_dead_frames() noexcept {
  constexpr std::size_t kWords = 512;
  volatile std::uintptr_t words[kWords];
  for (auto& word : words) word = 0;
}

}  // namespace gearbox
