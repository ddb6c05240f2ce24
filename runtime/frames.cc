#include "runtime/frames.h"

#include <dlfcn.h>
#include <ucontext.h>
#include <unwind.h>

#include "base/sanitize.h"
#include "runtime/guard.h"
#include "runtime/runtime.h"

namespace gearbox {

GEARBOX_NO_SANITIZE("address", "thread")
void walk_frames(void* frame, std::uintptr_t low, std::uintptr_t high, void (*visit)(void*, std::uintptr_t),
                 void* context) {
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

void capture_parked(const Goroutine& g, FrameList& out) noexcept {
  out.push(reinterpret_cast<std::uintptr_t>(g.context.pc) + 1);
  walk_frames(
      g.context.bp, g.stack_lo, g.stack_hi,
      [](void* list, std::uintptr_t address) { static_cast<FrameList*>(list)->push(address); }, &out);
}

namespace {

struct Unwinding {
  Interrupted& out;
  std::uintptr_t pc;
  bool arrived = false;  // behind the handler's own frames
};

[[maybe_unused]] _Unwind_Reason_Code unwind_step(_Unwind_Context* at, void* argument) {
  auto& unwinding = *static_cast<Unwinding*>(argument);
  int is_interrupted = 0;
  const std::uintptr_t address = _Unwind_GetIPInfo(at, &is_interrupted);
  FrameList& frames = unwinding.out.frames;
  if (!unwinding.arrived) {
    if (is_interrupted == 0 || address != unwinding.pc) return _URC_NO_REASON;
    unwinding.arrived = true;
    unwinding.out.exception_table = static_cast<const unsigned char*>(_Unwind_GetLanguageSpecificData(at));
    unwinding.out.function_start = _Unwind_GetRegionStart(at);
  } else if (address == 0) {
    return _URC_NO_REASON;  // a goroutine's stack ends in a null return address
  }
  frames.push(is_interrupted != 0 ? address + 1 : address);
  return frames.count < FrameList::kMost ? _URC_NO_REASON : _URC_END_OF_STACK;
}

// The stack that the address lies on, as far as the runtime knows it.
bool known_stack(std::uintptr_t address, std::uintptr_t& low, std::uintptr_t& high) noexcept {
  if (const Goroutine* g = current_goroutine(); g != nullptr && address >= g->stack_lo && address < g->stack_hi) {
    low = g->stack_lo;
    high = g->stack_hi;
    return true;
  }
  const Machine* m = current_machine();
  if (m == nullptr) return false;
  low = reinterpret_cast<std::uintptr_t>(m->identity.asan_bottom);
  high = low + m->identity.asan_bytes;
  return address >= low && address < high;
}

}  // namespace

GEARBOX_NO_SANITIZE("address", "thread")
void capture_interrupted(const void* ucontext, Interrupted& out) noexcept {
  const auto& registers = static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs;
  const auto pc = static_cast<std::uintptr_t>(registers[REG_RIP]);
#if !GEARBOX_ASAN && !GEARBOX_TSAN  // a stack in the middle of a switch may mislead the unwinder: guarded() must work
  Unwinding unwinding{out, pc};
  if (guarded([](void* argument) { _Unwind_Backtrace(unwind_step, argument); }, &unwinding) && unwinding.arrived &&
      out.frames.count > 1)
    return;
#endif
  out.frames.count = 0;
  out.frames.push(pc + 1);
  std::uintptr_t low = 0, high = 0;
  const auto sp = static_cast<std::uintptr_t>(registers[REG_RSP]);
  if (!known_stack(sp, low, high)) return;
  // No code at pc: a call of a bad function pointer, whose return address lies on top.
  Dl_info module{};
  if (::dladdr(reinterpret_cast<void*>(pc), &module) == 0)
    out.frames.push(*reinterpret_cast<const std::uintptr_t*>(sp));
  walk_frames(
      reinterpret_cast<void*>(registers[REG_RBP]), low, high,
      [](void* list, std::uintptr_t address) { static_cast<FrameList*>(list)->push(address); }, &out.frames);
}

[[gnu::noinline]] void capture_unwound(FrameList& out, std::size_t skip) noexcept {
  const auto unwind = [](void* argument) {
    _Unwind_Backtrace(
        [](_Unwind_Context* at, void* argument) {
          auto& out = *static_cast<FrameList*>(argument);
          const std::uintptr_t address = _Unwind_GetIP(at);
          if (address == 0 || out.count == FrameList::kMost) return _URC_END_OF_STACK;
          out.push(address);
          return _URC_NO_REASON;
        },
        argument);
  };
  guarded(unwind, &out);
  // The frames of the machinery: the lambda, guarded(), this function.
  const auto* own = reinterpret_cast<const std::uintptr_t*>(&capture_unwound);
  std::size_t first = 0;
  while (first < out.count && _Unwind_FindEnclosingFunction(reinterpret_cast<void*>(out.addresses[first] - 1)) != own)
    ++first;
  first = first < out.count ? first + 1 + skip : 0;
  for (std::size_t i = first; i < out.count; ++i) out.addresses[i - first] = out.addresses[i];
  out.count -= first < out.count ? first : 0;
}

void prepare_unwinder() noexcept {
  _Unwind_Backtrace([](_Unwind_Context*, void*) { return _URC_END_OF_STACK; }, nullptr);
}

}  // namespace gearbox
