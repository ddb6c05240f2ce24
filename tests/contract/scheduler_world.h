// A small World for tests of schedulers: Ps, an idle list and wakes, and nothing else of the runtime, so that a failure
// here is the policy's.
//
// It is driven in two ways. One thread: the test acts for every P in turn, and a P that a wake has chosen waits in a
// list until the test lets "its M" begin; at every call that the policy makes to the World (parking calls before and
// after they take effect, looks at counts before them), a hook may let others act, so that each interleaving at these
// borders can be had on purpose. Many threads: Ms that own a P, sleep on a futex and are woken, as in
// runtime/machines.cc.
//
// Every goroutine goes through put() and through pick_local() or pick_next() below, which hold the policy to the letter
// of interfaces/scheduler.h at each call. A broken promise dies with a message: with threads asleep there is nothing to
// go on with. A lost wake-up needs no clock: when every M sleeps or waits for others and a goroutine is queued, it is
// lost.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/lock.h"
#include "base/os/futex.h"
#include "base/os/thread.h"
#include "base/random.h"
#include "interfaces/registry.h"
#include "interfaces/scheduler.h"
#include "interfaces/world.h"
#include "tests/contract/option_ends.h"

namespace gearbox::testing {

struct TestG : G {
  std::atomic<bool> queued{false};  // relaxed: the policy's own publication is what TSan must see
  std::uint64_t picks = 0;          // plain, for the same reason: whoever runs it writes
  std::uint32_t kind = 0;           // the test's own
};

// An M of the threaded tests, or a thread outside all Ps (p stays kNoP).
struct TestM {
  std::uint32_t id = 0;
  Random random{0};                         // the thread's own
  PId p = kNoP;                             // the thread's own
  PId next_p = kNoP;                        // under ParkingWorld::lock_
  std::atomic<std::uint32_t> wake_word{0};  // futex
  // While it waits for others with its P held: what for. Under the lock.
  const std::atomic<std::uint64_t>* wait_counter = nullptr;
  std::uint64_t wait_target = 0;
};

class ParkingWorld final : public World {
 public:
  enum class At { kBeforePark, kAfterPark, kBeforeCancel, kBeforeWake, kAfterWake, kBeforeCount, kBeforeIdleCount };

  ParkingWorld(const OptionEnd& end, PId procs, std::uint64_t seed) : procs_(procs) {
    settings_.seed = seed;
    for (SchedulerEntry& entry : all_schedulers()) {
      if (entry.name != end.gear) continue;
      auto options = entry.make_options();
      setter(end)(*options);
      auto made = entry.make(*this, *options);
      GEARBOX_REQUIRE(made.ok(), "{} refuses to be made", end.gear);
      scheduler_ = std::move(made).value();
    }
    GEARBOX_REQUIRE(scheduler_ != nullptr, "there is no scheduler {}", end.gear);
    for (PId p = 0; p < procs; ++p) add(p);
  }

  Scheduler& scheduler() { return *scheduler_; }

  // ---- goroutines in and out
  void put(TestG& g, PId p, Why why) {
    ready(g);
    in_call(p, true);
    in_policy([&] { scheduler_->enqueue(&g, p, why); });
    in_call(p, false);
  }
  void put_all(const std::vector<TestG*>& gs, PId p, Why why) {
    GList list;
    for (TestG* g : gs) {
      ready(*g);
      list.push_back(g);
    }
    in_call(p, true);
    in_policy([&] { scheduler_->enqueue_all(list, p, why); });
    in_call(p, false);
    GEARBOX_REQUIRE(list.empty(), "enqueue_all left {} goroutines in the list", list.size());
  }
  TestG* pick_local(PId p, bool* inherits = nullptr) {
    const std::uint64_t before = parking_calls_;
    bool inherit_slice = false;
    G* g = nullptr;
    in_call(p, true);
    in_policy([&] { g = scheduler_->pick_local(p, inherit_slice); });
    in_call(p, false);
    GEARBOX_REQUIRE(parking_calls_ == before, "pick_local parked or woke a P");
    if (inherits != nullptr) *inherits = inherit_slice;
    return picked(g);
  }
  TestG* pick_next(PId p, bool* inherits = nullptr) {
    bool inherit_slice = false;
    in_call(p, true);
    mine_ = p;
    G* g = nullptr;
    in_policy([&] { g = scheduler_->pick_next(p, inherit_slice); });
    const bool still_mine = mine_ == p;
    GEARBOX_REQUIRE(g == nullptr || still_mine, "pick_next returned a goroutine for P {}, which was given up", p);
    GEARBOX_REQUIRE(g != nullptr || !still_mine, "pick_next returned nothing and kept P {}", p);
    if (g != nullptr) in_call(p, false);
    mine_ = kNoP;
    if (inherits != nullptr) *inherits = inherit_slice;
    return picked(g);
  }
  std::uint64_t queued() const { return queued_.load(std::memory_order_seq_cst); }
  std::uint64_t enqueues() const { return enqueues_.load(std::memory_order_relaxed); }
  const std::atomic<std::uint64_t>& picks() const { return picks_; }
  // A wake may be asked for once for each enqueue, each goroutine found, and each P that was lost while it parked.
  std::uint64_t wakes_asked() const { return wakes_asked_.load(std::memory_order_relaxed); }
  std::uint64_t wakes_excused() const { return enqueues() + picks_ + ps_lost_; }

  // ---- one thread
  std::function<void(At)> hook;  // no lock is held when it runs; it may act for other Ps
  bool is_owned(PId p) const { return ps_[p].state == State::kOwned; }
  // Owned, and its owner is not inside a call of the policy.
  bool can_act(PId p) const { return is_owned(p) && !ps_[p].in_call; }
  bool any_idle() const { return idle_count_.load(std::memory_order_relaxed) != 0; }
  // The M of a P that was chosen by a wake begins. kNoP if there is none.
  PId begin_chosen() {
    if (chosen_.empty()) return kNoP;
    const PId p = chosen_.front();
    chosen_.erase(chosen_.begin());
    own(p);
    in_call(p, true);
    in_policy([&] { scheduler_->on_woken(p); });
    in_call(p, false);
    return p;
  }
  // An M takes an idle P for an event of the poller or for a timer: it does not search, so on_woken() is not called.
  // `nth`: which, counted round the idle list from its end.
  PId take_idle(std::size_t nth = 0) {
    Guard<SpinLock> hold(lock_);
    if (!idle_.empty()) std::swap(idle_[idle_.size() - 1 - nth % idle_.size()], idle_.back());
    const PId p = pop_idle(State::kOwned);
    if (p != kNoP && self_ != nullptr) self_->p = p;
    return p;
  }
  // GOMAXPROCS := procs, as runtime/world.cc does it: world stopped, every P of the new number owned afterwards.
  void change_procs(PId procs) {
    GEARBOX_REQUIRE(chosen_.empty(), "the mock's world stops when every woken M has begun");
    idle_.clear();
    idle_count_.store(0, std::memory_order_seq_cst);
    const PId former = procs_;
    for (PId p = former; p < procs; ++p) add(p);
    for (PId p = procs; p < former; ++p) {
      scheduler_->p_removed(p);
      ps_[p].state = State::kNone;
    }
    procs_ = procs;
    for (PId p = 0; p < procs; ++p) own(p);
    scheduler_->check();
  }

  // ---- many threads. bodies[i] runs on an M that owns P i, outsiders on threads that never own one.
  void run(const std::function<void(TestM&)>& body, std::size_t outsiders = 0,
           const std::function<void(TestM&)>& outside = {}) {
    over_ = false;
    finished_ = 0;
    ms_.clear();
    for (std::size_t i = 0; i < procs_ + outsiders; ++i) {
      ms_.push_back(std::make_unique<TestM>());
      ms_[i]->id = static_cast<std::uint32_t>(i);
      ms_[i]->random = Random(settings_.seed * 1000 + i);
      if (i < procs_) ms_[i]->p = static_cast<PId>(i);
    }
    std::vector<std::thread> threads;
    watched_ = true;
    std::thread watchdog([this] { watch(); });
    for (auto& m : ms_) {
      threads.emplace_back([this, &m, &body, &outside] {
        self_ = m.get();
        m->p != kNoP ? body(*m) : outside(*m);
        Guard<SpinLock> hold(lock_);
        ++finished_;
        look_for_deadlock();
      });
    }
    for (auto& thread : threads) thread.join();
    {
      std::lock_guard hold(watch_lock_);
      watched_ = false;
    }
    watch_cv_.notify_all();
    watchdog.join();
    while (begin_chosen() != kNoP) {  // chosen when everybody was leaving
    }
    scheduler_->check();
  }
  // The M has no P: sleeps until it is given one. False when the run is over.
  bool sleep(TestM& m) {
    GEARBOX_REQUIRE(m.p == kNoP, "an M that owns P {} lies down", m.p);
    std::uint32_t word = 0;
    {
      Guard<SpinLock> hold(lock_);
      word = m.wake_word.load(std::memory_order_relaxed);
      if (!chosen_.empty()) {  // chosen when no M was asleep: for whoever comes first
        m.next_p = chosen_.front();
        chosen_.erase(chosen_.begin());
        ++word;
        m.wake_word.store(word, std::memory_order_relaxed);
        --word;
      } else if (over_) {
        return false;
      } else {
        idle_machines_.push_back(&m);
        look_for_deadlock();
      }
    }
    while (m.wake_word.load(std::memory_order_acquire) == word) os::futex_wait(m.wake_word, word, os::kForever);
    PId p = kNoP;
    {
      Guard<SpinLock> hold(lock_);
      p = std::exchange(m.next_p, kNoP);
    }
    if (p == kNoP) return false;
    own(p);
    m.p = p;
    in_policy([&] { scheduler_->on_woken(p); });
    return true;
  }
  // Waits until counter reaches target, with its P, if it has one, held and busy: others have to do the work.
  void wait_for(TestM& m, const std::atomic<std::uint64_t>& counter, std::uint64_t target) {
    if (counter.load(std::memory_order_acquire) >= target) return;
    {
      Guard<SpinLock> hold(lock_);
      m.wait_counter = &counter;
      m.wait_target = target;
      look_for_deadlock();
    }
    for (int spins = 0; counter.load(std::memory_order_acquire) < target; ++spins)
      spins % 64 == 63 ? os::yield_thread() : cpu_relax();
    Guard<SpinLock> hold(lock_);
    m.wait_counter = nullptr;
  }
  bool is_over() const { return over_.load(std::memory_order_relaxed); }
  // Everything is done: whoever sleeps comes back from sleep() with false.
  void end() {
    Guard<SpinLock> hold(lock_);
    over_ = true;
    for (TestM* m : idle_machines_) wake_machine(*m);
    idle_machines_.clear();
  }

  // ---- World
  const WorldConfig& config() const override { return settings_; }
  PId p_count() const override {
    look_at_counts(At::kBeforeCount);
    return procs_;
  }
  P& p(PId id) override { return *ps_[id].p; }
  PId idle_p_count() const override {
    look_at_counts(At::kBeforeIdleCount);
    return idle_count_.load(std::memory_order_relaxed);
  }
  bool has_runnable() const override { return false; }
  void prepare_to_park(PId id) override {
    step(At::kBeforePark);
    GEARBOX_REQUIRE(ps_[id].state == State::kOwned && (self_ == nullptr ? mine_ == id : self_->p == id),
                    "P {} is given up by an M that does not own it", id);
    if (self_ != nullptr) self_->p = kNoP;
    mine_ = kNoP;
    {
      Guard<SpinLock> hold(lock_);
      ps_[id].state = State::kIdle;
      ps_[id].in_call = false;
      idle_.push_back(id);
      idle_count_.store(static_cast<PId>(idle_.size()), std::memory_order_seq_cst);
    }
    step(At::kAfterPark);
  }
  bool cancel_park(PId id) override {
    step(At::kBeforeCancel);
    Guard<SpinLock> hold(lock_);
    auto at = std::find(idle_.begin(), idle_.end(), id);
    if (at == idle_.end()) {
      ps_lost_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    idle_.erase(at);
    idle_count_.store(static_cast<PId>(idle_.size()), std::memory_order_seq_cst);
    ps_[id].state = State::kOwned;
    ps_[id].in_call = true;
    mine_ = id;
    if (self_ != nullptr) self_->p = id;
    return true;
  }
  bool wake_one_parked_p() override {
    wakes_asked_.fetch_add(1, std::memory_order_relaxed);
    step(At::kBeforeWake);
    bool chosen = false;
    {
      Guard<SpinLock> hold(lock_);
      chosen = choose();
    }
    step(At::kAfterWake);
    return chosen;
  }
  void spawn_system(std::function<void()>, const char*) override { refuse(); }
  void park_and_unlock(SpinLock&, const char*) override { refuse(); }
  void ready(G*) override { refuse(); }
  void hand_over(G*) override { refuse(); }
  void yield() override { refuse(); }
  void sleep_ns(std::int64_t) override { refuse(); }
  void on_system_stack(void (*)(void*), void*) override { refuse(); }
  std::int64_t stop_the_world(const char*) override { refuse(); }
  std::int64_t start_the_world() override { refuse(); }
  std::size_t g_slots() const override { return 0; }
  G* g_at(std::size_t) override { return nullptr; }
  void visit_stack(G*, void (*)(void*, const std::uintptr_t*, std::size_t), void*) override { refuse(); }
  std::size_t root_jobs() const override { return 0; }
  void visit_roots(std::size_t, void (*)(void*, const std::uintptr_t*, std::size_t), void*) override { refuse(); }
  void visit_gs(std::size_t, void (*)(void*, G*), void*) override { refuse(); }
  std::uint32_t arm_stack_scan() override {
    refuse();
    return 0;
  }
  void disarm_stack_scan() override { refuse(); }
  void set_marking(bool) override { refuse(); }
  std::size_t finalizer_jobs() const override { return 0; }
  void visit_finalizer_objects(std::size_t, void (*)(void*, void*), void*) override { refuse(); }
  void queue_dead_finalizers(std::size_t, bool (*)(void*, void*), void*) override { refuse(); }

 private:
  enum class State { kNone, kOwned, kIdle, kChosen };
  struct Slot {
    State state = State::kNone;  // under lock_, and read by the owner
    bool in_call = false;        // one thread only
    std::unique_ptr<P> p;
  };

  [[noreturn]] static void refuse() { GEARBOX_PANIC("a scheduler has no business with this part of the World"); }
  void step(At at) {
    ++parking_calls_;
    if (self_ != nullptr) {  // a longer way now and then, so that others meet this M here, too
      for (std::uint32_t n = self_->random.below(4) == 0 ? self_->random.below(400) : 0; n > 0; --n) cpu_relax();
      if (self_->random.below(64) == 0) os::yield_thread();
      return;
    }
    call_hook(at);
  }
  // Only the policy's own looks are windows: the test and its hooks ask for counts, too.
  void look_at_counts(At at) const {
    if (!inside_policy_) return;
    if (self_ == nullptr) return call_hook(at);
    if (self_->random.below(16) == 0)
      for (std::uint32_t n = self_->random.below(200); n > 0; --n) cpu_relax();
  }
  void call_hook(At at) const {
    if (!hook) return;
    const PId mine = std::exchange(mine_, kNoP);
    const bool inside = std::exchange(inside_policy_, false);
    const std::uint64_t calls = parking_calls_;  // others' are not this policy call's
    hook(at);
    mine_ = mine;
    inside_policy_ = inside;
    parking_calls_ = calls;
  }
  template <class F>
  static void in_policy(F&& f) {
    const bool outer = std::exchange(inside_policy_, true);
    f();
    inside_policy_ = outer;
  }
  void in_call(PId p, bool on) {
    if (self_ == nullptr && p != kNoP) ps_[p].in_call = on;
  }
  void ready(TestG& g) {
    GEARBOX_REQUIRE(!g.queued.exchange(true, std::memory_order_relaxed), "the test queues goroutine {} twice", g.id);
    g.status.store(GStatus::kRunnable, std::memory_order_relaxed);
    enqueues_.fetch_add(1, std::memory_order_relaxed);
    queued_.fetch_add(1, std::memory_order_relaxed);
  }
  TestG* picked(G* g) {
    if (g == nullptr) return nullptr;
    auto* mine = static_cast<TestG*>(g);
    GEARBOX_REQUIRE(mine->queued.exchange(false, std::memory_order_relaxed), "goroutine {} was returned twice", g->id);
    ++mine->picks;
    mine->status.store(GStatus::kRunning, std::memory_order_relaxed);
    queued_.fetch_sub(1, std::memory_order_relaxed);
    picks_.fetch_add(1, std::memory_order_release);
    return mine;
  }
  void add(PId p) {
    if (ps_[p].p == nullptr) ps_[p].p = std::make_unique<P>();
    ps_[p].p->id = p;
    ps_[p].state = State::kOwned;
    scheduler_->p_added(p);
  }
  void own(PId p) {
    Guard<SpinLock> hold(lock_);
    ps_[p].state = State::kOwned;
    ps_[p].in_call = false;
  }
  // lock_ held.
  PId pop_idle(State to) {
    if (idle_.empty()) return kNoP;
    const PId p = idle_.back();
    idle_.pop_back();
    ps_[p].state = to;
    idle_count_.store(static_cast<PId>(idle_.size()), std::memory_order_seq_cst);
    return p;
  }
  bool choose() {
    const PId p = pop_idle(State::kChosen);
    if (p == kNoP) return false;
    if (idle_machines_.empty()) {
      chosen_.push_back(p);
    } else {
      TestM* m = idle_machines_.back();
      idle_machines_.pop_back();
      m->next_p = p;
      wake_machine(*m);
    }
    return true;
  }
  static void wake_machine(TestM& m) {
    m.wake_word.fetch_add(1, std::memory_order_release);
    os::futex_wake(m.wake_word, 1);
  }
  // lock_ held. Does everybody sleep, or wait for others?
  void look_for_deadlock() {
    if (over_ || !chosen_.empty()) return;
    std::size_t waiting = 0;
    for (const auto& m : ms_) {
      if (m->wait_counter == nullptr) continue;
      if (m->wait_counter->load(std::memory_order_acquire) >= m->wait_target) return;
      ++waiting;
    }
    if (idle_machines_.size() + waiting + finished_ != ms_.size()) return;
    GEARBOX_REQUIRE(
        queued() == 0 && waiting == 0,
        "lost wake-up: {} goroutines are queued, {} of {} Ps are idle, {} threads wait with work to do, and "
        "nobody is awake",
        queued(), idle_.size(), procs_, waiting);
    GEARBOX_REQUIRE(!scheduler_->has_runnable(), "has_runnable is true, and nothing is queued");
    // Nothing is lost; some M has work to make still, and slept before. As if a timer were due; the longest sleeper
    // first, so that it is each one's turn some time.
    if (!idle_machines_.empty()) std::rotate(idle_machines_.begin(), idle_machines_.begin() + 1, idle_machines_.end());
    choose();
  }
  // A hang guard, no measurement: a run in which nothing at all happened for a minute says so.
  void watch() {
    std::unique_lock hold(watch_lock_);
    std::uint64_t seen = ~std::uint64_t{0};
    while (!watch_cv_.wait_for(hold, std::chrono::seconds(60), [this] { return !watched_; })) {
      const std::uint64_t now = enqueues() + picks_.load(std::memory_order_relaxed);
      GEARBOX_REQUIRE(now != seen, "nothing was queued or picked for a minute: {} are queued, {} Ps are idle", queued(),
                      idle_p_count());
      seen = now;
    }
  }

  static inline thread_local TestM* self_ = nullptr;
  static inline thread_local PId mine_ = kNoP;  // the P whose pick_next this thread is in, while it owns it
  static inline thread_local bool inside_policy_ = false;
  static inline thread_local std::uint64_t parking_calls_ = 0;

  WorldConfig settings_;
  PId procs_;
  std::array<Slot, kMaxPs> ps_;
  std::unique_ptr<Scheduler> scheduler_;
  SpinLock lock_;  // guards the lists of Ps and Ms
  std::vector<PId> idle_, chosen_;
  std::vector<TestM*> idle_machines_;
  std::vector<std::unique_ptr<TestM>> ms_;
  std::size_t finished_ = 0;
  std::atomic<bool> over_{false};  // written under lock_
  std::atomic<PId> idle_count_{0};
  std::atomic<std::uint64_t> queued_{0}, enqueues_{0}, picks_{0}, wakes_asked_{0}, ps_lost_{0};
  std::mutex watch_lock_;
  std::condition_variable watch_cv_;
  bool watched_ = false;
};

}  // namespace gearbox::testing
