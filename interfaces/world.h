// World: the runtime as the gears see it. Implemented by runtime/; a test may implement a small one of its own
// (tests/contract/).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/lock.h"
#include "interfaces/goroutine.h"
#include "interfaces/processor.h"

namespace gearbox {

struct Heap;

// What the user asked the whole runtime for and gears must honour.
struct WorldConfig {
  std::uint64_t seed = 1;
  std::uint64_t stress_alloc = 0;  // force a collection at every N-th on_refill; 0 off
  bool checkmark = false;          // verify each mark in a pause
};

class World {
 public:
  virtual ~World() = default;
  virtual const WorldConfig& config() const = 0;

  // ---- Ps. Any thread.
  virtual PId p_count() const = 0;       // GOMAXPROCS; changes only while the world is stopped
  virtual P& p(PId id) = 0;              // REQUIRES: id < p_count(), or was so once (removed Ps stay readable)
  virtual PId idle_p_count() const = 0;  // a hint, racy by nature
  // Is anybody runnable who is not running (Scheduler::has_runnable)? A hint, O(Ps): whether a worker that goes on
  // takes a CPU from somebody.
  virtual bool has_runnable() const = 0;

  // ---- Parking Ps (for schedulers). The protocol, and what each of the two answers means, is told once: in
  // interfaces/scheduler.h, "Idle protocol". A policy holds no lock of its own in a call of the World.
  // Puts p on the idle list: from here any M may take it. Called by its owner, which from here no longer owns it.
  virtual void prepare_to_park(PId p) = 0;
  // Takes p back. False if another M has taken it, for whatever reason; the caller owns no P then.
  virtual bool cancel_park(PId p) = 0;
  // Chooses an idle P, if there is one, and an M to run it, which begins with Scheduler::on_woken(p). False if no P was
  // idle, or no M can be had. Any thread.
  virtual bool wake_one_parked_p() = 0;

  // ---- Goroutines, for gears that have workers of their own. On a goroutine unless said otherwise.
  // A system goroutine: not counted by num_goroutine, no reason for the program to stay alive. name: a constant string
  // for traces.
  virtual void spawn_system(std::function<void()> body, const char* name) = 0;
  // Parks the current G; `lock` is released after the G has left its stack, so a ready() under the lock cannot be lost.
  virtual void park_and_unlock(SpinLock& lock, const char* why) GEARBOX_RELEASE(lock) = 0;
  // Makes a parked G runnable. Any thread; once per park.
  virtual void ready(G* g) = 0;
  // The same, on a goroutine that yields or parks next: g goes on in its place, and no other thread is woken for it.
  virtual void hand_over(G* g) = 0;
  virtual void yield() = 0;                    // lets others run
  virtual void sleep_ns(std::int64_t ns) = 0;  // the goroutine
  // Runs f on the M's own stack with the current G's context saved, so that its whole stack can be scanned; f must not
  // park. COLD.
  virtual void on_system_stack(void (*f)(void*), void* argument) = 0;

  // ---- Stopping the world (for collectors). On a goroutine, or on_system_stack.
  // When stop_the_world() returns, every other P is idle, in a system call, or held at a safepoint with its G's context
  // saved; the caller's own G is running: its stack must be scanned from on_system_stack. Serialised: a second caller
  // waits (at a safepoint) until the first has restarted. Returns the nanoseconds from the request until every P had
  // stopped.
  virtual std::int64_t stop_the_world(const char* why) = 0;
  // Returns the moment (CLOCK_MONOTONIC, ns) at which the world was released: the end of the pause. The call itself may
  // return much later, since it wakes threads, and one of them may get this thread's CPU.
  virtual std::int64_t start_the_world() = 0;

  // ---- Roots. g_slots() only grows.
  virtual std::size_t g_slots() const = 0;
  // The G in a slot, or null if it was never used. Its status says whether it has a stack worth scanning (not kDead).
  virtual G* g_at(std::size_t slot) = 0;
  // Concurrent mark: calls visit(context, g) for every G in slots [group * kSlotsAGroup, + kSlotsAGroup) that is not
  // dead, and skips, without touching them, groups in which nobody lived when the scan was armed.
  // REQUIRES: each group below g_slots() is visited at least once between two arm_stack_scan().
  virtual void visit_gs(std::size_t group, void (*visit)(void* context, G* g), void* context) = 0;
  // The words of a G's saved stack: calls visit(context, first, count) for [sp - 128, stack_hi) and for words kept
  // beside it. REQUIRES: g's context is saved and cannot run meanwhile (claimed, or world stopped).
  virtual void visit_stack(G* g, void (*visit)(void* context, const std::uintptr_t* first, std::size_t count),
                           void* context) = 0;
  // All other roots, split in jobs that may run at the same time on different Ms, world running or stopped: words to be
  // looked at conservatively.
  virtual std::size_t root_jobs() const = 0;
  virtual void visit_roots(std::size_t job,
                           void (*visit)(void* context, const std::uintptr_t* first, std::size_t count),
                           void* context) = 0;
  // Whether each word of that job is null or a reference. Otherwise words may look like one and be none: they keep
  // what they hit, and prove nothing.
  virtual bool root_job_is_exact(std::size_t job) const {
    (void)job;
    return true;
  }
  // Threads without a P (foreign ones, goroutines in blocking calls) change Roots while the world is stopped, too. What
  // they would have shaded since set_marking(true): handed over and forgotten. World stopped. Every mark takes it after
  // the last root job, and drains: what such a thread can still get hold of after that is marked.
  virtual void take_shaded(void (*visit)(void* context, const std::uintptr_t* first, std::size_t count),
                           void* context) {
    (void)visit, (void)context;
  }
  // World stopped. O(Ps): every G is kUnscanned, scanning flags go up. Returns the scan's epoch: a G is scanned when
  // its `scan` is scan_word(epoch, kScanned).
  virtual std::uint32_t arm_stack_scan() = 0;
  virtual void disarm_stack_scan() = 0;  // world stopped
  // World stopped: P::marking of every P, and the barrier of threads without one. A collector that marks in a pause
  // sets it, too, for their sake.
  virtual void set_marking(bool on) = 0;

  // ---- Finalizers. Objects that have one: what they reach is kept until it has run, they themselves are not. Split in
  // jobs, each well under a millisecond with a million of them; several may run at the same time, on different Ms, with
  // the world running or stopped. 0 jobs: nobody has a finalizer.
  virtual std::size_t finalizer_jobs() const = 0;
  // While marking: payload addresses of objects with finalizers; the collector scans their fields without marking the
  // objects. One that is given its finalizer after its job was visited is in the hands of a goroutine, and so marked as
  // anything else.
  virtual void visit_finalizer_objects(std::size_t job, void (*visit)(void* context, void* payload), void* context) = 0;
  // Marking is complete and nothing has been swept: what is unmarked now can never be reached again, and what is
  // allocated meanwhile is born marked. For each object with a finalizer for which is_dead() says true, queues the
  // finalizer; the collector marks the object (resurrection) inside is_dead. The finalizer may run at once.
  virtual void queue_dead_finalizers(std::size_t job, bool (*is_dead)(void* context, void* payload), void* context) = 0;
};

}  // namespace gearbox
