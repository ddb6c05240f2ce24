// What the tests of schedulers share: the promises that an option may lift, goroutines by the herd, the order in which
// one thread drives many Ps, and a search through interleavings.
#pragma once

#include <gtest/gtest.h>

#include <deque>

#include "base/random.h"
#include "tests/contract/scheduler_world.h"
#include "tests/procs.h"
#include "tests/sanitized.h"

namespace gearbox::testing {

// ---- promises. All are kept by every member at every end of every option, but for the lines of kWaivers: an option
// that is documented to lift one says so here, and the suite then holds it to that. A line that is no longer true fails.
enum class Promise {
  kYieldAlternates,    // a goroutine that yields goes behind one that is runnable
  kPairIsPreempted,    // two that ready each other continue one slice, so that the end of the slice lets others run
  kOutsideIsPicked,    // what comes from outside is picked although the P's own queue never runs dry
  kOthersTakeLatest,   // an idle P finds the latest goroutine that a busy P made runnable
  kOthersTakeAnyLocal  // an idle P finds what a busy P made runnable
};
struct Waiver {
  const char* gear;
  const char* field;
  std::size_t level;
  Promise promise;
  const char* why;
};
inline constexpr Waiver kWaivers[] = {
    {"global_queue", "yield_to_tail", 0, Promise::kYieldAlternates, "a trap, for experiments: it runs on at once"},
    {"gmp", "inherit_slice", 0, Promise::kPairIsPreempted, "a pair can starve the ring"},
    {"gmp", "global_tick", 0, Promise::kOutsideIsPicked, "the global queue only when the ring is empty"},
    {"gmp", "steal_runnext", 0, Promise::kOthersTakeLatest, "runnext is its owner's alone"},
    {"gmp", "spinning_pct", 0, Promise::kOthersTakeAnyLocal, "nobody steals"},
};
inline bool promises(const OptionEnd& end, Promise promise) {
  for (const Waiver& w : kWaivers)
    if (end.gear == w.gear && end.field == w.field && end.level == w.level && promise == w.promise) return false;
  return true;
}
inline SchedulerTraits traits_of(const std::string& gear) {
  for (const SchedulerEntry& entry : all_schedulers())
    if (entry.name == gear) return entry.traits;
  GEARBOX_PANIC("there is no scheduler {}", gear);
}
// As many Ps as the member takes, at most `wanted`.
inline PId procs_for(const OptionEnd& end, PId wanted) {
  const std::uint32_t most = traits_of(end.gear).max_procs;
  return most == 0 ? wanted : std::min<PId>(wanted, most);
}

// The same, and GEARBOX_TEST_PROCS in place of several; for tests in which the Ps have threads.
inline PId several_for(const OptionEnd& end, PId wanted) {
  return procs_for(end, static_cast<PId>(testing::several_procs(wanted)));
}

inline constexpr Why kAllWhys[] = {Why::kSpawned,   Why::kReadied,  Why::kYielded,
                                   Why::kPreempted, Why::kInjected, Why::kHandedOver};

// Goroutines with an id each; they stay where they are.
class Herd {
 public:
  explicit Herd(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) gs_.emplace_back().id = i + 1;
  }
  TestG& operator[](std::size_t i) { return gs_[i]; }
  std::size_t size() const { return gs_.size(); }
  std::vector<TestG*> some(std::size_t n) {
    std::vector<TestG*> out;
    for (std::size_t i = 0; i < n; ++i) out.push_back(&gs_[i]);
    return out;
  }

 private:
  std::deque<TestG> gs_;
};

// Lets every P that is owned or chosen pick until all have given up.
inline void drain(ParkingWorld& world, Random& random) {
  for (;;) {
    while (world.begin_chosen() != kNoP) {
    }
    std::vector<PId> able;
    for (PId p = 0; p < world.p_count(); ++p)
      if (world.can_act(p)) able.push_back(p);
    if (able.empty()) return;
    const PId p = able[random.below(static_cast<std::uint32_t>(able.size()))];
    random.below(2) == 0 ? world.pick_local(p) : world.pick_next(p);
  }
}

// One thread plays Ms, a poller and foreign threads in an order that the seed decides, and whenever the policy calls the
// World (it parks a P, takes it back, asks for a wake, looks at a count), others may act in between. What it demands:
//
//   - no goroutine is lost or returned twice (ParkingWorld looks at each call);
//   - when everybody who was woken has looked, and all others are busy for ever, a P that sleeps means that nothing is
//     queued: a work-conserving policy has no other excuse than its waivers. The rest: nothing is queued when all sleep;
//   - wakes are bounded (ParkingWorld::wakes_excused).
class Interleaver {
 public:
  Interleaver(const OptionEnd& end, PId procs, std::uint64_t seed)
      : end_(end), world_(end, procs, seed), random_(seed), herd_(96) {
    for (std::size_t i = 0; i < herd_.size(); ++i) free_.push_back(&herd_[i]);
    world_.hook = [this](ParkingWorld::At) {
      if (depth_ >= 3 || random_.below(3) != 0) return;
      ++depth_;
      for (std::uint32_t n = 1 + random_.below(4); n > 0; --n) act();
      --depth_;
    };
  }

  void run(int rounds) {
    for (int round = 0; round < rounds; ++round) {
      const std::uint32_t steps = 1 + random_.below(30);
      for (std::uint32_t i = 0; i < steps; ++i) act();
      settle();
    }
  }

 private:
  void act() {
    switch (random_.below(9)) {
      case 0:
      case 1:  // a foreign thread or a poller
        submit(kNoP, Why::kInjected, 1 + random_.below(6) / 5 * 2);
        break;
      case 2:
      case 3:  // a goroutine on a P
        if (const PId p = able(); p != kNoP)
          submit(p, random_.below(2) == 0 ? Why::kSpawned : Why::kReadied, 1 + random_.below(6) / 5 * 20);
        break;
      case 4:
      case 5:  // a goroutine ends, or makes place for others
        if (const PId p = able(); p != kNoP) {
          TestG* g = free_.empty() || random_.below(3) != 0 ? nullptr : take_free();
          if (g != nullptr) world_.put(*g, p, random_.below(2) == 0 ? Why::kYielded : Why::kPreempted);
          look(p);
        }
        break;
      case 6:
        if (const PId p = world_.begin_chosen(); p != kNoP) look(p);
        break;
      case 7:  // a P runs dry
        if (const PId p = able(); p != kNoP)
          while (look(p) != nullptr) {
          }
        break;
      default:  // an M comes back from the poller: it takes an idle P for what it brings
        if (const PId p = world_.take_idle(random_.below(4)); p != kNoP) {
          submit(p, Why::kInjected, 1 + random_.below(2));
          look(p);
        }
    }
  }
  // What an M does between two goroutines.
  TestG* look(PId p) {
    TestG* g = world_.pick_local(p);
    if (g == nullptr) g = world_.pick_next(p);
    if (g != nullptr) free_.push_back(g);
    return g;
  }
  void submit(PId p, Why why, std::size_t n) {
    std::vector<TestG*> gs;
    while (gs.size() < n && !free_.empty()) gs.push_back(take_free());
    if (gs.size() == 1)
      world_.put(*gs[0], p, why);
    else if (!gs.empty())
      world_.put_all(gs, p, why);
  }
  TestG* take_free() {
    std::swap(free_[random_.below(static_cast<std::uint32_t>(free_.size()))], free_.back());
    TestG* g = free_.back();
    free_.pop_back();
    return g;
  }
  PId able() {
    const PId n = world_.p_count(), first = random_.below(n);
    for (PId i = 0; i < n; ++i)
      if (world_.can_act((first + i) % n)) return (first + i) % n;
    return kNoP;
  }

  void settle() {
    const auto hook = std::exchange(world_.hook, nullptr);
    const bool hold = random_.below(2) == 0;  // the first goroutine that a woken P finds keeps it busy for ever
    for (PId p = world_.begin_chosen(); p != kNoP; p = world_.begin_chosen())
      while (look(p) != nullptr && !hold) {
      }
    if (traits_of(end_.gear).work_conserving && world_.any_idle() && promises(end_, Promise::kOthersTakeAnyLocal)) {
      std::uint64_t excused = 0;
      if (!promises(end_, Promise::kOthersTakeLatest))
        for (PId p = 0; p < world_.p_count(); ++p) excused += world_.is_owned(p) ? 1 : 0;
      GEARBOX_REQUIRE(world_.queued() <= excused, "a P sleeps, nobody was woken, and {} goroutines are queued",
                      world_.queued());
    }
    world_.scheduler().check();
    GEARBOX_REQUIRE(world_.scheduler().has_runnable() == (world_.queued() != 0), "{} are queued, has_runnable says {}",
                    world_.queued(), world_.scheduler().has_runnable());
    for (bool progress = true; progress;) {
      progress = false;
      for (PId p = 0; p < world_.p_count(); ++p)
        if (world_.can_act(p)) progress = look(p) != nullptr || progress;
      for (PId p = world_.begin_chosen(); p != kNoP; p = world_.begin_chosen())
        progress = look(p) != nullptr || progress;
    }
    GEARBOX_REQUIRE(world_.queued() == 0, "all Ps sleep, and {} goroutines are queued", world_.queued());
    GEARBOX_REQUIRE(world_.wakes_asked() <= world_.wakes_excused(), "{} wakes, {} can be justified",
                    world_.wakes_asked(), world_.wakes_excused());
    world_.change_procs(world_.p_count());  // all owned again
    world_.hook = hook;
  }

  const OptionEnd end_;
  ParkingWorld world_;
  Random random_;
  Herd herd_;
  std::vector<TestG*> free_;
  int depth_ = 0;
};

}  // namespace gearbox::testing
