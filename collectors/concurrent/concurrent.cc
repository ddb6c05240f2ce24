// concurrent: marks while goroutines run. Tri-colour with the hybrid barrier, stacks scanned one at a time, Go's
// termination, lazy and background sweep.
//
// Idea.       White is unmarked, grey is marked and in a chunk, black is marked and scanned. With the world stopped for
// a moment the barrier goes up and every
//             stack is declared unscanned; from then on each goroutine's stack is scanned once, before it runs again or
//             by a worker. The barrier's deletion half keeps everything that was reachable at that moment, its
//             insertion half covers what a black stack or a Root gets to see later. New objects are born black. When
//             nothing is grey any more, a second pause makes sure and the sweep begins.
// Structure.  The coordinator, a system goroutine, runs the cycle from end to end; helpers, one a P, mark along. Marker
// (marker.h) is the inner loop, GreyPool
//             (grey.h) holds grey objects between two pieces of work, Pacer (pacer.h) says when to begin and what
//             assists owe, Checkmark verifies.
// Invariants. C1  No stack is scanned before every P has seen the barrier up.
//             C2  Grey objects are in the pool, in a Marker that is active, or in a P's write buffer; nowhere else.
//             C3  A cycle begins only when the last one's sweep is done.
//             C4  Marking ends in a pause in which the pool is empty, nobody is active, all roots are taken, and all
//             write buffers have been flushed.
// Threads.    on_refill, collect: any goroutine, may park. flush_write_buffer, shade_words, scan_before_run: any M with
// a P, no parking. lock_ guards who waits and which
//             cycle is wanted; it is never held together with another lock but World's own.
// Two starters. Whoever wants a cycle raises wanted_ to a number; only the coordinator runs cycles, until started_ has
// reached it. A cycle serves those who asked before its
//             first pause; collect() during a cycle waits for the next one, because this one keeps what was reachable
//             when it began.
// Rejected.   A ragged barrier that flushes every P before the second pause (Go's): here the pause itself drains what
// the buffers still held, up to a limit, and gives
//             up if there is more; that is one protocol fewer. The starter running the first pause itself: two starters
//             would race. Leaving grey objects in the P between pieces of work: the end of marking would have to visit
//             every P to know.
// Cost.       Pauses: O(Ps) plus the runtime's arming of its goroutines, plus at most pause_work_kib of marking.
// Nothing in them grows with the heap. Weak spot.  Two processors: workers take theirs from the mutators, and a starved
// coordinator ends a cycle late.
#include <atomic>
#include <memory>
#include <vector>

#include "base/check.h"
#include "base/lock.h"
#include "base/os/clock.h"
#include "collectors/concurrent/checkmark.h"
#include "collectors/concurrent/marker.h"
#include "collectors/concurrent/pacer.h"
#include "interfaces/allocator.h"
#include "interfaces/collector.h"
#include "interfaces/current.h"
#include "interfaces/mutant.h"
#include "interfaces/processor.h"
#include "interfaces/registry.h"
#include "interfaces/world.h"

namespace gearbox::collectors {
namespace {

using namespace concurrent_parts;

struct Options {
  std::uint64_t gogc = 100;
  std::uint64_t min_heap_mib = 4;
  std::uint64_t utilisation_pct = 25;
  std::uint64_t helpers = 4;
  std::uint64_t prefetch = 8;
  std::uint64_t write_buffer = WriteBuffer::kCapacity;
  std::uint64_t pause_work_kib = 64;
  bool assists = true;
  bool idle_marking = true;

  void visit(OptionVisitor& v) {
    v.field("gogc", gogc, {0, 10000},
            "Aim to end a cycle when the heap has grown by this percentage of what the last one left. 0: only when "
            "asked, or full.");
    v.field("min_heap_mib", min_heap_mib, {1, 65536},
            "MiB of heap at gogc=100 before the first collection; scaled with gogc.");
    v.field("utilisation_pct", utilisation_pct, {1, 100},
            "Share of all Ps that workers may take while goroutines want to run.");
    v.field("helpers", helpers, {0, 256}, "Worker goroutines besides the coordinator.");
    v.field("prefetch", prefetch, {0, kRing}, "Objects that wait, being fetched, between the mark stack and the scan.");
    v.field("write_buffer", write_buffer, {2, WriteBuffer::kCapacity},
            "Words a P's write buffer holds; a tiny one shakes the termination (stress).");
    v.field("pause_work_kib", pause_work_kib, {0, 65536},
            "KiB of objects the second pause may mark before it gives up and lets the world run on.");
    v.field("assists", assists, "Goroutines that allocate while marking is under way mark in proportion.");
    v.field("idle_marking", idle_marking, "Workers go on beyond their share while Ps are idle.");
  }
};

constexpr std::uint64_t kSliceBytes =
    256 << 10;  // marked by a worker between two looks at its share: some hundred microseconds
constexpr double kAssistChunkBytes = 32 << 10;  // an assist is worth its fixed cost from here on
constexpr std::size_t kSweepUnits = 32;         // a background step
constexpr std::size_t kSweepUnitsLate = 16;     // a refill's, when the next cycle waits for the sweep
constexpr std::size_t kSlotsAJob = 16;          // goroutine slots in one root job

class Concurrent final : public Collector {
 public:
  Concurrent(World& world, const Options& options)
      : world_(world), options_(options), pacer_(options.gogc, options.min_heap_mib << 20) {
    marking_.prefetch = options.prefetch;
  }

  void start(Heap& heap, Allocator& allocator) override {
    heap_ = &heap;
    allocator_ = &allocator;
    marking_.heap = &heap;
  }
  void start_workers() override {
    world_.spawn_system([this] { coordinate(); }, "collector");
    for (std::uint64_t i = 0; i < options_.helpers; ++i) world_.spawn_system([this] { help(); }, "collector helper");
  }
  void on_refill(std::size_t bytes) override;
  void flush_write_buffer(P& p) override;
  void shade_words(P&, const std::uintptr_t* first, std::size_t count) override {
    Marker marker(marking_);
    Marker::look_at_words(&marker, first, count);
  }
  void scan_before_run(G* g) override;
  void collect(GcReason reason) override;
  void stop() override;
  CollectorStats stats() const override;
  void counters(CounterVisitor& v) const override {
    v.counter("restarts", restarts_.load(std::memory_order_relaxed),
              "Second pauses that found more to mark than they may, and gave up.");
    v.counter("assist_bytes", assist_bytes_.load(std::memory_order_relaxed), "Bytes marked by assists.");
    v.counter("worker_bytes", worker_bytes_.load(std::memory_order_relaxed), "Bytes marked by workers.");
    v.counter("stacks_before_run", scanned_before_run_.load(std::memory_order_relaxed),
              "Stacks scanned because their goroutine was about to run.");
  }

 private:
  // One P's part of the assist accounts; its owner's.
  struct alignas(64) Account {
    std::uint64_t seen_allocated = 0;
    double debt_bytes = 0;
    std::uint64_t cycle = 0;
  };
  struct Waiter {
    G* g;
    std::uint64_t cycle;  // until completed_ has reached it; ~0: until the coordinator has ended
  };

  void coordinate();
  void help();
  void run_cycle();
  void begin_cycle();
  bool end_cycle();
  void sweep_all(bool background);
  bool work_slice(std::uint64_t bytes, std::atomic<std::uint64_t>& counter, std::uint64_t& marked);
  bool take_root_job(Marker& marker);
  void scan_g(Marker& marker, G* g);
  bool run_dry() const noexcept {
    return marking_.pool.chunks() == 0 && marking_.active.load(std::memory_order_acquire) == 0 &&  // partner: ~Marker()
           next_job_.load(std::memory_order_relaxed) >= jobs_;
  }
  void keep_to_share(std::int64_t worked_ns);
  void assist(P& p);
  void want(std::uint64_t cycles_from_started);
  void wake_helpers();
  void wake_waiters();

  World& world_;
  const Options options_;
  Heap* heap_ = nullptr;
  Allocator* allocator_ = nullptr;
  Marking marking_;
  Pacer pacer_;

  SpinLock lock_;  // guards the fields up to the blank line
  std::uint64_t wanted_ = 0, started_ = 0, completed_ = 0;
  bool stopping_ = false, ended_ = false;
  G* parked_coordinator_ = nullptr;
  std::vector<G*> parked_helpers_;
  std::vector<Waiter> waiters_;

  // Root jobs of this cycle: the world's, the finalizer table, then goroutine slots. Written while the world is
  // stopped.
  std::size_t world_jobs_ = 0, jobs_ = 0, slots_ = 0;
  std::atomic<std::size_t> next_job_{0};

  std::atomic<std::uint64_t> cycle_{0};         // number of the running cycle, for the accounts
  std::atomic<std::int64_t> credit_bytes_{0};   // marked by workers and not yet used up by assists
  std::atomic<std::int64_t> share_used_ns_{0};  // by workers, this cycle
  std::atomic<std::uint64_t> refills_{0}, restarts_{0}, assists_{0}, assist_bytes_{0}, worker_bytes_{0},
      scanned_before_run_{0};
  std::atomic<std::int64_t> cpu_ns_{0};
  std::int64_t mark_began_ns_ = 0;
  std::uint64_t live_at_begin_ = 0;
  Account accounts_[kMaxPs];

  mutable SpinLock stats_lock_;
  CollectorStats stats_;  // under stats_lock_
};

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

// ---- the two pauses

void Concurrent::begin_cycle() {
  sweep_all(true);  // C3; nothing to do unless an allocator was asked from outside
  const std::int64_t to_stop = world_.stop_the_world("mark begins");
  const std::int64_t stopped = os::monotonic_ns();
  {
    Guard<SpinLock> hold(lock_);
    ++started_;
  }
  cycle_.store(cycle_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  allocator_->begin_mark();
  live_at_begin_ = heap_->live_bytes.load(std::memory_order_relaxed);
  pacer_.before_mark(live_at_begin_);
  marking_.marked_bytes.store(0, std::memory_order_relaxed);
  marking_.marked_objects.store(0, std::memory_order_relaxed);
  credit_bytes_.store(0, std::memory_order_relaxed);
  share_used_ns_.store(0, std::memory_order_relaxed);
  world_jobs_ = world_.root_jobs();
  slots_ = world_.g_slots();  // goroutines made from here on are born scanned
  jobs_ = world_jobs_ + 1 + (slots_ + kSlotsAJob - 1) / kSlotsAJob;
  next_job_.store(0, std::memory_order_relaxed);
  for (PId i = 0; i < world_.p_count(); ++i) {
    P& p = world_.p(i);
    p.write_buffer.limit = std::min(p.write_buffer.limit, static_cast<std::uint32_t>(options_.write_buffer) & ~1u);
    GEARBOX_INVARIANT(C2, p.write_buffer.count == 0, "P {} has {} words in its buffer before the mark", i,
                      p.write_buffer.count);
  }
  heap_->phase.store(GcPhase::kMark, std::memory_order_release);
  world_.set_marking(true);
  world_.arm_stack_scan();  // C1: every P is stopped, and will see both flags
  // The one goroutine that will run on without passing scan_before_run is this one.
  struct Context {
    Concurrent* self;
    G* g;
  } context{this, current_g()};
  world_.on_system_stack(
      [](void* c) {
        auto [self, g] = *static_cast<Context*>(c);
        Marker marker(self->marking_);
        self->scan_g(marker, g);
      },
      &context);
  mark_began_ns_ = os::monotonic_ns();
  world_.start_the_world();
  const std::int64_t ended = os::monotonic_ns();
  cpu_ns_.fetch_add((ended - stopped) * static_cast<std::int64_t>(world_.p_count()), std::memory_order_relaxed);
  Guard<SpinLock> hold(stats_lock_);
  stats_.pause_ns.record(static_cast<std::uint64_t>(to_stop + ended - stopped));
}

// C4. False if there was more to mark than a pause may hold up the world for.
bool Concurrent::end_cycle() {
  const std::int64_t to_stop = world_.stop_the_world("mark ends");
  const std::int64_t stopped = os::monotonic_ns();
  struct Context {
    Concurrent* self;
    bool done = false;
  } context{this};
  // On the M's stack, so that checkmark finds this goroutine's context saved like all others.
  world_.on_system_stack(
      [](void* c) {
        auto& context = *static_cast<Context*>(c);
        Concurrent& self = *context.self;
        World& world = self.world_;
        if (!GEARBOX_MUTANT(kNoFinalFlush))
          for (PId i = 0; i < world.p_count(); ++i) self.flush_write_buffer(world.p(i));
        {
          Marker marker(self.marking_);
          if (marker.drain(*current_p(), self.options_.pause_work_kib << 10)) return;
        }
        if (!self.run_dry()) return;
        {
          Marker marker(self.marking_);
          struct Death {
            Marker& marker;
            const Heap& heap;
          } death{marker, *self.heap_};
          world.queue_dead_finalizers(
              [](void* d, void* payload) {
                auto& [marker, heap] = *static_cast<Death*>(d);
                const Object object = find_object(heap, reinterpret_cast<std::uintptr_t>(payload));
                if (object.marked()) return false;
                marker.grey(
                    object);  // what it refers to was marked by the finalizer job, so the drain below ends at once
                return true;
              },
              &death);
          while (marker.drain(*current_p(), ~std::uint64_t{0})) {
          }
        }
        if (world.config().checkmark) Checkmark(*self.heap_).run(world);
        context.done = true;
      },
      &context);
  std::int64_t marked_ns = 0;
  if (context.done) {
    world_.set_marking(false);
    world_.disarm_stack_scan();
    for (PId i = 0; i < world_.p_count(); ++i) world_.p(i).write_buffer.count = 0;
    allocator_->begin_sweep();
    const std::uint64_t born = heap_->live_bytes.load(std::memory_order_relaxed) - live_at_begin_;
    const std::uint64_t live = marking_.marked_bytes.load(std::memory_order_relaxed) + born;
    heap_->live_bytes.store(live, std::memory_order_relaxed);
    pacer_.after_mark(live, born);
    heap_->phase.store(GcPhase::kSweep, std::memory_order_release);
    marked_ns = os::monotonic_ns() - mark_began_ns_;
  }
  world_.start_the_world();
  const std::int64_t ended = os::monotonic_ns();
  cpu_ns_.fetch_add((ended - stopped) * static_cast<std::int64_t>(world_.p_count()), std::memory_order_relaxed);
  Guard<SpinLock> hold(stats_lock_);
  stats_.pause_ns.record(static_cast<std::uint64_t>(to_stop + ended - stopped));
  if (context.done) {
    ++stats_.cycles;
    stats_.mark_ns += marked_ns;
    stats_.marked_bytes = marking_.marked_bytes.load(std::memory_order_relaxed);
  }
  return context.done;
}

// To the end, in steps, with the world running.
void Concurrent::sweep_all(bool background) {
  if (heap_->phase.load(std::memory_order_relaxed) != GcPhase::kSweep) return;
  for (;;) {
    const std::int64_t began = os::monotonic_ns();
    const bool more = allocator_->sweep(*current_p(), kSweepUnits);
    cpu_ns_.fetch_add(os::monotonic_ns() - began, std::memory_order_relaxed);
    if (!more) break;
    if (background) world_.yield();
  }
  allocator_->finish_sweep();
  GEARBOX_INVARIANT(C3, allocator_->sweep_done(), "the sweep was finished and is not done");
  heap_->phase.store(GcPhase::kIdle, std::memory_order_release);
}

CollectorStats Concurrent::stats() const {
  Guard<SpinLock> hold(stats_lock_);
  CollectorStats stats = stats_;
  stats.cpu_ns = cpu_ns_.load(std::memory_order_relaxed);
  stats.assists = assists_.load(std::memory_order_relaxed);
  return stats;
}

}  // namespace

CollectorEntry concurrent() {
  return make_entry<Concurrent, Options>(EntryFacts<CollectorTraits>{
      .name = "concurrent",
      .summary = "Marks while goroutines run: hybrid barrier, stacks scanned one at a time, two short pauses (Go's).",
      .traits = {.frees = true, .concurrent_mark = true, .concurrent_sweep = true},
  });
}

}  // namespace gearbox::collectors
