// blocking(f): runs f, which may block the thread in the kernel, while other goroutines go on.
//
// The P is left behind in status kSyscall; if f takes long, sysmon hands it to another M, and a stop of the world takes
// it on the spot. When f returns, the goroutine takes its P back if nobody else did, else any idle one, else it queues
// up. With pollers whose lanes belong to one thread (io_uring), an M that blocks would hold its connections hostage:
// there f runs on a thread kept for such calls, one hop each way.
//
// Everything live is spilled before f runs and stays put below nobody: the frame of blocking() records its stack
// pointer, and a collector scans from there up. So f must not allocate on the heap, store into Refs, or call anything
// of this runtime that may park: such a call ends the process with a message (runtime/misuse.h). It may call blocking()
// again, which runs its function. It may throw, panic and call goexit(), and it may change Roots; references that it holds
// itself are in Roots (runtime/root.h).
#pragma once

#include <type_traits>
#include <utility>

#include "interfaces/mutant.h"
#include "runtime/holds_refs.h"
#include "runtime/misuse.h"
#include "runtime/runtime.h"

namespace gearbox {

template <class F>
[[gnu::noinline]] auto blocking(F&& f) {
  static_assert(!kHoldsRefs<std::invoke_result_t<F>>, "only heap objects hold Refs: blocking(f) returns no Ref");
  if (current_p() == nullptr) {  // inside another blocking(): the P is left behind already
    require_goroutine();
    return std::forward<F>(f)();
  }
  safepoint_if_on_p();  // a loop of short calls must be stoppable: it has a P most of the time, but never for long
  Context here;
  save_context(&here);
  current_goroutine()->syscall_sp = reinterpret_cast<std::uintptr_t>(here.sp);
  // The bug: what the caller keeps in registers, saved in this frame, is not seen; its own frame is. (128: the red zone
  // that visit_stack() adds.)
  if (GEARBOX_MUTANT(kNoSpillAtSyscall))
    current_goroutine()->syscall_sp = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) + 16 + 128;
  if (current_runtime().blocking_needs_thread())
    current_runtime().move_to_blocking_thread();
  else
    current_runtime().enter_blocking();
  struct Exit {
    ~Exit() { current_runtime().exit_blocking(); }
  } exit;  // however f ends: an exception, a panic or goexit() goes on with a P, perhaps on another thread
  return std::forward<F>(f)();
}

}  // namespace gearbox
