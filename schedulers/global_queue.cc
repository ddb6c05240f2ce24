// global_queue: one first-in first-out queue for all Ps.
//
// Idea.       The simplest scheduler that is fair and work-conserving: what Go had before 1.1, and the baseline for
//             every distributed one. Its weakness, one lock that all Ps take at every switch, is what the others exist
//             to avoid.
// Structure.  queue_ under lock_. length_ shadows its size, to look without the lock.
// Threads.    All methods from any M; pick_local and pick_next by the owner of the P.
// Invariants. Q1  length_ equals queue_.size() whenever lock_ is free.
//             Q2  If the queue is not empty, some P is awake and will look, or is being woken.
// Rejected.   Waking a P at every enqueue: two threads trade one G and sleep again. One wake at a time is under way
//             (waking_), and each woken P wakes the next if it leaves work behind.
// Cost.       One uncontended lock at enqueue and one at pick: about 10 ns a switch. Under contention the lock's cache
//             line travels.
// Weak spot.  Locality: a goroutine's next P is whichever comes first.
// Source.     Go 1.0's runq (src/pkg/runtime/proc.c); rejected alternative 1 in Go's proc.go header.
#include "base/lock.h"
#include "interfaces/mutant.h"
#include "interfaces/registry.h"
#include "interfaces/scheduler.h"
#include "interfaces/world.h"

namespace gearbox::schedulers {
namespace {

struct Options {
  bool yield_to_tail = true;

  void visit(OptionVisitor& v) {
    v.field("yield_to_tail", yield_to_tail,
            "A goroutine that yields goes behind all others; off: in front, so that it runs on at once (a trap, for "
            "experiments).");
  }
};

// One wake at a time, from the moment somebody asks for it until the woken P has looked. kMissed: a G came meanwhile.
enum class Waking : std::uint8_t { kNo, kUnderWay, kMissed };

class GlobalQueue final : public Scheduler {
 public:
  GlobalQueue(World& world, const Options& options) : world_(world), options_(options) {}

  void enqueue(G* g, PId p, Why why) override {
    {
      Guard<SpinLock> hold(lock_);
      if (why == Why::kHandedOver || (why == Why::kYielded && !options_.yield_to_tail))
        queue_.push_front(g);
      else
        queue_.push_back(g);
      length_.store(queue_.size(), std::memory_order_seq_cst);  // partner: pick_next(), the look after prepare_to_park
    }
    // A G that only changed places needs no second P, unless others wait behind it.
    if (why == Why::kYielded && length_.load(std::memory_order_relaxed) == 1) return;
    if (why == Why::kHandedOver && p != kNoP) return;  // p itself is on its way to it
    wake_if_useful();
  }

  void enqueue_all(GList& list, PId, Why) override {
    {
      Guard<SpinLock> hold(lock_);
      queue_.append(list);
      length_.store(queue_.size(), std::memory_order_seq_cst);
    }
    wake_if_useful();
  }

  G* pick_local(PId, bool&) override {
    if (length_.load(std::memory_order_relaxed) == 0) return nullptr;
    Guard<SpinLock> hold(lock_);
    return take();
  }

  G* pick_next(PId p, bool& inherit_slice) override {
    for (;;) {
      if (G* g = pick_local(p, inherit_slice)) return g;
      world_.prepare_to_park(p);
      // Either this look sees a new G, or enqueue() sees the idle P.
      if (GEARBOX_MUTANT(kNoSecondLook) || length_.load(std::memory_order_seq_cst) == 0) return nullptr;
      if (!world_.cancel_park(p)) return nullptr;
    }
  }

  // One wake is over: whatever was queued meanwhile saw waking_ and left the next wake to this M. It takes one G
  // itself.
  void on_woken(PId) override {
    waking_.store(Waking::kNo, std::memory_order_seq_cst);
    if (length_.load(std::memory_order_seq_cst) > 1) wake_if_useful();
  }

  void p_added(PId) override {}
  void p_removed(PId) override {}
  bool has_runnable() const override { return length_.load(std::memory_order_seq_cst) != 0; }

  void counters(CounterVisitor& v) const override {
    v.counter("wakes", wakes_.load(std::memory_order_relaxed), "Idle Ps woken for queued goroutines.");
    v.counter("longest_queue", longest_, "Most goroutines that were queued at a time.");
  }

  void check() const override {
    Guard<SpinLock> hold(lock_);  // outsiders (sysmon, a poll) enqueue while the world is stopped
    GEARBOX_REQUIRE(length_.load(std::memory_order_relaxed) == queue_.size(), "Q1: {} counted, {} queued",
                    length_.load(), queue_.size());
    for (const G* g = queue_.front(); g != nullptr; g = g->next)
      GEARBOX_REQUIRE(g->status.load() == GStatus::kRunnable, "goroutine {} is queued with status {}", g->id,
                      static_cast<int>(g->status.load()));
  }

 private:
  G* take() {
    if (queue_.size() > longest_) longest_ = queue_.size();
    G* g = queue_.pop_front();
    length_.store(queue_.size(), std::memory_order_relaxed);
    return g;
  }
  // Who finds a wake under way leaves its G to it, and says so: a wake fails if no P is idle at that moment, and then a
  // P that parked after that, and before the G came, would have nobody.
  void wake_if_useful() {
    while (!GEARBOX_MUTANT(kNoWakeAtEnqueue) && may_wake()) {
      if (world_.wake_one_parked_p()) {
        wakes_.fetch_add(1, std::memory_order_relaxed);
        return;
      }
      if (waking_.exchange(Waking::kNo, std::memory_order_seq_cst) != Waking::kMissed ||
          GEARBOX_MUTANT(kFailedWakeForgets))
        return;
    }
  }
  bool may_wake() {
    if (world_.idle_p_count() == 0) return false;
    Waking seen = waking_.load(std::memory_order_seq_cst);
    while (seen != Waking::kMissed) {
      const bool mine = seen == Waking::kNo;
      if (waking_.compare_exchange_weak(seen, mine ? Waking::kUnderWay : Waking::kMissed, std::memory_order_seq_cst))
        return mine;
    }
    return false;
  }

  World& world_;
  const Options options_;
  mutable SpinLock lock_;
  GList queue_;
  std::uint64_t longest_ = 0;  // guarded by lock_
  std::atomic<std::uint64_t> length_{0};
  std::atomic<Waking> waking_{Waking::kNo};
  std::atomic<std::uint64_t> wakes_{0};
};

}  // namespace

SchedulerEntry global_queue() {
  return make_entry<GlobalQueue, Options>(EntryFacts<SchedulerTraits>{
      .name = "global_queue",
      .summary = "One first-in first-out queue under one lock, for all Ps.",
      .traits = {.work_conserving = true, .needs_preemption = false},
  });
}

}  // namespace gearbox::schedulers
