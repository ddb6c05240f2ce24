// null: one P, one plain list. The price of the scheduler interface with nothing behind it.
//
// Idea.       First in, first out, no lock, no atomic but the hint: legal only with one P and only because outsiders
//             (poller, foreign threads) go through a locked side entrance that the owner looks at when its list is dry.
// Structure.  list_: the owner's. outside_ under lock_.
// Invariants. N1  list_ is touched by the owner of P 0 only.
//             N2  The counts equal the sizes of the lists.
// Cost.       Three stores and a load a switch, plus the virtual calls: what every other scheduler pays at least.
// Weak spot.  One P.
#include "base/lock.h"
#include "interfaces/mutant.h"
#include "interfaces/registry.h"
#include "interfaces/scheduler.h"
#include "interfaces/world.h"

namespace gearbox::schedulers {
namespace {

class Null final : public Scheduler {
 public:
  Null(World& world, const NoOptions&) : world_(world) {}

  void enqueue(G* g, PId p, Why why) override {
    if (p != kNoP) [[likely]] {
      if (why == Why::kHandedOver)
        list_.push_front(g);
      else
        list_.push_back(g);
      list_length_.store(list_.size(), std::memory_order_relaxed);
      return;
    }
    {
      Guard<SpinLock> hold(lock_);
      outside_.push_back(g);
      outside_count_.store(outside_.size(),
                           std::memory_order_seq_cst);  // partner: pick_next(), the look after prepare_to_park
    }
    if (!GEARBOX_MUTANT(kNoWakeAtEnqueue)) world_.wake_one_parked_p();
  }

  G* pick_local(PId, bool&) override {
    if (outside_count_.load(std::memory_order_relaxed) != 0) [[unlikely]] {
      Guard<SpinLock> hold(lock_);
      list_.append(outside_);
      outside_count_.store(0, std::memory_order_relaxed);
    }
    G* g = list_.pop_front();
    list_length_.store(list_.size(), std::memory_order_relaxed);
    return g;
  }

  G* pick_next(PId p, bool& inherit_slice) override {
    for (;;) {
      if (G* g = pick_local(p, inherit_slice)) return g;
      world_.prepare_to_park(p);
      if (GEARBOX_MUTANT(kNoSecondLook) || outside_count_.load(std::memory_order_seq_cst) == 0 ||
          !world_.cancel_park(p))
        return nullptr;
    }
  }

  void p_added(PId) override {}
  void p_removed(PId) override {}
  bool has_runnable() const override {
    return list_length_.load(std::memory_order_relaxed) != 0 || outside_count_.load(std::memory_order_seq_cst) != 0;
  }

  void check() const override {
    Guard<SpinLock> hold(lock_);  // outsiders (sysmon, a poll) enqueue while the world is stopped
    GEARBOX_REQUIRE(list_length_.load() == list_.size() && outside_count_.load() == outside_.size(),
                    "N2: {} and {} counted, {} and {} queued", list_length_.load(), outside_count_.load(), list_.size(),
                    outside_.size());
    for (const GList* list : {&list_, &outside_})
      for (const G* g = list->front(); g != nullptr; g = g->next)
        GEARBOX_REQUIRE(g->status.load() == GStatus::kRunnable, "goroutine {} is queued with status {}", g->id,
                        static_cast<int>(g->status.load()));
  }

 private:
  World& world_;
  GList list_;
  std::atomic<std::uint64_t> list_length_{0};  // for has_runnable(), from any thread; the owner writes
  mutable SpinLock lock_;
  GList outside_;
  std::atomic<std::uint64_t> outside_count_{0};
};

}  // namespace

SchedulerEntry null() {
  return make_entry<Null, NoOptions>(EntryFacts<SchedulerTraits>{
      .name = "null",
      .summary = "One P, one plain list: the price of the interface.",
      .traits = {.work_conserving = true, .needs_preemption = false, .max_procs = 1},
  });
}

}  // namespace gearbox::schedulers
