// Scheduler: decides which runnable G a P runs next, and whom to wake. It switches no stacks, blocks nothing, allocates
// nothing while running. Callers are the runtime and its timers and poller. HOT methods run once per goroutine switch.
//
// The runtime's worker loop on each M that owns a P:
//
//     g = pick_local(p)                on the parking goroutine's stack, so that G -> G is one switch
//     if none: switch to the M's stack; run due timers; g = pick_next(p)
//     pick_next finds nothing: it called World::prepare_to_park(p), looked once more, and returns null: the M has no P
//     now and sleeps
//
// Idle protocol. Between "found nothing" and "asleep" work may arrive. The policy closes that window; each side publishes
// before it looks, with a full fence between, so that one of the two sees the other:
//
//     the M that parks p                              whoever makes a G runnable
//     pick_next(p) finds nothing
//     prepare_to_park(p): p is idle                   enqueue(): the G is in a queue
//     full fence                                      full fence
//     looks at every queue again                      looks whether a P is idle and nobody is on the way to this G
//       nothing: returns null                           so it is: wake_one_parked_p()
//       something: cancel_park(p)                         true: an M begins with on_woken(p), then picks
//         true: p is its own again, it picks on           false: no P was idle any more; others may have left their
//         false: see below                                       work to this very wake, and are told or looked after
//
// cancel_park(p) says false when another M has taken p: one that a wake chose, and will search; or one that came back from
// the poller or with a timer, took an idle P for what it brings, and runs that. The second kind begins without on_woken(),
// may be busy for ever, and need not search. All that is left is to return null. But whoever saw the first M searching
// may have left work to it:
//
//     M 1 searches with p                             M 2                        M 3, from the poller
//     finds nothing; prepare_to_park(p)
//                                                     queues a G; M 1 still
//                                                     counts as a searcher:
//                                                     wakes nobody
//                                                                                takes p, runs what it brings
//     looks again: the G; cancel_park(p): false
//     wakes another P, then returns null
//
// So a policy whose enqueue() or parking relies on others that search wakes another before it returns null. A policy that
// wakes for every G, or in which each M that takes a P looks at every queue, has nothing to do there.
//
// A policy holds no lock of its own in any call of the World: that may take locks, start threads, and let others act.
#pragma once

#include <cstdint>

#include "interfaces/goroutine.h"
#include "interfaces/option.h"

namespace gearbox {

enum class Why : std::uint8_t {
  kSpawned,    // go(): new G by the current G
  kReadied,    // unparked by a running G (channel, mutex, timer on this P)
  kYielded,    // gosched()
  kPreempted,  // its slice was over
  kInjected,   // from outside any P: poller, foreign thread, a system call that came back and found no P
  // Unparked by a running G that yields or parks next, so that this P is free for it. It goes before all others, and
  // nobody is woken for it: waking can cost the waker its CPU. From outside any P it is as kInjected.
  kHandedOver,
};

class Scheduler {
 public:
  virtual ~Scheduler() = default;

  // HOT. Makes g runnable. p is the P the caller owns, or kNoP from outside.
  // REQUIRES: g->status is kRunnable, g is in no queue, its context is saved or will be before anything can pick it
  // (see runtime/sched.cc, S1).
  // ENSURES:  exactly one later pick returns g; a parked P is woken if the policy finds nobody searching ("Idle
  // protocol").
  virtual void enqueue(G* g, PId p, Why why) = 0;

  // WARM. The same for a list, in order, with one lock and fewer wakes where the policy can. `list` becomes empty.
  virtual void enqueue_all(GList& list, PId p, Why why) {
    while (G* g = list.pop_front()) enqueue(g, p, why);
  }

  // HOT. The next G for p from p's own queue, without searching elsewhere, waking or blocking; null when that is empty,
  // or when p was woken to search (on_woken) and has not found its first G: that one comes from pick_next().
  // REQUIRES: the calling thread owns p. May run on any stack.
  // inherit_slice is set when g continues the slice of the G that readied it (Go's runnext rule), so that a pair cannot
  // starve others.
  virtual G* pick_local(PId p, bool& inherit_slice) = 0;

  // WARM. The next G for p after a full search, or null with p given up (see "Idle protocol"). On the M's own stack.
  virtual G* pick_next(PId p, bool& inherit_slice) = 0;

  // WARM. The M that was woken for p by wake_one_parked_p() begins here, before its first pick_next (Go: it starts
  // spinning).
  virtual void on_woken(PId) {}

  // COLD. The slice of p was cut short (preemption). Whatever would have inherited the rest of it goes behind what p has
  // queued; else a pair that readies each other keeps p for ever. REQUIRES: the calling thread owns p.
  virtual void on_slice_over(PId) {}

  // COLD. sysmon, about every slice, any thread: a policy that ages or balances does it here.
  virtual void on_tick(std::int64_t now_ns) { (void)now_ns; }

  // COLD. World stopped or not started. p_removed moves p's queue to where others find it.
  virtual void p_added(PId p) = 0;
  virtual void p_removed(PId p) = 0;

  // A hint, any thread: is anything runnable? Used by workers that run only when nobody else wants to.
  virtual bool has_runnable() const = 0;

  virtual void counters(CounterVisitor&) const {}
  // COLD. Checks every invariant, O(queued). World stopped. `checked` builds call it when the world is stopped.
  virtual void check() const {}
};

}  // namespace gearbox
