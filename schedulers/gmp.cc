// gmp: Go's scheduler. A ring for each P, a runnext slot before it, a global queue behind it, and thieves that take
// half.
//
// Idea.       New and readied goroutines stay on the P that made them runnable, the latest in front (runnext): producer
//             and consumer share a warm cache, and no lock is taken while a P has work of its own. Whoever runs dry
//             looks at the global queue and then takes half of another P's ring, victims in random order.
// Structure.  queues_[p]: a ring of slots with head (owner and thieves, compare-exchange) and tail (owner only);
//             runnext (run_next.h). global_ under lock_: overflow, yielded and preempted goroutines, everything
//             from outside.
// Threads.    enqueue, pick_local, pick_next, on_woken for p: its owner. Queue::steal_from() p's queue: any thief.
// Invariants. G1  tail - head <= slots; slots in [head, tail) hold queued Gs, each once.
//             G2  Spinning Ms are counted in spinning_ exactly; a spinning P has its flag up.
//             G3  If anything is queued, an M is spinning, or every P is busy, or a wake is under way (submit
//                 publishes, then looks at spinning_; a spinner that gives up lowers spinning_, then looks at all
//                 queues again: one of the two sees the other). What is handed over waits in runnext for its own P,
//                 which is about to look.
// Go's rules. Every 61st slice of a P comes from the global queue, if anything is there, so that it cannot starve.
//             runnext inherits the time slice, so that a pair that readies each other cannot starve the ring; such a pick
//             begins no slice and brings the global queue no nearer, or a goroutine that computes would come back from
//             there after 61 hand-overs of the pair, for a whole slice. When a slice is over, runnext goes behind the
//             ring (Go leaves it): so slices end however many ready each other. runnext is stolen only in the last pass.
//             At most half of the busy Ps spin. Each has a test in tests/schedulers/go_rules_test.cc.
// Rejected.   Waking at every submit: see global_queue.cc. Stealing single goroutines: a thief comes back at once.
// Cost.       runnext: a few plain loads and stores on either side, no fence (run_next.h, option `fences`); ring: a store
//             to put, a compare-exchange on a line nobody else wants to take. No lock, no shared write.
// Weak spot.  Fairness is per P only; a long ring is drained first in, first out, so fork-join trees grow
//             breadth-first.
// Source.     Go's runtime/proc.go (findRunnable, runqput, runqgrab, wakep, resetspinning); Vyukov, "Scalable Go
//             scheduler design", 2012.
#include <algorithm>
#include <array>
#include <memory>
#include <numeric>

#include "base/lock.h"
#include "base/os/fence.h"
#include "interfaces/current.h"
#include "interfaces/mutant.h"
#include "interfaces/registry.h"
#include "interfaces/scheduler.h"
#include "interfaces/world.h"
#include "schedulers/gmp/queue.h"

namespace gearbox::schedulers {
namespace {

enum class Slots : std::uint8_t { k16, k64, k256, k1024, k4096 };
using gmp_parts::Queue;
using gmp_parts::Steal;
enum class YieldTo : std::uint8_t { kGlobal, kLocal };
enum class Fences : std::uint8_t { kAsymmetric, kSymmetric };
enum class StealRunnext : std::uint8_t { kNever, kLastPass, kAlways };

struct Options {
  bool runnext = true;
  bool inherit_slice = true;
  StealRunnext steal_runnext = StealRunnext::kLastPass;
  Slots queue_slots = Slots::k256;
  Steal steal = Steal::kHalf;
  std::uint64_t steal_passes = 4;
  std::uint64_t global_tick = 61;
  std::uint64_t spinning_pct = 50;
  YieldTo yield_to = YieldTo::kGlobal;
  Fences fences = Fences::kAsymmetric;

  void visit(OptionVisitor& v) {
    v.field("runnext", runnext,
            "The latest goroutine made runnable goes to the front. Off: to the tail of the ring, like all others; "
            "only what is handed over still goes to the front.");
    v.field("inherit_slice", inherit_slice,
            "A goroutine from runnext continues the slice of the one before it. Off: two that ready each other can "
            "starve the ring.");
    v.field("steal_runnext", steal_runnext, {"never", "last_pass", "always"},
            "When thieves may take another P's runnext. last_pass: in the last round, if that P has picked nothing for "
            "about "
            "3 us. always: at once.");
    v.field("queue_slots", queue_slots, {"16", "64", "256", "1024", "4096"},
            "Slots of a P's ring. A full ring moves half of itself to the global queue.");
    v.field("steal", steal, {"one", "half", "all"}, "How much of a victim's ring a thief takes.");
    v.field("steal_passes", steal_passes, {1, 16}, "Rounds over all Ps before a thief gives up.");
    v.field(
        "global_tick", global_tick, {0, 100000},
        "Every n-th slice of a P is taken from the global queue, if anything is there. 0: only when the ring is empty, "
        "which can starve it.");
    v.field(
        "spinning_pct", spinning_pct, {0, 100},
        "At most this share of the busy Ps searches for work at a time, in percent; one always may. 0: nobody steals.");
    v.field("fences", fences, {"asymmetric", "symmetric"},
            "Who pays for the order of submitting and parking. asymmetric: a P that parks, and a thief at runnext, "
            "interrupt the others (membarrier), and submitting takes no fence. symmetric: both sides take one.");
    v.field("yield_to", yield_to, {"global", "local"},
            "Where a goroutine that yields goes: behind all others (Go), or to the tail of its own P's ring.");
  }
};

constexpr std::array<std::uint32_t, 5> kSlotCounts = {16, 64, 256, 1024, 4096};

class Gmp final : public Scheduler {
 public:
  static Result<std::unique_ptr<Scheduler>> create(World& world, const Options& options) {
    if (options.fences == Fences::kAsymmetric && !os::has_heavy_fence())
      return os_error("gmp:fences=asymmetric needs membarrier(2); fences=symmetric works without", errno);
    return std::unique_ptr<Scheduler>(std::make_unique<Gmp>(world, options));
  }
  Gmp(World& world, const Options& options)
      : world_(world), options_(options), slots_(kSlotCounts[static_cast<std::size_t>(options.queue_slots)]) {}

  void enqueue(G* g, PId p, Why why) override {
    const bool local = p != kNoP && (why == Why::kSpawned || why == Why::kReadied || why == Why::kHandedOver ||
                                     (why == Why::kYielded && options_.yield_to == YieldTo::kLocal));
    if (local) [[likely]] {
      Queue& q = *queues_[p];
      if ((options_.runnext && why != Why::kYielded) || why == Why::kHandedOver) {
        if (G* kicked_out = q.runnext.put(g)) put(q, kicked_out);
      } else {
        put(q, g);
      }
    } else {
      put_global(g);
    }
    // A yielded G on an M that runs nothing else: that M is on its way to look for it. So it is after a handing over.
    if ((why == Why::kYielded && current_g() == nullptr) || (why == Why::kHandedOver && local)) return;
    // What was published above must be visible before the look at idle_p_count(): a plain store may still be on its way
    // when the look is made, and a P that parks meanwhile would see neither G nor wake. partner: give_up()
    fence_at_submit();
    if (world_.idle_p_count() != 0 && !GEARBOX_MUTANT(kNoWakeAtEnqueue)) [[unlikely]] {
      wake();
    }
  }

  void enqueue_all(GList& list, PId p, Why why) override {
    if (p != kNoP && why == Why::kReadied) {
      Queue& q = *queues_[p];
      while (G* g = list.pop_front()) put(q, g);
    } else {
      Guard<SpinLock> hold(lock_);
      global_.append(list);
      global_length_.store(global_.size(), std::memory_order_relaxed);
    }
    fence_at_submit();
    wake();
  }

  // A searcher's first G comes from pick_next(): whoever finds it may have to wake the next searcher.
  G* pick_local(PId p, bool& inherit_slice) override {
    Queue& q = *queues_[p];
    if (q.spinning) [[unlikely]]
      return nullptr;
    return take_local(q, inherit_slice);
  }

  G* pick_next(PId p, bool& inherit_slice) override {
    Queue& q = *queues_[p];
    for (;;) {
      G* g = take_local(q, inherit_slice);
      if (g == nullptr && options_.spinning_pct != 0 && (q.spinning || may_spin())) {
        if (!q.spinning) {
          q.spinning = true;
          spinning_.fetch_add(1, std::memory_order_seq_cst);
        }
        g = search(p);
        g != nullptr ? static_cast<void>(begin_slice(q, g)) : static_cast<void>(++q.failed_searches);
      }
      if (g != nullptr) {
        if (q.spinning) stop_spinning(q);
        return g;
      }
      if (!give_up(p, q)) return nullptr;
    }
  }

  void on_woken(PId p) override {
    Queue& q = *queues_[p];
    // The one that woke this M has counted it already, if it was this policy; the runtime's own wakes come uncounted.
    std::uint32_t credits = wake_credits_.load(std::memory_order_acquire);
    while (credits > 0 && !wake_credits_.compare_exchange_weak(credits, credits - 1, std::memory_order_acq_rel)) {
    }
    if (credits == 0) spinning_.fetch_add(1, std::memory_order_seq_cst);
    q.spinning = true;
  }

  void on_slice_over(PId p) override {
    Queue& q = *queues_[p];
    if (G* g = q.runnext.take()) put(q, g);
  }

  void p_added(PId p) override {
    if (queues_[p] == nullptr) {
      queues_[p] = std::make_unique<Queue>(slots_, world_.config().seed * 7919 + p);
      queues_[p]->next_global = static_cast<std::uint32_t>(options_.global_tick);  // 0: in 2^32 slices
      queues_[p]->runnext.configure(options_.fences == Fences::kAsymmetric);
    }
    if (queue_count() <= p) queue_count_.store(p + 1, std::memory_order_release);  // partner: queue_count()
  }

  void p_removed(PId p) override {
    Queue& q = *queues_[p];
    if (G* g = q.runnext.take()) put_global(g);
    while (G* g = q.pop()) put_global(g);
    if (q.spinning) {
      q.spinning = false;
      spinning_.fetch_sub(1, std::memory_order_seq_cst);
    }
  }

  bool has_runnable() const override {
    if (global_length_.load(std::memory_order_seq_cst) != 0) return true;
    for (PId p = 0; p < queue_count(); ++p)
      if (!is_empty(*queues_[p])) return true;
    return false;
  }

  void counters(CounterVisitor& v) const override {
    std::uint64_t steals = 0, stolen = 0, failed = 0, overflows = 0, hits = 0;
    for (PId p = 0; p < queue_count(); ++p) {
      const Queue& q = *queues_[p];
      steals += q.steals;
      stolen += q.stolen;
      failed += q.failed_searches;
      overflows += q.overflows;
      hits += q.runnext_hits;
    }
    v.counter("steals", steals, "Successful thefts.");
    v.counter("stolen", stolen, "Goroutines taken by thefts.");
    v.counter("failed_searches", failed, "Full searches that found nothing.");
    v.counter("overflows", overflows, "Times a full ring moved half of itself to the global queue.");
    v.counter("runnext_hits", hits, "Goroutines run from runnext.");
    v.counter("wakes", wakes_.load(std::memory_order_relaxed), "Idle Ps woken to search.");
  }

  void check() const override {
    std::uint32_t flags = 0;
    for (PId p = 0; p < queue_count(); ++p) {
      const Queue& q = *queues_[p];
      const std::uint32_t head = q.head.load(), tail = q.tail.load();
      GEARBOX_REQUIRE(tail - head <= slots_, "G1: ring of P {} from {} to {}", p, head, tail);
      for (std::uint32_t i = head; i != tail; ++i) {
        const G* g = q.at(i);
        GEARBOX_REQUIRE(g != nullptr && g->status.load() == GStatus::kRunnable,
                        "G1: slot {} of P {} holds what is not runnable", i & q.mask, p);
      }
      const G* next = q.runnext.look();
      GEARBOX_REQUIRE(next == nullptr || next->status.load() == GStatus::kRunnable, "G1: runnext {} is not runnable",
                      p);
      flags += q.spinning ? 1 : 0;
    }
    Guard<SpinLock> hold(lock_);  // whoever has no P is not stopped with the world, and may enqueue
    GEARBOX_REQUIRE(global_length_.load() == global_.size(), "G1: {} counted, {} in the global queue",
                    global_length_.load(), global_.size());
    for (const G* g = global_.front(); g != nullptr; g = g->next)
      GEARBOX_REQUIRE(g->status.load() == GStatus::kRunnable, "G1: the global queue holds what is not runnable");
    GEARBOX_REQUIRE(flags <= (spinning_.load() & kSpinners), "G2: {} Ps spin, counted {:x}", flags, spinning_.load());
  }

 private:
  PId queue_count() const { return queue_count_.load(std::memory_order_acquire); }  // partner: p_added()

  static bool is_empty(const Queue& q) {
    return q.ring_is_empty() && q.runnext.look(std::memory_order_seq_cst) == nullptr;
  }

  G* take_local(Queue& q, bool& inherit_slice) {
    q.picks.store(q.picks.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    const std::uint32_t slice = q.slices + 1;
    if (slice == q.next_global) [[unlikely]]
      if (G* g = take_global(q, 1)) return begin_slice(q, g);
    if (G* g = q.runnext.take()) {
      ++q.runnext_hits;
      inherit_slice = options_.inherit_slice;
      return inherit_slice ? g : begin_slice(q, g);
    }
    G* g = q.pop();
    if (g == nullptr && global_length_.load(std::memory_order_relaxed) != 0) g = take_global(q, 0);
    return g != nullptr ? begin_slice(q, g) : nullptr;
  }

  // A turn of the global queue that fell due stays due while only hand-overs follow, and is over with the next slice.
  G* begin_slice(Queue& q, G* g) const {
    if (++q.slices == q.next_global) [[unlikely]]
      q.next_global += static_cast<std::uint32_t>(options_.global_tick);
    return g;
  }

  // ---- the ring
  void put(Queue& q, G* g) {
    if (!q.try_put(g)) overflow(q, g);
  }

  // Moves half of the ring and g to the global queue. If thieves were faster there is room again.
  [[gnu::noinline]] void overflow(Queue& q, G* g) {
    const std::uint32_t half = slots_ / 2;
    std::uint32_t head = q.head.load(std::memory_order_acquire);
    if (q.tail.load(std::memory_order_relaxed) - head < slots_) {
      put(q, g);
      return;
    }
    if (!q.head.compare_exchange_strong(head, head + half, std::memory_order_acq_rel)) {
      put(q, g);
      return;
    }
    ++q.overflows;
    GList list;
    for (std::uint32_t i = 0; i < half; ++i)  // ours alone now; only the owner reuses slots
      list.push_back(q.at(head + i));
    if (!GEARBOX_MUTANT(kOverflowLosesOne)) list.push_back(g);
    Guard<SpinLock> hold(lock_);
    global_.append(list);
    global_length_.store(global_.size(), std::memory_order_seq_cst);
  }

  G* search(PId p) {
    Queue& mine = *queues_[p];
    const PId n = world_.p_count();
    for (std::uint64_t pass = 0; pass < options_.steal_passes; ++pass) {
      const bool last = pass + 1 == options_.steal_passes;
      const bool take_runnext = options_.steal_runnext == StealRunnext::kAlways ||
                                (last && options_.steal_runnext == StealRunnext::kLastPass);
      // Random start and a random step that shares no factor with n visit every P once, in an order that differs from
      // thief to thief.
      PId at = mine.random.below(n), step = 1 + mine.random.below(n);
      while (std::gcd(step, n) != 1) step = step % n + 1;
      for (PId i = 0; i < n; ++i, at = (at + step) % n)
        if (at != p)
          if (G* g = mine.steal_from(*queues_[at], options_.steal, take_runnext,
                                     options_.steal_runnext != StealRunnext::kAlways))
            return g;
      if (global_length_.load(std::memory_order_relaxed) != 0)
        if (G* g = take_global(mine, 0)) return g;
    }
    return nullptr;
  }

  // ---- the global queue
  void put_global(G* g) {
    Guard<SpinLock> hold(lock_);
    global_.push_back(g);
    global_length_.store(global_.size(), std::memory_order_relaxed);
  }

  // One G, and a fair share of the rest into q (max 0), or just one (max 1).
  G* take_global(Queue& q, std::uint64_t max) {
    if (global_length_.load(std::memory_order_relaxed) == 0) return nullptr;
    const PId procs = world_.p_count();  // no lock is held in a call of the World
    Guard<SpinLock> hold(lock_);
    const std::uint64_t queued = global_.size();
    G* first = global_.pop_front();
    if (first == nullptr) return nullptr;
    if (max != 1 && !global_.empty()) {
      const std::uint32_t room =
          slots_ - (q.tail.load(std::memory_order_relaxed) - q.head.load(std::memory_order_acquire));
      const std::uint64_t share = std::min<std::uint64_t>(queued / procs + 1, slots_ / 2);
      for (std::uint64_t left = std::min<std::uint64_t>(share, room + 1); left > 1; --left) {
        G* g = global_.pop_front();
        if (g == nullptr) break;
        put(q, g);
      }
    }
    global_length_.store(global_.size(), std::memory_order_relaxed);
    return first;
  }

  // ---- waking and spinning

  // Between publishing a G and looking whether anybody must be woken. partner: give_up()
  void fence_at_submit() const {
    if (options_.fences == Fences::kAsymmetric)
      os::light_fence();
    else
      std::atomic_thread_fence(std::memory_order_seq_cst);
  }

  bool may_spin() const {
    const std::uint32_t spinning = spinning_.load(std::memory_order_relaxed) & kSpinners;
    const std::uint32_t busy = world_.p_count() - world_.idle_p_count();
    return spinning == 0 || spinning * 100 < busy * options_.spinning_pct;
  }

  // True if somebody is counted, to whom the work is left. The count may stand for a wake under way, which fails if no P
  // is idle at that moment; then a P that parked after that, and before the work came, has nobody. So the count is
  // marked, and a wake that fails under the mark tries again.
  bool leave_to_spinner() {
    std::uint32_t seen = spinning_.load(std::memory_order_seq_cst);
    while ((seen & kSpinners) != 0)
      if ((seen & kWorkLeft) != 0 || spinning_.compare_exchange_weak(seen, seen | kWorkLeft, std::memory_order_seq_cst))
        return true;
    return false;
  }

  void wake() {
    while (world_.idle_p_count() != 0 && !leave_to_spinner()) {
      std::uint32_t none = spinning_.load(std::memory_order_relaxed) & kWorkLeft;
      if (spinning_.compare_exchange_strong(none, 1, std::memory_order_seq_cst) && try_to_wake()) return;
    }
  }

  // The caller has counted a spinner. False, with the count taken back, if nobody was idle after all and work was left.
  bool try_to_wake() {
    wake_credits_.fetch_add(1, std::memory_order_acq_rel);
    if (world_.wake_one_parked_p()) {
      wakes_.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
    std::uint32_t credits = wake_credits_.load(std::memory_order_acquire);
    while (credits > 0)
      if (wake_credits_.compare_exchange_weak(credits, credits - 1, std::memory_order_acq_rel))
        return (spinning_.fetch_sub(1, std::memory_order_seq_cst) & kWorkLeft) == 0 ||
               GEARBOX_MUTANT(kFailedWakeForgets);
    return true;  // an M that somebody else woke has used the credit up: it searches, and is what was counted
  }

  // Work was found: the last spinner that stops has another P woken, in case there is more (G3).
  [[gnu::noinline]] void stop_spinning(Queue& q) {
    q.spinning = false;
    if ((spinning_.fetch_sub(1, std::memory_order_seq_cst) & kSpinners) == 1 && !GEARBOX_MUTANT(kLastSpinnerIsSilent))
      wake();
  }

  // Gives p up. True if it was taken back because something turned up.
  bool give_up(PId p, Queue& q) {
    const bool was_spinning = q.spinning;
    q.spinning = false;  // before p can belong to another M
    world_.prepare_to_park(p);
    if (was_spinning) spinning_.fetch_sub(1, std::memory_order_seq_cst);
    // partner: fence_at_submit()
    if (options_.fences == Fences::kAsymmetric)
      os::heavy_fence();
    else
      std::atomic_thread_fence(std::memory_order_seq_cst);
    if (GEARBOX_MUTANT(kNoSecondLook) || !may_find_work()) return false;
    // One that may not search takes what is in the global queue, and leaves the rest to those that search.
    if (!was_spinning && global_length_.load(std::memory_order_seq_cst) == 0 && leave_to_spinner()) return false;
    if (!world_.cancel_park(p)) {
      if (!GEARBOX_MUTANT(kLostPWakesNobody)) wake();  // those who left work to this M, which searched, get another
      return false;
    }
    // A spinner again: work may have been left to it, so when it finds something it must pass on that there is more.
    q.spinning = was_spinning && !GEARBOX_MUTANT(kSpinnerForgetsCount);
    if (q.spinning) spinning_.fetch_add(1, std::memory_order_seq_cst);
    return true;
  }

  // Would a search find anything? has_runnable() asks more: what thieves may not take would keep one awake for nothing,
  // for as long as its owner is busy.
  bool may_find_work() const {
    if (global_length_.load(std::memory_order_seq_cst) != 0) return true;
    if (options_.spinning_pct == 0) return false;
    for (PId i = 0; i < queue_count(); ++i) {
      const Queue& q = *queues_[i];
      if (!q.ring_is_empty()) return true;
      if (options_.steal_runnext == StealRunnext::kLastPass && q.runnext_waits()) return true;
      if (options_.steal_runnext == StealRunnext::kAlways && q.runnext.look(std::memory_order_seq_cst) != nullptr)
        return true;
    }
    return false;
  }

  World& world_;
  const Options options_;
  const std::uint32_t slots_;
  std::array<std::unique_ptr<Queue>, kMaxPs> queues_;
  std::atomic<PId> queue_count_{0};  // grows only while the world is stopped; has_runnable() may look even then
  static constexpr std::uint32_t kWorkLeft = 1u << 31, kSpinners = kWorkLeft - 1;
  // kSpinners: how many, wakes under way too; kWorkLeft: see leave_to_spinner().
  alignas(64) std::atomic<std::uint32_t> spinning_{0};
  std::atomic<std::uint32_t> wake_credits_{0};
  alignas(64) mutable SpinLock lock_;
  GList global_;  // guarded by lock_
  std::atomic<std::uint64_t> global_length_{0};
  std::atomic<std::uint64_t> wakes_{0};
};

}  // namespace

SchedulerEntry gmp() {
  return make_entry<Gmp, Options>(EntryFacts<SchedulerTraits>{
      .name = "gmp",
      .summary = "Go's: a ring and a runnext slot for each P, a global queue, thieves that take half.",
      .traits = {.work_conserving = true, .needs_preemption = true},
  });
}

}  // namespace gearbox::schedulers
