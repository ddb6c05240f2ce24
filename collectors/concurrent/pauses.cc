// The pauses of a cycle, the search for deaths before the last one, and the sweep behind it.
#include <algorithm>

#include "base/check.h"
#include "base/os/clock.h"
#include "collectors/concurrent/checkmark.h"
#include "collectors/concurrent/state.h"
#include "interfaces/current.h"
#include "interfaces/mutant.h"

namespace gearbox::collectors::concurrent_parts {

void Concurrent::begin_cycle() {
  sweep_all(false);  // C3; nothing to do unless an allocator was asked from outside
  const auto busy = static_cast<std::int64_t>(world_.p_count() - world_.idle_p_count());  // about to stand still
  const std::int64_t to_stop = world_.stop_the_world("mark begins");
  const std::int64_t stopped = os::monotonic_ns();
#if defined(GEARBOX_CHECKED)
  allocator_->check();  // of the last cycle's sweep, which ended while the world ran
#endif
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
  marking_.work_bytes.store(0, std::memory_order_relaxed);
  credit_bytes_.store(0, std::memory_order_relaxed);
  share_used_ns_.store(0, std::memory_order_relaxed);
  world_jobs_ = world_.root_jobs();
  // Goroutines made from here on are born scanned.
  finalizer_jobs_ = world_.finalizer_jobs();
  jobs_ = world_jobs_ + finalizer_jobs_ + (world_.g_slots() + kSlotsAGroup - 1) / kSlotsAGroup;
  next_job_.store(0, std::memory_order_relaxed);
  for (PId i = 0; i < world_.p_count(); ++i) {
    P& p = world_.p(i);
    p.write_buffer.limit = std::min(p.write_buffer.limit, static_cast<std::uint32_t>(options_.write_buffer) & ~1u);
    GEARBOX_INVARIANT(C2, p.write_buffer.count == 0, "P {} has {} words in its buffer before the mark", i,
                      p.write_buffer.count);
  }
  marked_.store(false, std::memory_order_relaxed);
  heap_->phase.store(GcPhase::kMark, std::memory_order_release);
  world_.set_marking(true);
  scan_epoch_ = world_.arm_stack_scan();  // C1: every P is stopped, and will see both flags
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
  mark_began_ns_.store(os::monotonic_ns(), std::memory_order_relaxed);
  const std::int64_t ended = world_.start_the_world();
  cpu_ns_.fetch_add((ended - stopped) * busy, std::memory_order_relaxed);
  record_pause(to_stop + ended - stopped);
}

void Concurrent::record_pause(std::int64_t ns) {
  Guard<SpinLock> hold(stats_lock_);
  stats_.pause_ns.record(static_cast<std::uint64_t>(ns));
}

// C4, C5. On any goroutine. False if there was more to mark than a pause may hold up the world for.
bool Concurrent::end_cycle() {
  const auto busy = static_cast<std::int64_t>(world_.p_count() - world_.idle_p_count());
  const std::int64_t to_stop = world_.stop_the_world("mark ends");
  const std::int64_t stopped = os::monotonic_ns();
  struct Context {
    Concurrent* self;
    bool done = false, deaths = false;
  } context{this};
  // On the M's stack, so that checkmark finds this goroutine's context saved like all others.
  world_.on_system_stack(
      [](void* c) {
        auto& context = *static_cast<Context*>(c);
        Concurrent& self = *context.self;
        World& world = self.world_;
        if (!self.marking_now()) return;
        if (!GEARBOX_MUTANT(kNoFinalFlush))
          for (PId i = 0; i < world.p_count(); ++i) self.flush_write_buffer(world.p(i));
        {
          Marker marker(self.marking_);
          world.take_shaded(Marker::look_at_words, &marker);
          if (marker.drain(nullptr, self.options_.pause_work_kib << 10)) return;
        }
        if (!self.run_dry()) return;
        context.done = true;
        context.deaths = world.finalizer_jobs() != 0;
        if (!context.deaths) self.verify();
      },
      &context);
  if (context.done) {
    world_.set_marking(false);
    world_.disarm_stack_scan();
    for (PId i = 0; i < world_.p_count(); ++i) world_.p(i).write_buffer.count = 0;
    marked_.store(true, std::memory_order_relaxed);
    if (!context.deaths) begin_sweep();
  }
  const std::int64_t ended = world_.start_the_world();
  cpu_ns_.fetch_add((ended - stopped) * busy, std::memory_order_relaxed);
  record_pause(to_stop + ended - stopped);
  return context.done;
}

// On the M's stack, world stopped, marking complete.
void Concurrent::verify() {
  if (world_.config().checkmark) Checkmark(*heap_).run(world_);
}

// World stopped, marking complete, deaths found.
void Concurrent::begin_sweep() {
  allocator_->begin_sweep();
  const std::uint64_t born = heap_->live_bytes.load(std::memory_order_relaxed) - live_at_begin_;
  const std::uint64_t marked = marking_.marked_bytes.load(std::memory_order_relaxed);
  const std::uint64_t live = marked + born;
  heap_->live_bytes.store(live, std::memory_order_relaxed);
  pacer_.after_mark(live, born, marked, marking_.work_bytes.load(std::memory_order_relaxed));
  sweep_closed_.store(false, std::memory_order_relaxed);
  heap_->phase.store(GcPhase::kSweep, std::memory_order_release);
  Guard<SpinLock> hold(stats_lock_);
  ++stats_.cycles;
  stats_.mark_ns += os::monotonic_ns() - mark_began_ns_.load(std::memory_order_relaxed);
  stats_.marked_bytes = marked;
}

// C7. The coordinator, world running. What a dead object refers to was marked by its finalizer job, and has not changed
// since, so the drains end at once.
void Concurrent::find_deaths() {
  struct Death {
    Marker& marker;
    const Heap& heap;
  };
  const std::size_t jobs = world_.finalizer_jobs();
  std::uint32_t slices = 0;
  for (std::size_t job = 0; job < jobs; ++job) {
    const std::int64_t began = os::monotonic_ns();
    {
      Marker marker(marking_);
      Death death{marker, *heap_};
      world_.queue_dead_finalizers(
          job,
          [](void* d, void* payload) {
            auto& [marker, heap] = *static_cast<Death*>(d);
            const Object object = find_object(heap, reinterpret_cast<std::uintptr_t>(payload));
            if (object.marked()) return false;
            marker.grey(object);
            return true;
          },
          &death);
      while (marker.drain(nullptr, ~std::uint64_t{0})) {
      }
    }
    const std::int64_t worked = os::monotonic_ns() - began;
    cpu_ns_.fetch_add(worked, std::memory_order_relaxed);
    share_used_ns_.fetch_add(worked, std::memory_order_relaxed);
    keep_to_share(slices);
  }
}

// The third pause.
void Concurrent::end_deaths() {
  const auto busy = static_cast<std::int64_t>(world_.p_count() - world_.idle_p_count());
  const std::int64_t to_stop = world_.stop_the_world("sweep begins");
  const std::int64_t stopped = os::monotonic_ns();
  world_.on_system_stack([](void* self) { static_cast<Concurrent*>(self)->verify(); }, this);
  begin_sweep();
  const std::int64_t ended = world_.start_the_world();
  cpu_ns_.fetch_add((ended - stopped) * busy, std::memory_order_relaxed);
  record_pause(to_stop + ended - stopped);
}

// A step of sweeping by any M with a P (C6). False when nothing was left to take.
bool Concurrent::sweep_step(std::size_t units) {
  sweepers_.fetch_add(1, std::memory_order_seq_cst);  // partner: sweep_all()
  const bool more = !sweep_closed_.load(std::memory_order_seq_cst) && allocator_->sweep(*current_p(), units);
  sweepers_.fetch_sub(1, std::memory_order_release);
  return more;
}

// To the end, in steps, with the world running. In the background it gives way to whoever is runnable, but not when the
// next cycle waits for it: each turn of the others would be one more that the heap grows without a collection.
void Concurrent::sweep_all(bool background) {
  if (heap_->phase.load(std::memory_order_relaxed) != GcPhase::kSweep) return;
  constexpr std::uint32_t kLookAround = 16;  // steps on an idle P between two yields, for its timers and its poller
  for (std::uint32_t steps = 1;; ++steps) {
    const std::int64_t began = os::monotonic_ns();
    const bool more = sweep_step(kSweepUnits);
    cpu_ns_.fetch_add(os::monotonic_ns() - began, std::memory_order_relaxed);
    if (!more) break;
    if (current_p()->attention.load(std::memory_order_relaxed) != 0 ||
        (background && (steps % kLookAround == 0 || world_.has_runnable()) && !another_is_wanted()))
      world_.yield();
  }
  sweep_closed_.store(true, std::memory_order_seq_cst);                       // partner: sweep_step()
  while (sweepers_.load(std::memory_order_acquire) != 0) os::yield_thread();  // they reach no safepoint before the end
  allocator_->finish_sweep();
  GEARBOX_INVARIANT(C3, allocator_->sweep_done(), "the sweep was finished and is not done");
  heap_->phase.store(GcPhase::kIdle, std::memory_order_release);
}

// Pages that the heap will hardly need before the next cycle's end, a step at a time. Before the next cycle begins,
// since this goroutine begins it: never in kMark.
void Concurrent::give_memory_back() {
  const std::uint64_t goal = pacer_.goal();
  while (allocator_->release_free_memory(goal + std::min(goal / 10, ~goal))) {
    {
      Guard<SpinLock> hold(lock_);
      if (wanted_ > started_ || stopping_) return;
    }
    world_.yield();
  }
}

}  // namespace gearbox::collectors::concurrent_parts
