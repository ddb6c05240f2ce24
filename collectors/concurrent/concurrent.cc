// concurrent: marks while goroutines run. Tri-colour with the hybrid barrier, stacks scanned one at a time, Go's
// termination, lazy and background sweep.
//
// Idea.       White is unmarked, grey is marked and in a chunk, black is marked and scanned. With the world stopped for
//             a moment the barrier goes up and every stack is declared unscanned; from then on each goroutine's stack
//             is scanned once, before it runs again or by a worker. The barrier's deletion half keeps everything that
//             was reachable at that moment, its insertion half covers what a black stack or a Root gets to see later.
//             New objects are born black. When nothing is grey any more, a second pause makes sure. What is white then
//             can never be reached again, whatever the program does: so objects with finalizers that died are looked for
//             with the world running, and a third pause begins the sweep. Without finalizers the second one does.
// Structure.  The coordinator, a system goroutine, begins each cycle and sweeps behind it; helpers mark along. Whoever
//             finds that marking has run dry, a worker or a goroutine that assists, runs the second pause: a
//             coordinator that waits for a CPU holds nothing up. Marker (marker.h) is the inner loop, GreyPool (grey.h)
//             holds grey objects between two pieces of work, Pacer (pacer.h) says when to begin and what assists owe,
//             Checkmark verifies.
// Invariants. C1  No stack is scanned before every P has seen the barrier up.
//             C2  Grey objects are in the pool, in a Marker, or in a P's write buffer; nowhere else. No Marker outlives
//                 a safepoint.
//             C3  A cycle begins only when the last one's sweep is done.
//             C4  Marking ends in a pause in which the pool is empty, all roots are taken, and all write buffers have
//                 been flushed.
//             C5  One at a time tries the second pause (ending_), and it is the pause that decides: inside, phase and
//                 pool are looked at again, so that a late try does no harm.
//             C6  The sweep's end is told to the allocator once, with nobody inside sweep(). The coordinator raises
//                 sweep_closed_ and waits for sweepers_; whoever sweeps is counted in sweepers_ and then looks at
//                 sweep_closed_. One of the two sees the other.
//             C7  Between the second pause and the third the barrier is down and stacks are not looked at: all that a
//                 goroutine can get hold of is marked or born marked, and nothing is freed.
//             C8  completed_ moves when all of the cycle's pauses are counted in stats_.
// Shares.     Workers may use utilisation_pct of all Ps' time. Below that they do not give way, since a yield costs them
//             a turn of everybody else; above it they go on only while no goroutine waits for a CPU. What marking takes
//             beyond that is done by assists, in proportion to what each goroutine allocates. A debt that cannot be
//             paid, because all that is left is in other hands, stays; past the goal, its goroutine waits.
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
//             Confirming in the second pause what was found dead before it: a cycle in which a million objects die has
//             a million to confirm. Having the sweep find them, span by span (Go's): every allocator would have to know
//             finalizers, and ask about them before it takes a cell.
// Cost.       Pauses: O(Ps), plus at most pause_work_kib of marking. Nothing in them grows with the heap, with the number
//             of goroutines or with the number of finalizers; a program with finalizers pays for a third pause.
// Weak spot.  Two processors: workers take theirs from the mutators, and a cycle begins late when the coordinator waits
//             behind goroutines that do not allocate.
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
  const std::uint64_t live = heap_->live_bytes.load(std::memory_order_relaxed) + bytes;
  if (phase == GcPhase::kMark) {
    if (!marking_now()) {
      if (live >= pacer_.goal()) world_.yield();  // the coordinator has deaths to find, and then begins the sweep
    } else if (options_.assists) {
      assist(*current_p());
    }
    return;
  }
  if (live < pacer_.trigger()) [[likely]]
    return;
  // The coordinator may be behind a goroutine that does not yield; so this one does, and, past the goal, at every
  // refill until the cycle has begun.
  if (phase == GcPhase::kSweep) sweep_step(kSweepUnitsLate);
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
    account.pays_from_bytes = kAssistChunkBytes;
  } else if (allocated > account.seen_allocated) {
    account.debt_bytes += static_cast<double>(allocated - account.seen_allocated) * pacer_.work_per_byte();
  }
  account.seen_allocated = allocated;
  if (account.debt_bytes < account.pays_from_bytes) return;
  // What workers have done beyond need pays first.
  std::int64_t credit = credit_bytes_.load(std::memory_order_relaxed);
  while (credit > 0) {
    const std::int64_t used = std::min(credit, static_cast<std::int64_t>(account.debt_bytes));
    if (!credit_bytes_.compare_exchange_weak(credit, credit - used, std::memory_order_relaxed)) continue;
    account.debt_bytes -= static_cast<double>(used);
    break;
  }
  account.pays_from_bytes = kAssistChunkBytes;
  if (account.debt_bytes < kAssistChunkBytes) return;
  const std::int64_t began = os::monotonic_ns();
  bool more = true;
  while (more && account.debt_bytes > 0 && p.attention.load(std::memory_order_relaxed) == 0) {
    std::uint64_t done = 0;
    more = work_slice(std::min(static_cast<std::uint64_t>(account.debt_bytes), kSliceBytes), assist_bytes_, done);
    account.debt_bytes -= static_cast<double>(done);
  }
  assists_.fetch_add(1, std::memory_order_relaxed);
  cpu_ns_.fetch_add(os::monotonic_ns() - began, std::memory_order_relaxed);
  if (more) return;
  if (run_dry()) {
    account.debt_bytes = 0;
    try_end_mark();
    return;
  }
  // What is left is in other hands.
  account.pays_from_bytes = account.debt_bytes + kAssistChunkBytes;
  if (heap_->live_bytes.load(std::memory_order_relaxed) >= pacer_.goal())
    world_.sleep_ns(kOutOfSightNs);
  else
    world_.yield();
}

void Concurrent::flush_write_buffer(P& p) {
  WriteBuffer& buffer = p.write_buffer;
  if (p.marking && buffer.count != 0) {
    const std::int64_t began = os::monotonic_ns();
    {
      Marker marker(marking_, Piece::kShort);
      for (std::uint32_t i = 0; i < buffer.count; ++i) marker.grey_word(buffer.entries[i]);
    }
    cpu_ns_.fetch_add(os::monotonic_ns() - began, std::memory_order_relaxed);
  }
  buffer.count = 0;
}

void Concurrent::scan_before_run(G* g) {
  const std::uint32_t scanned = scan_word(scan_epoch_, ScanState::kScanned);
  if (g->scan.load(std::memory_order_acquire) == scanned) return;  // partner: scan_g()
  const std::int64_t began = os::monotonic_ns();
  {
    Marker marker(marking_, Piece::kShort);
    scan_g(marker, g);
  }
  while (g->scan.load(std::memory_order_acquire) != scanned) os::yield_thread();  // a worker has it; partner: scan_g()
  scanned_before_run_.fetch_add(1, std::memory_order_relaxed);
  cpu_ns_.fetch_add(os::monotonic_ns() - began, std::memory_order_relaxed);
}

// Scans g's stack if nobody else does. g's context is saved, and g is not run before it is kScanned.
void Concurrent::scan_g(Marker& marker, G* g) {
  const std::uint32_t scanning = scan_word(scan_epoch_, ScanState::kScanning);
  const std::uint32_t scanned = scan_word(scan_epoch_, ScanState::kScanned);
  std::uint32_t word = g->scan.load(std::memory_order_relaxed);
  if (word == scanning || word == scanned) return;
  // partner: the release below. A G that died and was born again since the load is kScanned, and this fails.
  if (!g->scan.compare_exchange_strong(word, scanning, std::memory_order_acquire)) return;
  world_.visit_stack(g, Marker::look_at_words, &marker);
  g->scan.store(scanned, std::memory_order_release);  // partner: scan_before_run(), of the M that will run it
}

// ---- asking for cycles, waiting for them

// Raises the number of cycles wanted to that many after the last one started. Any goroutine, which yields next.
void Concurrent::want(std::uint64_t cycles_from_started) {
  G* coordinator = nullptr;
  {
    Guard<SpinLock> hold(lock_);
    wanted_ = std::max(wanted_, started_ + cycles_from_started);
    std::swap(coordinator, parked_coordinator_);
  }
  if (coordinator != nullptr) world_.hand_over(coordinator);
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
      world_.hand_over(coordinator);
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
  if (coordinator != nullptr) world_.hand_over(coordinator);
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

// Each worker that sees work in the pool wakes one more, so that many are awake soon, and none for nothing.
void Concurrent::wake_one_helper() {
  if (world_.idle_p_count() == 0 && over_share_ns() > 0) return;
  G* helper = nullptr;
  {
    Guard<SpinLock> hold(lock_);
    if (!parked_helpers_.empty()) {
      helper = parked_helpers_.back();
      parked_helpers_.pop_back();
    }
  }
  if (helper != nullptr) world_.ready(helper);
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
  std::uint32_t slices = 0;
  while (marking_now()) {
    if (worker_slice())
      keep_to_share(slices);
    else if (run_dry())
      try_end_mark();
    else
      world_.sleep_ns(kOutOfSightNs);  // whoever holds the rest gives half of it to the pool, or ends the mark itself
  }
  while (ending_.load(std::memory_order_acquire)) world_.yield();  // C8; partner: try_end_mark()
  if (heap_->phase.load(std::memory_order_relaxed) == GcPhase::kMark) {
    find_deaths();
    end_deaths();
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
    std::uint32_t slices = 0;
    while (marking_now()) {
      keep_to_share(slices);
      if (worker_slice()) continue;
      if (!run_dry()) break;
      try_end_mark();
    }
  }
}

// The second pause, if nobody else is trying (C5). On a goroutine, at a safepoint afterwards.
void Concurrent::try_end_mark() {
  if (ending_.exchange(true, std::memory_order_acquire)) return world_.yield();
  if (marking_now() && !end_cycle()) restarts_.fetch_add(1, std::memory_order_relaxed);
  ending_.store(false, std::memory_order_release);  // partner: run_cycle()
}

// How much longer workers must rest before they have had no more than their share of this mark; negative while below.
std::int64_t Concurrent::over_share_ns() const {
  const double rate = static_cast<double>(options_.utilisation_pct) / 100 * static_cast<double>(world_.p_count());
  const auto used = static_cast<double>(share_used_ns_.load(std::memory_order_relaxed));
  return static_cast<std::int64_t>(used / rate) - (os::monotonic_ns() - mark_began_ns_.load(std::memory_order_relaxed));
}

// Between two slices of a worker: see "Shares". At a safepoint afterwards.
void Concurrent::keep_to_share(std::uint32_t& slices) {
  constexpr std::int64_t kWorthIt = 50'000, kLongest = 1'000'000;
  constexpr std::uint32_t kLookAround = 4;  // slices on an idle P between two yields, for its timers and its poller
  ++slices;
  const bool asked = current_p()->attention.load(std::memory_order_relaxed) != 0;
  const bool others = world_.has_runnable();
  const bool over = over_share_ns() >= kWorthIt;
  if (over && (others || !options_.idle_marking)) {
    world_.yield();  // behind all that are runnable
    if (options_.idle_marking && !world_.has_runnable()) return;
    const std::int64_t rest = over_share_ns();
    if (rest >= kWorthIt) world_.sleep_ns(std::min(rest, kLongest));
  } else if (asked || (!others && slices % kLookAround == 0)) {
    world_.yield();
  }
}

bool Concurrent::worker_slice() {
  const std::int64_t began = os::monotonic_ns();
  std::uint64_t done = 0;
  const bool more = work_slice(kSliceBytes, worker_bytes_, done);
  credit_bytes_.fetch_add(static_cast<std::int64_t>(done), std::memory_order_relaxed);
  const std::int64_t worked = os::monotonic_ns() - began;
  cpu_ns_.fetch_add(worked, std::memory_order_relaxed);
  share_used_ns_.fetch_add(worked, std::memory_order_relaxed);
  if (more && marking_.pool.chunks() != 0) wake_one_helper();
  return more;
}

// One piece of marking; no safepoint inside. False when nothing was left to do.
bool Concurrent::work_slice(std::uint64_t work, std::atomic<std::uint64_t>& counter, std::uint64_t& done) {
  const P& p = *current_p();
  Marker marker(marking_);
  // The phase may have ended between the caller's look at it and here, in a park; not from here on.
  if (!marking_now()) return false;
  bool more = true;
  while (more) {
    more = marker.drain(&p, work - std::min(work, marker.work_bytes()));
    if (more) break;
    more = take_root_job(marker);
    if (more && (marker.work_bytes() >= work || p.attention.load(std::memory_order_relaxed) != 0)) break;
  }
  done = marker.work_bytes();
  counter.fetch_add(done, std::memory_order_relaxed);
  return more;
}

bool Concurrent::take_root_job(Marker& marker) {
  if (next_job_.load(std::memory_order_relaxed) >= jobs_) return false;
  const std::size_t job = next_job_.fetch_add(1, std::memory_order_acq_rel);  // partner: run_dry()
  if (job >= jobs_) return false;
  if (job < world_jobs_) {
    world_.visit_roots(job, Marker::look_at_words, &marker);
  } else if (job < world_jobs_ + finalizer_jobs_) {
    struct Context {
      Marker& marker;
      const Heap& heap;
    } context{marker, *heap_};
    // What a finalizer will see must live; the object itself need not.
    world_.visit_finalizer_objects(
        job - world_jobs_,
        [](void* c, void* payload) {
          const Context& found = *static_cast<Context*>(c);
          const Object object = find_object(found.heap, reinterpret_cast<std::uintptr_t>(payload));
          for_each_slot(object, [&](auto* slot) {
            found.marker.grey_word(slot->load(std::memory_order_acquire));
          });  // partner: Ref::store()
        },
        &context);
  } else {
    struct Context {
      Concurrent& self;
      Marker& marker;
    } context{*this, marker};
    world_.visit_gs(
        job - world_jobs_ - finalizer_jobs_,
        [](void* c, G* g) {
          auto& [self, marker] = *static_cast<Context*>(c);
          self.scan_g(marker, g);
        },
        &context);
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
      .summary =
          "Marks while goroutines run: hybrid barrier, stacks scanned one at a time, two or three short pauses (Go's).",
      .traits = {.frees = true, .concurrent_mark = true, .concurrent_sweep = true},
  });
}

}  // namespace gearbox::collectors
