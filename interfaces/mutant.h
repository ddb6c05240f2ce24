// Mutants: deliberate bugs, compiled only into `checked` builds and chosen by a test, to show that the tests would
// notice. `GEARBOX_MUTANT(kDropDeletionBarrier)` is true when that bug is planted; in release builds it is the constant
// false.
#pragma once

#include <atomic>
#include <cstdint>

namespace gearbox {

enum class Mutant : std::uint32_t {
  kNone,
  kDropDeletionBarrier,  // the old value is not shaded
  kStoreBeforeBarrier,   // the new value is stored before the old one is read for the buffer
  kNoFinalFlush,         // write buffers are not flushed in the second pause
  kAllocateWhite,        // objects made while marking are not marked
  kNoShadeAtHandoff,     // channel hand-off between stacks is not shaded
  kNoShadeGoArguments,   // closures of new goroutines are not shaded
  kRunUnscanned,         // a goroutine runs before its stack is scanned
  kNoPad,                // a pointer one past the end does not keep its object
  kSweepLosesBlack,      // cells taken while marking are freed by the sweep
  kClearMarksInSweep,    // a foreign heap's marks are cleared chunk by chunk inside the sweep
  kNoSpillAtSyscall,     // registers are not saved at the entry of a blocking call
  kSkipRoots,            // Roots are not scanned
  kNoSecondLook,         // a P that has prepared to park sleeps without looking again
  kNoWakeAtEnqueue,      // a G that is made runnable wakes nobody
  kFailedWakeForgets,    // a wake that found no idle P does not look whether somebody relied on it
  kLastSpinnerIsSilent,  // the last searcher that finds something does not wake the next
  kLostPWakesNobody,     // a P that was taken while it parked is given up without a word to those who relied on its M
  kSpinnerForgetsCount,  // a searcher that parked and took its P back is not counted again
  kStealTwice,           // a thief leaves the last G that it took in its victim's ring
  kOverflowLosesOne,     // a ring that overflows forgets one G
  kNoShadeAtRootEnd,     // a Root's end is not a change
  kNoShadeWithoutP,      // a thread without a P changes Roots as if nobody marked
  kHideClosures,         // the words of closures kept outside stacks are not roots
  kNoBirthStamp,         // a goroutine is born in a group of slots that scans skip, and does not say so
  kHideRegisters,        // what an interrupted goroutine holds in registers is not a root
  kStaleDeadline,        // a deadline that was moved while its timer fired ends operations all the same
  kNoRestart,            // a goroutine that is interrupted inside a restartable sequence goes on in its middle
  kCount
};

#if defined(GEARBOX_CHECKED)
inline std::atomic<Mutant> planted_mutant{Mutant::kNone};  // one for the process: a test plants one bug at a time
#define GEARBOX_MUTANT(name) (::gearbox::planted_mutant.load(std::memory_order_relaxed) == ::gearbox::Mutant::name)
#else
#define GEARBOX_MUTANT(name) (false)
#endif

}  // namespace gearbox
