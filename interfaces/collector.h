// Collector: finds unreachable objects and has the allocator take them back.
//
// Roots are goroutine stacks (conservative, [sp - 128, stack_hi) of the saved context), and what World::visit_roots()
// names: Root<T>s, channel buffers, closures, finalizer queue. Heap objects are scanned precisely through their
// TypeDesc. The collector reads the heap's tables; while marking it asks the allocator nothing. Threads without a P
// change Roots while the world is stopped, too: a mark ends with World::take_shaded().
//
// Stacks. A concurrent collector scans every stack exactly once per cycle, and each before its goroutine runs again, so
// that no status change of a goroutine costs an atomic operation outside a mark phase:
//   - With the world stopped it calls World::arm_stack_scan(): a new epoch, in which every G is kUnscanned, and every
//     P's `scanning` flag goes up.
//   - From then on the runtime calls scan_before_run(g) before it runs any G (on the M's or the previous goroutine's
//     stack); it claims the G by compare-exchange kUnscanned -> kScanning, scans it, sets kScanned; if a worker has it
//     claimed already, it waits until that is done.
//   - Workers claim and scan all the others. A G that is spawned meanwhile is born kScanned and the words of its
//     closure are shaded.
//   - A G in a blocking system call has its context saved at the entry; it is claimed like a parked one. Coming back it
//     passes scan_before_run.
//   - disarm_stack_scan(), world stopped, ends it.
// So every stack is black before it changes: the deletion half of the barrier keeps the snapshot, the insertion half
// covers what leaves the heap's slots for places that are scanned once (channel buffers, Roots). Such a place is under
// the deletion half itself: what leaves it, or ends with it, goes to a stack that may be black.
//
// Stack-to-stack copies (channel hand-off, select, closures of new goroutines) go through shade_words(): the runtime
// calls it while P::marking.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/histogram.h"
#include "interfaces/heap.h"
#include "interfaces/option.h"

namespace gearbox {

class Allocator;

enum class GcReason : std::uint8_t { kHeapGrowth, kExplicit, kOutOfMemory, kStress };

struct CollectorStats {
  std::uint64_t cycles = 0;        // completed marks
  std::int64_t cpu_ns = 0;         // pauses (times the Ps that were not idle), workers, assists, barrier flushes, stack
                                   // scans, sweeping outside of refills
  std::int64_t mark_ns = 0;        // wall time from the first pause of a cycle to the last, summed
  std::uint64_t marked_bytes = 0;  // by the last cycle
  std::uint64_t assists = 0;
  Histogram pause_ns;  // world stopped, per pause, from request to restart
};

class Collector {
 public:
  virtual ~Collector() = default;

  // COLD. Once in schedinit; nothing has run. The collector may remember both, and its World from its constructor.
  virtual void start(Heap& heap, Allocator& allocator) = 0;
  // COLD. Once, on the first goroutine, when goroutines can be spawned: workers are made here.
  virtual void start_workers() = 0;

  // WARM. The only mutator hook: before a refill or large allocation of `bytes` on P p by a user goroutine; the G's
  // context is not saved. May assist, start or run a whole cycle, park, and come back on another P: the caller reads
  // current_p() afterwards.
  virtual void on_refill(std::size_t bytes) = 0;

  // WARM. p's write buffer is full, or must be empty (world stopped). Marks or queues what it holds, and resets count.
  // No safepoint, no parking, no allocation on the heap. Called by p's owner, or with the world stopped.
  virtual void flush_write_buffer(P& p) = 0;

  // WARM, only while P::marking. Everything the words in [first, first + count) may point to is shaded
  // (conservatively). Same rules as flush_write_buffer.
  virtual void shade_words(P& p, const std::uintptr_t* first, std::size_t count) = 0;

  // WARM, only while P::scanning. See "Stacks". Does not park.
  virtual void scan_before_run(G* g) = 0;

  // COLD. A full collection: when it returns, everything that was unreachable at the call has been taken back,
  // finalizers queued, and stats() shows the cycle with all its pauses. On a goroutine; may park. Several callers at once
  // share a cycle where that is right.
  virtual void collect(GcReason reason) = 0;

  // COLD. The runtime ends: no cycle may be running when this returns. On the first goroutine.
  virtual void stop() = 0;

  virtual CollectorStats stats() const = 0;  // any thread
  virtual void counters(CounterVisitor&) const {}
};

}  // namespace gearbox
