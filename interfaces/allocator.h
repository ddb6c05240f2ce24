// Allocator: hands out zeroed heap objects from the one reserved range, and takes back what the collector left
// unmarked.
//
// The fast path is inline data (AllocCache in each P, interfaces/processor.h) and calls nothing here. A virtual call
// happens per refill, per large object, per batch of sweeping: never per object, except in direct mode, where a foreign
// allocator leaves its windows empty and returns one object per refill.
//
// Phases (Heap::phase, set by the collector while the world is stopped):
//   kIdle   nothing special.
//   kMark   everything handed out is born marked (black). Nothing is freed, purged or re-typed.
//   kSweep  what begin_sweep() found unmarked is dead and is taken back piece by piece, by sweep() and by refills that
//           need cells. A native span is swept before cells are taken from it; a foreign allocator keeps allocating
//           black until the sweep ends, and its marks are cleared only after that (clearing them inside the sweep lets
//           an object born black in a swept piece enter the next cycle pre-marked).
//
// Duties that no single method names, and that tests/contract/allocator_test.cc demands:
//   Accounting  What a P is handed is counted in its cache (allocated_bytes, allocated_objects) and, at the latest every
//               some KiB and in begin_mark() and begin_sweep(), in Heap::live_bytes, with Heap::peak_bytes behind it. The
//               collector sets live_bytes to what it has marked, in the allocator's unit: the size of cells, so that a
//               heap in which nothing is left says 0. Heap::in_use_bytes is the memory that holds cells. stats() counts
//               what sweeps took back, by object and by byte.
//   Tiny block  AllocCache::tiny is the free half of a cell whose other half is somebody's. Whatever empties windows
//               (begin_mark(), begin_sweep(), p_removed()) drops it: the cell may be dead after the cycle.
//   Joining     Free memory next to free memory serves as one piece, whatever it was before: a heap that was full of
//               small or middling objects, and of which nothing is left, serves large ones of an eighth of the range.
//   The base    No object begins at Heap::base. Who marks, looks up or allocates has that number in registers and in frames
//               on goroutines' stacks, where it would keep the object: the very first one of every program.
//   The range   Most of it can be used; when it is full, refill() and allocate_large() say null, and serve again after a
//               collection.
//   The kernel  Memory that nothing lives in any more is not resident for ever: some cycles and release_free_memory(0)
//               later most of its pages are gone, whichever sizes lay there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "interfaces/heap.h"
#include "interfaces/option.h"

namespace gearbox {

struct AllocatorStats {
  std::uint64_t in_use_bytes = 0;    // memory that holds cells or spans
  std::uint64_t metadata_bytes = 0;  // side tables and span records, resident as far as known
  std::uint64_t freed_bytes = 0;     // by all sweeps so far
  std::uint64_t freed_objects = 0;
  std::int64_t refill_sweep_ns = 0;  // spent by refills on sweeping, estimated from samples
};

class Allocator {
 public:
  virtual ~Allocator() = default;

  // COLD. Once, before start(). A foreign allocator that must own its range for the life of the process reserves it
  // here: sets heap.base and heap.bytes (at least as many as were asked for) and returns true; nobody else may unmap
  // it. False: the caller reserves, and releases when the allocator is gone.
  virtual Result<bool> reserve(Heap& heap) {
    (void)heap;
    return false;
  }
  // COLD. Once, before anything runs. heap.base and heap.bytes are reserved and stay; fills in the tables of `heap`.
  virtual Status start(Heap& heap) = 0;

  // COLD. A P joins or leaves (GOMAXPROCS). World stopped or not started. p_removed gives all cells of the cache back.
  virtual void p_added(P& p) = 0;
  virtual void p_removed(P& p) = 0;

  // WARM. One zeroed object of `bytes` payload for window `window` (interfaces/processor.h says which), and as many
  // more cells in that window as are at hand. type: null for kNoscanWindow, else the object's type. Null when the range
  // is full (the caller collects and asks again). Called on a goroutine's stack by the owner of p; must not park, and
  // must not reach a safepoint. Returns the cell in native heaps: a header, if the window has one, is the caller's to
  // write, and the payload lies behind it. With kStartBits every object has a header, which is already written (type,
  // and `bytes` as given), and the payload is returned. ENSURES: cells in the window are zeroed, or needs_zero is set
  // (the one returned is zeroed anyway); in kMark all of them are marked.
  virtual void* refill(P& p, std::uint32_t window, const TypeDesc* type, std::size_t bytes) = 0;

  // COLD. An object larger than kMaxSmallBytes, zeroed; returns what refill() would: native, with a type that has
  // references, a cell that begins with a header (room for it is added to `bytes`), else the payload.
  virtual void* allocate_large(P& p, const TypeDesc* type, std::size_t bytes) = 0;

  // COLD. World stopped. Empties every window (cells not handed out are free again), clears marks. The collector sets
  // phase kMark right after. REQUIRES: sweep_done().
  virtual void begin_mark() = 0;
  // COLD. World stopped, marking complete. Empties every window again; from here everything unmarked is dead. The
  // collector sets kSweep right after.
  virtual void begin_sweep() = 0;
  // WARM. Sweeps up to `units` pieces (spans, or 1 MiB chunks). Any M with a P, several at once. False when nothing was
  // left to take: others may still be at what they took. No safepoint inside, no parking. `p` is the caller's. Not called
  // between the call of finish_sweep() and the next begin_sweep().
  virtual bool sweep(P& p, std::size_t units) = 0;
  // Any thread. True when every piece is swept and marks may be reused: the collector then sets kIdle.
  virtual bool sweep_done() const = 0;
  // COLD. Called once a cycle, by one M, when a sweep() has returned false and nobody is inside sweep(): the collector
  // sees to both, so an allocator need not count who sweeps. What its own refills sweep it knows itself, and waits for.
  // World running or stopped. Makes sweep_done() true.
  virtual void finish_sweep() = 0;

  // COLD. World stopped: every object, live or not yet swept, in address order, for verifiers and statistics.
  virtual void enumerate(void (*visit)(void* context, const Object& object), void* context) = 0;

  // COLD. One step of giving free memory back to the kernel, if more than keep_bytes is resident: at most some MiB, no
  // safepoint inside, no lock that a refill needs held over the system call. True: there may be more, call again. The
  // collector calls it after a sweep. Any M with a P, several at once; not in kMark.
  virtual bool release_free_memory(std::uint64_t keep_bytes) = 0;

  virtual AllocatorStats stats() const = 0;  // any thread, while others allocate; what is seen may be old
  virtual void counters(CounterVisitor&) const {}
  // COLD. Checks every invariant, O(heap). World stopped. `checked` builds call it once for each sweep, after its end:
  // in the pause that ends it, or else in the one that begins the next mark.
  virtual void check() const {}
};

}  // namespace gearbox
