// Return addresses of a stack. By frame pointers, which all code of this tree keeps, where speed matters (a panic); by the
// unwinder's tables where a signal found the thread, perhaps in a library that keeps none, or before a function had made
// its frame.
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

// A trace in place.
struct FrameList {
  static constexpr std::size_t kMost = 64;
  std::uintptr_t addresses[kMost];
  std::size_t count = 0;
  void push(std::uintptr_t address) noexcept {
    if (count < kMost) addresses[count++] = address;
  }
};

// The calling stack, by the unwinder: through libraries, too. Slower than capture_trace().
void capture_unwound(FrameList& out, std::size_t skip) noexcept;

// Where a signal found its thread. Return addresses are followed by the instruction that is executed; the first entry here
// is that of the interrupted instruction plus one, so that each entry less one lies in the code that is meant.
struct Interrupted {
  FrameList frames;
  const unsigned char* exception_table = nullptr;  // of the interrupted function (its LSDA); null: it has none
  std::uintptr_t function_start = 0;               // 0: there are no unwind tables for the instruction
};
// In a signal handler, of the code that it interrupted; `ucontext` is the handler's third argument.
void capture_interrupted(const void* ucontext, Interrupted& out) noexcept;
// The frames of a goroutine that is switched out, or was not long ago: context and stack may change meanwhile.
struct Goroutine;
void capture_parked(const Goroutine& g, FrameList& out) noexcept;
// The first use of the unwinder makes it ready, which a signal handler must not: once, at boot.
void prepare_unwinder() noexcept;

}  // namespace gearbox
