// Threads that own a P each and sleep in earnest, for the contract of schedulers and its mutants. All die with a message
// when a promise is broken.
#pragma once

#include "tests/contract/scheduler_contract.h"

namespace gearbox::testing {

#if defined(__SANITIZE_THREAD__)
inline constexpr std::size_t kStormScale = 8;  // times slower
#else
inline constexpr std::size_t kStormScale = 1;
#endif

// Each round of a duel or a gang costs wake-ups by the kernel. Where other programs have the processors that can be
// milliseconds, and then fewer rounds have to do.
class Patience {
 public:
  bool is_over() { return ++rounds_ % 16 == 0 && std::chrono::steady_clock::now() > until_; }

 private:
  std::uint64_t rounds_ = 0;
  const std::chrono::steady_clock::time_point until_ = std::chrono::steady_clock::now() + std::chrono::seconds(5);
};

// The life of an M: picks, runs and sleeps until the run is over.
template <class Run>
void serve(ParkingWorld& world, TestM& m, Run&& run) {
  for (;;) {
    if (m.p == kNoP && !world.sleep(m)) return;
    if (world.is_over()) return;
    TestG* g = world.pick_local(m.p);
    if (g == nullptr) g = world.pick_next(m.p);
    if (g != nullptr) run(*g);
  }
}

// Every M makes goroutines of its own in a random mix of ways, and runs what it picks: some end, some yield, some are
// preempted, some ready another. Outsiders inject; now and then one of them is an M that comes back from the poller: it
// takes an idle P, perhaps one that is just being parked, and serves its event before it looks for anything else. Over
// when each has ended, each queued and picked equally often.
inline void mixed_storm(const OptionEnd& end, PId procs, std::size_t outsiders, std::size_t goroutines,
                        std::uint64_t seed) {
  ParkingWorld world(end, procs, seed);
  const std::size_t makers = procs + outsiders, each = goroutines / makers;
  std::deque<Herd> herds;
  for (std::size_t i = 0; i < makers; ++i) herds.emplace_back(each);
  std::atomic<std::uint64_t> ended{0};
  world.run(
      [&](TestM& m) {
        Random random(seed * 1000 + m.id);
        Herd& mine = herds[m.id];
        std::size_t made = 0;
        const auto make = [&] {
          const std::uint32_t style = random.below(20);
          if (style == 0) {  // more than a small ring holds
            std::vector<TestG*> list;
            for (std::size_t n = random.below(40); n > 0 && made < each; --n) list.push_back(&mine[made++]);
            world.put_all(list, m.p, random.below(2) == 0 ? Why::kReadied : Why::kInjected);
          } else {
            const PId p = style == 1 ? kNoP : m.p;
            world.put(mine[made++], p, p == kNoP ? Why::kInjected : style % 2 == 0 ? Why::kSpawned : Why::kReadied);
          }
        };
        for (;;) {
          const bool has_slept = m.p == kNoP;
          if (has_slept && !world.sleep(m)) return;
          if (world.is_over()) return;
          // Half of the Ms make little and live on what others have, until nobody has anything.
          const bool makes = m.id % 2 == 0 || random.below(16) == 0;
          for (std::uint32_t n = has_slept ? random.below(100) : makes ? random.below(4) : 0; n > 0 && made < each; --n)
            make();
          TestG* g = random.below(4) != 0 ? world.pick_local(m.p) : nullptr;
          if (g == nullptr) g = world.pick_next(m.p);
          if (g == nullptr) continue;
          if (random.below(4) == 0) {
            world.put(*g, m.p, random.below(2) == 0 ? Why::kYielded : Why::kPreempted);
          } else if (ended.fetch_add(1, std::memory_order_acq_rel) + 1 == makers * each) {
            world.end();
          }
        }
      },
      outsiders,
      [&](TestM& m) {
        Random random(seed * 1000 + m.id);
        Herd& mine = herds[m.id];
        for (std::size_t made = 0; made < each;) {
          std::vector<TestG*> list;
          for (std::size_t n = random.below(20) == 0 ? random.below(40) : 1; n > 0 && made < each; --n)
            list.push_back(&mine[made++]);
          m.p = random.below(4) == 0 ? world.take_idle(random.below(4)) : kNoP;
          if (list.size() == 1)
            world.put(*list[0], m.p, Why::kInjected);
          else
            world.put_all(list, m.p, Why::kInjected);
          while (m.p != kNoP && !world.is_over()) {  // until that P is given up again
            TestG* g = world.pick_local(m.p);
            if (g == nullptr) g = world.pick_next(m.p);
            if (g != nullptr && ended.fetch_add(1, std::memory_order_acq_rel) + 1 == makers * each) world.end();
          }
          if (world.is_over()) return;
          if (random.below(8) == 0) {  // sysmon's part: any thread, at any time
            (void)world.scheduler().has_runnable();
            world.scheduler().on_tick(static_cast<std::int64_t>(made));
            os::yield_thread();
          }
        }
      });
  GEARBOX_REQUIRE(world.queued() == 0 && world.picks() == world.enqueues(), "{} queued, {} picked", world.enqueues(),
                  world.picks().load());
}

// A duel at the moment of parking. A busy owner (P 0, or a foreign thread if outside) submits one goroutine and waits
// until somebody else has run it, which by then is on its way to sleep: does the next one reach it? A few instructions
// more or less before each submit, so that in the end the two meet everywhere.
inline void parking_duel(const OptionEnd& end, PId procs, bool outside, std::size_t rounds, std::uint64_t seed) {
  ParkingWorld world(end, procs, seed);
  Herd herd(3);
  const auto submit = [&](TestM& m) {
    Random random(seed);
    // Where only its owner takes the latest, a second one is what others can have.
    const bool pair = m.p != kNoP && !promises(end, Promise::kOthersTakeLatest);
    const PId from = promises(end, Promise::kOthersTakeAnyLocal) ? m.p : kNoP;
    Patience patience;
    for (std::size_t i = 0; i < rounds && !patience.is_over(); ++i) {
      for (std::uint32_t n = random.below(i % 2 == 0 ? 20 : 400); n > 0; --n) cpu_relax();
      const std::uint64_t target = world.picks().load(std::memory_order_acquire) + 1;
      const Why why = from == kNoP ? Why::kInjected : random.below(2) == 0 ? Why::kSpawned : Why::kReadied;
      world.put(herd[i % 2], from, why);
      if (pair && i == 0)
        world.put(herd[2], from, why);  // from now on each kicks out the one before it, for the others
      world.wait_for(m, world.picks(), target);
    }
    world.end();
  };
  world.run(
      [&](TestM& m) {
        if (m.id == 0 && !outside)
          submit(m);
        else
          serve(world, m, [](TestG&) {});
      },
      outside ? 1 : 0, submit);
}

// Goroutines that have to run at the same time, one on each P: the one that the owner of P 0 runs makes all others and
// waits for them. Whoever finds the first must see to it that the next P wakes.
inline void gang(const OptionEnd& end, PId procs, std::size_t rounds, std::uint64_t seed) {
  ParkingWorld world(end, procs, seed);
  Herd herd(procs);
  std::atomic<std::uint64_t> arrived{0}, left{0};
  const bool from_owner = promises(end, Promise::kOthersTakeAnyLocal) && promises(end, Promise::kOthersTakeLatest);
  world.run([&](TestM& m) {
    if (m.id == 0) {
      Patience patience;
      for (std::size_t i = 0; i < rounds && !patience.is_over(); ++i) {
        const PId from = from_owner && i % 2 == 0 ? m.p : kNoP;
        for (std::size_t n = 1; n < procs; ++n) world.put(herd[n], from, from == kNoP ? Why::kInjected : Why::kSpawned);
        world.wait_for(m, left, (i + 1) * (procs - 1));
      }
      world.end();
      return;
    }
    std::uint64_t round = 0;
    serve(world, m, [&](TestG& g) {
      round = g.picks;
      arrived.fetch_add(1, std::memory_order_acq_rel);
      world.wait_for(m, arrived, round * (procs - 1));
      left.fetch_add(1, std::memory_order_acq_rel);
    });
  });
}

// GOMAXPROCS changes again and again in the middle of a storm: the world stops (the Ms end, whatever is queued stays),
// Ps go and come, new Ms go on.
inline void storm_of_changing_procs(const OptionEnd& end, PId most, std::size_t goroutines, std::uint64_t seed) {
  ParkingWorld world(end, most, seed);
  Random order(seed);
  Herd herd(goroutines);
  std::atomic<std::uint64_t> made{0}, ended{0};
  while (ended.load() < goroutines) {
    const std::uint64_t stop_at = std::min<std::uint64_t>(goroutines, ended.load() + 1 + order.below(400));
    const std::uint64_t salt = order();
    world.run([&](TestM& m) {
      Random random(salt + m.id);
      for (;;) {
        if (m.p == kNoP && !world.sleep(m)) return;
        if (world.is_over()) return;
        for (std::uint32_t n = random.below(4); n > 0; --n) {
          const std::uint64_t i = made.fetch_add(1, std::memory_order_relaxed);
          if (i < goroutines) world.put(herd[i], m.p, random.below(2) == 0 ? Why::kSpawned : Why::kReadied);
        }
        TestG* g = world.pick_local(m.p);
        if (g == nullptr) g = world.pick_next(m.p);
        if (g == nullptr) continue;
        if (random.below(6) == 0)
          world.put(*g, m.p, random.below(2) == 0 ? Why::kYielded : Why::kPreempted);
        else if (ended.fetch_add(1, std::memory_order_acq_rel) + 1 >= stop_at)
          world.end();
      }
    });
    world.change_procs(1 + order.below(most));
    GEARBOX_REQUIRE(world.scheduler().has_runnable() == (world.queued() != 0), "{} are queued", world.queued());
  }
  GEARBOX_REQUIRE(world.queued() == 0, "{} are queued", world.queued());
}

}  // namespace gearbox::testing
