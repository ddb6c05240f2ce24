// Preemption by signal: stopping a goroutine that reaches no safepoint.
//
// Problem.    A loop that calls nothing of the runtime answers no request. C++ has no table of safe instructions as Go
//             has, and a goroutine cannot be switched away from an arbitrary instruction: it may be inside malloc, hold a
//             lock of the C library, unwind, or have the address of a thread-local variable in a register.
// Idea.       The goroutine stays on its thread, inside the handler of SIGURG, with all its registers saved by the
//             kernel. For a stop of the world the thread waits there with its P (freeze). For a time slice the P goes to
//             another M, and the thread waits there until the goroutine is picked again (freeze and hand on); from
//             freeze to thaw the goroutine is locked to its thread. The literature calls the second kernel-level-thread
//             switching (Shiina et al., "Lightweight preemptive user-level threads", PPoPP 2021).
// Requests.   P::attention asks first, as for cooperative preemption. A request that is still unanswered gets a signal:
//             a stop's from the stopper after about 50 us and again every 100 us, a slice's from sysmon one pass later.
//
//     stopper or sysmon                        the P's thread, in a loop of the program
//     attention |= stop
//     ... unanswered
//     tgkill(thread, SIGURG) ───────────────▶  handler: accepts only if N1 to N4 hold, else returns
//                                              G::context and frozen say where the registers are
//                                              status = stopped; counts itself down; sleeps
//     the last P has stopped: marks ...          (a collector scans the stack and the saved registers)
//     end_stop(), epoch changes ────────────▶  scans itself if a scan is under way, registers still published
//                                              returns from the handler: the loop goes on
//
// When a signal is accepted.
//     N1  A goroutine with a P runs here, its P still has a request up, and the thread does not speak the process's last
//         words (base/last_words.h): the end of the program would stop them for good.
//     N2  It is not inside the runtime: current_inside() is 0 (interfaces/current.h). Every operation of the language
//         surface that touches a P, a lock or a list of the runtime raises it; system goroutines never lower it.
//     N3  The instruction lies in the executable's own text, so that the thread is not inside malloc, the C library or
//         the unwinder, all of which are shared libraries. A loop inside a shared library is stopped when it returns.
//     N4  The stack pointer lies in the goroutine's stack.
//     Two sequences are too hot for N2: taking a cell from a window and storing a Ref. Each is one block of assembly that
//     changes memory by its last instruction only; a table of their ends lets the handler set the program counter back
//     to the beginning (interfaces/restart.h). The kernel's restartable sequences and Go's are the same idea.
//
// Invariants. X1  While a goroutine is frozen, `frozen` is its ucontext, and World::visit_stack() looks at all its
//                 general and vector registers beside its stack.
//             X2  A frozen goroutine is thawed only by its own thread, after scan_before_run(); `frozen` and locked_m are
//                 cleared after that.
//             X3  The handler allocates nothing while the world is stopped. It may take the runtime's locks: N2 says that
//                 this thread holds none.
// Rejected.   A switch to another goroutine from the handler: a prototype died within a second in 16 of 16 runs
//             (malloc's caches half-way, locks owned by the wrong thread). Timers that interrupt periodically: 2 % of a
//             thread at 1 ms, 19 % at 100 us; a signal on demand costs nothing while nobody overstays.
// Cost.       About 6 us to send, 10 us from request to handler. One thread for each goroutine that is preempted in a
//             loop without safepoints, until it is picked again; `frozen_max` limits them.
// Weak spot.  A program that spends its time in shared libraries is refused until it returns to its own text. Raw system
//             calls outside blocking() may see EINTR where the kernel does not restart them (nanosleep, poll).
#pragma once

#include <cstddef>
#include <cstdint>

#include <ucontext.h>

namespace gearbox::preempt {

// Whether signals work in this build. Not under TSan: it delays asynchronous signals until the thread calls into it.
bool can_signal() noexcept;
// Installs the handler of SIGURG for the process. Idempotent.
void arm();
// Asks the thread. Any thread; a thread that has ended is no error.
void send(int thread_id) noexcept;
// Calls visit for the words of all registers that were saved when the goroutine was interrupted.
void visit_registers(const ucontext_t& registers, void (*visit)(void*, const std::uintptr_t*, std::size_t),
                     void* context);
// Where the interrupted sequence began, if pc lies inside a restartable one; else pc.
std::uintptr_t restart_of(std::uintptr_t pc) noexcept;
// Whether pc lies in the executable's own text.
bool is_own_text(std::uintptr_t pc) noexcept;

}  // namespace gearbox::preempt
