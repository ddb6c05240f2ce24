#include "runtime/frames.h"

#include "runtime/runtime.h"

namespace gearbox {

[[gnu::no_sanitize("address", "thread")]] void walk_frames(void* frame, std::uintptr_t low, std::uintptr_t high,
                                                           void (*visit)(void*, std::uintptr_t), void* context) {
  constexpr int kMostFrames = 64;
  auto at = reinterpret_cast<std::uintptr_t>(frame);
  for (int i = 0; i < kMostFrames && at >= low && at + 16 <= high && at % 8 == 0; ++i) {
    const auto* words = reinterpret_cast<const std::uintptr_t*>(at);
    if (words[1] == 0) break;
    visit(context, words[1]);
    if (words[0] <= at) break;
    at = words[0];
  }
}

void capture_trace_from(void* frame, std::uintptr_t low, std::uintptr_t high, std::vector<void*>& out) {
  walk_frames(
      frame, low, high,
      [](void* trace, std::uintptr_t address) {
        static_cast<std::vector<void*>*>(trace)->push_back(reinterpret_cast<void*>(address));
      },
      &out);
}

void capture_trace(std::vector<void*>& out, int skip) {
  std::uintptr_t low = 0, high = 0;
  if (const Goroutine* g = current_goroutine()) {
    low = g->stack_lo;
    high = g->stack_hi;
  } else {
    os::thread_stack_bounds(low, high);
  }
  capture_trace_from(__builtin_frame_address(0), low, high, out);
  if (out.size() > static_cast<std::size_t>(skip)) out.erase(out.begin(), out.begin() + skip);
}

}  // namespace gearbox
