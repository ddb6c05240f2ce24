// concurrent: marks while goroutines run. Tri-colour with the hybrid barrier, stacks scanned one at a time, Go's
// termination, lazy and background sweep.
//
// Idea.       White is unmarked, grey is marked and in a chunk, black is marked and scanned. With the world stopped for
//             a moment the barrier goes up and every stack is declared unscanned; from then on each goroutine's stack
//             is scanned once, before it runs again or by a worker. The barrier's deletion half keeps everything that
//             was reachable at that moment, its insertion half covers what a black stack or a Root gets to see later.
//             New objects are born black. When nothing is grey any more, a second pause makes sure and the sweep
//             begins.
// Structure.  The coordinator, a system goroutine, runs the cycle from end to end; helpers, one a P, mark along. Marker
//             (marker.h) is the inner loop, GreyPool (grey.h) holds grey objects between two pieces of work, Pacer
//             (pacer.h) says when to begin and what assists owe, Checkmark verifies.
// Invariants. C1  No stack is scanned before every P has seen the barrier up.
//             C2  Grey objects are in the pool, in a Marker that is active, or in a P's write buffer; nowhere else.
//             C3  A cycle begins only when the last one's sweep is done.
//             C4  Marking ends in a pause in which the pool is empty, nobody is active, all roots are taken, and all
//                 write buffers have been flushed.
// Threads.    on_refill, collect: any goroutine, may park. flush_write_buffer, shade_words, scan_before_run: any M with
//             a P, no parking. lock_ guards who waits and which cycle is wanted; it is never held together with another
//             lock but World's own.
// Starters.   Whoever wants a cycle raises wanted_ to a number; only the coordinator runs cycles, until started_ has
//             reached it. A cycle serves those who asked before its first pause; collect() during a cycle waits for the
//             next one, because this one keeps what was reachable when it began.
// Rejected.   A ragged barrier that flushes every P before the second pause (Go's): here the pause itself drains what
//             the buffers still held, up to a limit, and gives up if there is more; that is one protocol fewer. The
//             starter running the first pause itself: two starters would race. Leaving grey objects in the P between
//             pieces of work: the end of marking would have to visit every P to know.
// Cost.       Pauses: O(Ps) plus the runtime's arming of its goroutines, plus at most pause_work_kib of marking.
//             Nothing in them grows with the heap.
// Weak spot.  Two processors: workers take theirs from the mutators, and a starved coordinator ends a cycle late.
#include <utility>

#include "base/check.h"
#include "base/os/clock.h"
#include "collectors/concurrent/state.h"
#include "interfaces/current.h"
#include "interfaces/registry.h"

namespace gearbox::collectors {
namespace concurrent_parts {

// ---- the mutators' side

void Concurrent::on_refill(std::size_t bytes) {
  const std::uint64_t stress = world_.config().stress_alloc;
  if (stress != 0 && refills_.fetch_add(1, std::memory_order_relaxed) % stress == stress - 1) {
    want(1);
    world_.yield();
  }
  const GcPhase phase = heap_->phase.load(std::memory_order_relaxed);
  if (phase == GcPhase::kMark) {
    if (options_.assists) assist(*current_p());
    return;
  }
  const std::uint64_t live = heap_->live_bytes.load(std::memory_order_relaxed) + bytes;
  if (live < pacer_.trigger()) [[likely]]
    return;
  // The coordinator may be behind a goroutine that does not yield; so this one does, and, past the goal, at every
  // refill until the cycle has begun.
  if (phase == GcPhase::kSweep) allocator_->sweep(*current_p(), kSweepUnitsLate);
  bool ask;
  {
    Guard<SpinLock> hold(lock_);
    ask = wanted_ <= started_;
  }
  if (ask) want(1);
  if (ask || live >= pacer_.goal()) world_.yield();
}

void Concurrent::assist(P& p) {
  Account& account = accounts_[p.id];
  const std::uint64_t cycle = cycle_.load(std::memory_order_relaxed);
  const std::uint64_t allocated = p.cache.allocated_bytes;
  if (account.cycle != cycle) {
    account.cycle = cycle;
    account.debt_bytes = 0;
  } else if (allocated > account.seen_allocated) {
    account.debt_bytes += static_cast<double>(allocated - account.seen_allocated) * pacer_.work_per_byte();
  }
  account.seen_allocated = allocated;
  if (account.debt_bytes < kAssistChunkBytes) return;
  // What workers have marked beyond need pays first.
  std::int64_t credit = credit_bytes_.load(std::memory_order_relaxed);
  while (credit > 0) {
    const std::int64_t used = std::min(credit, static_cast<std::int64_t>(account.debt_bytes));
    if (!credit_bytes_.compare_exchange_weak(credit, credit - used, std::memory_order_relaxed)) continue;
    account.debt_bytes -= static_cast<double>(used);
    break;
  }
  if (account.debt_bytes < kAssistChunkBytes) return;
  const std::int64_t began = os::monotonic_ns();
  std::uint64_t marked = 0;
  const bool more = work_slice(static_cast<std::uint64_t>(account.debt_bytes), assist_bytes_, marked);
  account.debt_bytes -= static_cast<double>(marked);
  assists_.fetch_add(1, std::memory_order_relaxed);
  cpu_ns_.fetch_add(os::monotonic_ns() - began, std::memory_order_relaxed);
  if (!more) {
    account.debt_bytes = 0;
    world_.yield();  // nothing left to mark: let the coordinator see that
  }
}

void Concurrent::flush_write_buffer(P& p) {
  WriteBuffer& buffer = p.write_buffer;
  if (p.marking) {
    Marker marker(marking_);
    for (std::uint32_t i = 0; i < buffer.count; ++i) marker.grey_word(buffer.entries[i]);
  }
  buffer.count = 0;
}

void Concurrent::scan_before_run(G* g) {
  if (g->scan.load(std::memory_order_acquire) == ScanState::kScanned) return;  // partner: scan_g()
  {
    Marker marker(marking_);
    scan_g(marker, g);
  }
  while (g->scan.load(std::memory_order_acquire) != ScanState::kScanned)
    os::yield_thread();  // a worker has it; partner: scan_g()
  scanned_before_run_.fetch_add(1, std::memory_order_relaxed);
}

// Scans g's stack if nobody else does. g's context is saved, and g is not run before it is kScanned.
void Concurrent::scan_g(Marker& marker, G* g) {
  ScanState unscanned = ScanState::kUnscanned;
  if (!g->scan.compare_exchange_strong(unscanned, ScanState::kScanning, std::memory_order_acquire))
    return;  // partner: the release below
  world_.visit_stack(g, Marker::look_at_words, &marker);
  g->scan.store(ScanState::kScanned,
                std::memory_order_release);  // partner: scan_before_run(), of the M that will run it
}

// ---- asking for cycles, waiting for them

// Raises the number of cycles wanted to that many after the last one started. Any goroutine.
void Concurrent::want(std::uint64_t cycles_from_started) {
  G* coordinator = nullptr;
  {
    Guard<SpinLock> hold(lock_);
    wanted_ = std::max(wanted_, started_ + cycles_from_started);
    std::swap(coordinator, parked_coordinator_);
  }
  if (coordinator != nullptr) world_.ready(coordinator);
}

void Concurrent::collect(GcReason) {
  lock_.lock();
  const std::uint64_t cycle = started_ + 1;
  wanted_ = std::max(wanted_, cycle);
  while (completed_ < cycle && !stopping_) {
    G* coordinator = std::exchange(parked_coordinator_, nullptr);
    waiters_.push_back({current_g(), cycle});
    if (coordinator != nullptr) {
      // Its wake-up may run before we park: we are on the list, and the lock is what keeps it from looking.
      world_.ready(coordinator);
    }
    world_.park_and_unlock(lock_, "garbage collection");
    lock_.lock();
  }
  lock_.unlock();
}

void Concurrent::stop() {
  lock_.lock();
  stopping_ = true;
  G* coordinator = std::exchange(parked_coordinator_, nullptr);
  if (coordinator != nullptr) world_.ready(coordinator);
  while (!ended_) {
    waiters_.push_back({current_g(), ~std::uint64_t{0}});
    world_.park_and_unlock(lock_, "collector stops");
    lock_.lock();
  }
  lock_.unlock();
  wake_helpers();
}

void Concurrent::wake_waiters() {
  std::vector<G*> due;
  {
    Guard<SpinLock> hold(lock_);
    std::erase_if(waiters_, [&](const Waiter& waiter) {
      if (completed_ < waiter.cycle && !ended_) return false;
      due.push_back(waiter.g);
      return true;
    });
  }
  for (G* g : due) world_.ready(g);
}

void Concurrent::wake_helpers() {
  std::vector<G*> helpers;
  {
    Guard<SpinLock> hold(lock_);
    helpers.swap(parked_helpers_);
  }
  for (G* g : helpers) world_.ready(g);
}

// ---- the coordinator and its helpers

void Concurrent::coordinate() {
  for (;;) {
    lock_.lock();
    if (stopping_) break;
    if (wanted_ <= started_) {
      parked_coordinator_ = current_g();
      world_.park_and_unlock(lock_, "no collection wanted");
      continue;
    }
    lock_.unlock();
    run_cycle();
  }
  ended_ = true;
  lock_.unlock();
  wake_waiters();
}

void Concurrent::run_cycle() {
  begin_cycle();
  wake_helpers();
  for (;;) {
    const std::int64_t began = os::monotonic_ns();
    std::uint64_t marked = 0;
    const bool more = work_slice(kSliceBytes, worker_bytes_, marked);
    credit_bytes_.fetch_add(static_cast<std::int64_t>(marked), std::memory_order_relaxed);
    const std::int64_t worked = os::monotonic_ns() - began;
    cpu_ns_.fetch_add(worked, std::memory_order_relaxed);
    if (!more && run_dry()) {
      if (end_cycle()) break;
      restarts_.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    if (marking_.pool.chunks() > 1) wake_helpers();
    keep_to_share(worked);
  }
  sweep_all(true);
  {
    Guard<SpinLock> hold(lock_);
    completed_ = started_;
  }
  wake_waiters();
  give_memory_back();
}

void Concurrent::help() {
  for (;;) {
    lock_.lock();
    if (stopping_ && ended_) {
      lock_.unlock();
      return;
    }
    parked_helpers_.push_back(current_g());
    world_.park_and_unlock(lock_, "nothing to mark");
    bool more = true;
    while (more && heap_->phase.load(std::memory_order_relaxed) == GcPhase::kMark) {
      const std::int64_t began = os::monotonic_ns();
      std::uint64_t marked = 0;
      more = work_slice(kSliceBytes, worker_bytes_, marked);
      credit_bytes_.fetch_add(static_cast<std::int64_t>(marked), std::memory_order_relaxed);
      const std::int64_t worked = os::monotonic_ns() - began;
      cpu_ns_.fetch_add(worked, std::memory_order_relaxed);
      keep_to_share(worked);
    }
  }
}

// Lets others run; and sleeps if workers have had more than their share while somebody wants to run. At a safepoint
// afterwards.
void Concurrent::keep_to_share(std::int64_t worked_ns) {
  const std::int64_t used = share_used_ns_.fetch_add(worked_ns, std::memory_order_relaxed) + worked_ns;
  if (options_.idle_marking && world_.idle_p_count() > 0) return world_.yield();
  const double rate = static_cast<double>(options_.utilisation_pct) / 100 * static_cast<double>(world_.p_count());
  const double earned = static_cast<double>(os::monotonic_ns() - mark_began_ns_) * rate;
  const double over = (static_cast<double>(used) - earned) / rate;
  constexpr double kWorthIt = 50e3, kLongest = 1e6;
  if (over < kWorthIt) return world_.yield();
  world_.sleep_ns(static_cast<std::int64_t>(std::min(over, kLongest)));
}

// One piece of marking; no safepoint inside. False when nothing was left to do.
bool Concurrent::work_slice(std::uint64_t bytes, std::atomic<std::uint64_t>& counter, std::uint64_t& marked) {
  const P& p = *current_p();
  Marker marker(marking_);
  // The phase may have ended between the caller's look at it and here, in a park; not from here on.
  if (heap_->phase.load(std::memory_order_relaxed) != GcPhase::kMark) return false;
  bool more = true;
  while (more) {
    more = marker.drain(p, bytes - std::min(bytes, marker.marked_bytes()));
    if (more) break;
    more = take_root_job(marker);
    if (more && (marker.marked_bytes() >= bytes || p.attention.load(std::memory_order_relaxed) != 0)) break;
  }
  marked = marker.marked_bytes();
  counter.fetch_add(marked, std::memory_order_relaxed);
  return more;
}

bool Concurrent::take_root_job(Marker& marker) {
  if (next_job_.load(std::memory_order_relaxed) >= jobs_) return false;
  const std::size_t job = next_job_.fetch_add(1, std::memory_order_relaxed);
  if (job >= jobs_) return false;
  if (job < world_jobs_) {
    world_.visit_roots(job, Marker::look_at_words, &marker);
  } else if (job == world_jobs_) {
    struct Context {
      Marker& marker;
      const Heap& heap;
    } context{marker, *heap_};
    // What a finalizer will see must live; the object itself need not.
    world_.visit_finalizer_objects(
        [](void* c, void* payload) {
          auto& [marker, heap] = *static_cast<Context*>(c);
          const Object object = find_object(heap, reinterpret_cast<std::uintptr_t>(payload));
          for_each_slot(object, [&](auto* slot) {
            marker.grey_word(slot->load(std::memory_order_acquire));
          });  // partner: Ref::store()
        },
        &context);
  } else {
    const std::size_t first = (job - world_jobs_ - 1) * kSlotsAJob;
    for (std::size_t slot = first; slot < std::min(first + kSlotsAJob, slots_); ++slot) {
      G* g = world_.g_at(slot);
      if (g != nullptr && g->status.load(std::memory_order_acquire) != GStatus::kDead) scan_g(marker, g);
    }
  }
  return true;
}

CollectorStats Concurrent::stats() const {
  Guard<SpinLock> hold(stats_lock_);
  CollectorStats stats = stats_;
  stats.cpu_ns = cpu_ns_.load(std::memory_order_relaxed);
  stats.assists = assists_.load(std::memory_order_relaxed);
  return stats;
}

}  // namespace concurrent_parts

CollectorEntry concurrent() {
  return make_entry<concurrent_parts::Concurrent, concurrent_parts::Options>(EntryFacts<CollectorTraits>{
      .name = "concurrent",
      .summary = "Marks while goroutines run: hybrid barrier, stacks scanned one at a time, two short pauses (Go's).",
      .traits = {.frees = true, .concurrent_mark = true, .concurrent_sweep = true},
  });
}

}  // namespace gearbox::collectors
