// The contract of interfaces/scheduler.h, over every scheduler and both ends of each of its options, driven by one
// thread that acts for every P, so that a failure can be run again.
//
// What it demands of a policy: each goroutine comes back exactly once, however it was queued; the local pick neither
// parks nor wakes; the full pick gives its P up exactly when it finds nothing; no interleaving of parking and submitting
// leaves work queued with nobody on the way; Ps come and go; has_runnable() and check() tell the truth; nothing is
// shared between instances. What an option lifts is written in scheduler_contract.h, and is demanded the other way
// round. A policy must hold no lock of its own when it calls the parking part of the World: these calls take locks and
// start threads, and here they let others act.
//
// Who runs before whom: scheduler_fairness_test.cc. The same with threads: scheduler_threads_test.cc.
#include <gtest/gtest.h>

#include <set>

#include "tests/contract/scheduler_contract.h"

namespace gearbox::testing {
namespace {

class SchedulerContract : public ::testing::TestWithParam<OptionEnd> {
 protected:
  static bool keeps(Promise promise) { return promises(GetParam(), promise); }
};

// Around and far above every size of ring, from every side, one by one and as a list. The world is used on, so that
// rings also wrap.
TEST_P(SchedulerContract, ReturnsEachEnqueuedGExactlyOnce) {
  const PId procs = procs_for(GetParam(), 3);
  ParkingWorld world(GetParam(), procs, 1);
  Random random(1);
  Herd herd(10'000);
  for (std::size_t n :
       {1, 2, 3, 15, 16, 17, 18, 33, 63, 64, 65, 66, 255, 256, 257, 258, 1025, 4095, 4097, 4098, 10'000}) {
    if (kSanitized && n > 1025) break;
    for (Why why : kAllWhys) {
      for (PId from : {PId{0}, procs - 1, kNoP}) {
        for (bool as_list : {false, true}) {
          if (as_list)
            world.put_all(herd.some(n), from, why);
          else
            for (std::size_t i = 0; i < n; ++i) world.put(herd[i], from, why);
          world.scheduler().check();
          ASSERT_TRUE(world.scheduler().has_runnable());
          drain(world, random);
          ASSERT_EQ(world.queued(), 0u) << n << " queued as " << static_cast<int>(why) << " from P " << from;
          world.change_procs(procs);  // all owned again
        }
      }
    }
  }
}

TEST_P(SchedulerContract, EnqueueAllOfNothingIsNothing) {
  ParkingWorld world(GetParam(), procs_for(GetParam(), 2), 1);
  for (Why why : kAllWhys)
    for (PId from : {PId{0}, kNoP}) world.put_all({}, from, why);
  EXPECT_FALSE(world.scheduler().has_runnable());
  EXPECT_EQ(world.pick_next(0), nullptr);
}

// ParkingWorld::pick_local looks at every parking call of every test. Here: also on a P whose M was just woken, with
// other Ps asleep; and what it leaves alone pick_next() finds.
TEST_P(SchedulerContract, LocalPickNeitherParksNorWakes) {
  const PId procs = procs_for(GetParam(), 4);
  ParkingWorld world(GetParam(), procs, 1);
  Herd herd(procs + 1);
  for (Why why : kAllWhys) {
    for (PId p = 0; p < procs; ++p) EXPECT_EQ(world.pick_next(p), nullptr);
    world.put(herd[0], kNoP, why);
    if (world.begin_chosen() == kNoP) {
      // One that only changes places has a P that is awake; from outside that is never so in earnest.
      ASSERT_TRUE(why == Why::kYielded || why == Why::kPreempted) << "nobody was woken";
      ASSERT_NE(world.take_idle(), kNoP);
    }
    PId woken = 0;
    while (!world.is_owned(woken)) ++woken;
    TestG* g = world.pick_local(woken);
    EXPECT_TRUE(g != nullptr || world.is_owned(woken));
    if (g == nullptr) EXPECT_EQ(world.pick_local(woken), nullptr) << "a null that is not one";
    if (g == nullptr) g = world.pick_next(woken);
    EXPECT_EQ(g, &herd[0]);
    world.put(herd[1], woken, Why::kSpawned);
    g = world.pick_local(woken);
    if (g == nullptr) g = world.pick_next(woken);
    EXPECT_EQ(g, &herd[1]);
    Random random(1);
    drain(world, random);
    world.change_procs(procs);
  }
}

TEST_P(SchedulerContract, NullMeansThatThePIsGivenUp) {
  const PId procs = procs_for(GetParam(), 4);
  ParkingWorld world(GetParam(), procs, 1);
  Herd herd(1);
  for (int round = 0; round < 100; ++round) {
    for (PId p = 0; p < procs; ++p) {
      EXPECT_EQ(world.pick_next(p), nullptr);
      EXPECT_FALSE(world.is_owned(p));
    }
    EXPECT_EQ(world.idle_p_count(), procs);
    world.put(herd[0], kNoP, Why::kInjected);
    EXPECT_LT(world.idle_p_count(), procs);
    const PId woken = world.begin_chosen();
    ASSERT_NE(woken, kNoP);
    EXPECT_EQ(world.pick_next(woken), &herd[0]);
    EXPECT_TRUE(world.is_owned(woken));
    while (world.begin_chosen() != kNoP) {  // the first to find something may have woken the next
    }
    for (PId p = 0; p < procs; ++p)
      if (p != woken && world.is_owned(p)) EXPECT_EQ(world.pick_next(p), nullptr);
    world.change_procs(procs);
  }
}

// The two sides of the idle protocol, by hand: a submitter acts just before the P is on the idle list (and sees nobody
// to wake), or just after (and wakes it, or leaves it to the look that follows).
TEST_P(SchedulerContract, WorkThatComesWhileAPParksIsFound) {
  for (auto at : {ParkingWorld::At::kBeforePark, ParkingWorld::At::kAfterPark, ParkingWorld::At::kBeforeCancel}) {
    ParkingWorld world(GetParam(), 1, 1);
    Herd herd(2);
    bool came = false;
    if (at == ParkingWorld::At::kBeforeCancel) {  // makes it look again, and then another M is faster
      world.hook = [&](ParkingWorld::At now) {
        if (now == ParkingWorld::At::kBeforePark && !herd[0].queued) world.put(herd[0], kNoP, Why::kInjected);
        if (now != at || std::exchange(came, true)) return;
        EXPECT_NE(world.take_idle(), kNoP);
      };
      EXPECT_EQ(world.pick_next(0), nullptr);
      EXPECT_TRUE(came);
      EXPECT_EQ(world.pick_next(0), &herd[0]) << "for the M that has it now";
      continue;
    }
    world.hook = [&](ParkingWorld::At now) {
      if (now == at && !std::exchange(came, true)) world.put(herd[0], kNoP, Why::kInjected);
    };
    TestG* g = world.pick_next(0);
    EXPECT_TRUE(came);
    if (g == nullptr) {
      ASSERT_NE(world.begin_chosen(), kNoP) << "the P sleeps, and nobody was woken";
      g = world.pick_next(0);
    }
    EXPECT_EQ(g, &herd[0]);
    EXPECT_EQ(world.pick_next(0), nullptr);
    world.scheduler().check();
  }
}

// A wake comes too late: the P that was idle has been taken for an event, runs what there is, and parks before the wake's
// caller has returned. What is submitted then must not be left to that wake.
TEST_P(SchedulerContract, WorkLeftToAWakeThatFailedIsFound) {
  ParkingWorld world(GetParam(), 1, 1);
  Herd herd(2);
  EXPECT_EQ(world.pick_next(0), nullptr);
  bool taken = false, came = false;
  world.hook = [&](ParkingWorld::At now) {
    if (now == ParkingWorld::At::kBeforeWake && !std::exchange(taken, true)) EXPECT_EQ(world.take_idle(), 0u);
    if (now != ParkingWorld::At::kAfterWake || std::exchange(came, true)) return;
    EXPECT_EQ(world.pick_next(0), &herd[0]);
    EXPECT_EQ(world.pick_next(0), nullptr);
    world.put(herd[1], kNoP, Why::kInjected);
  };
  world.put(herd[0], kNoP, Why::kInjected);
  ASSERT_TRUE(came);
  ASSERT_EQ(world.begin_chosen(), 0u) << "the P sleeps, and nobody was woken";
  EXPECT_EQ(world.pick_next(0), &herd[1]);
}

// Two pieces of work come while one P is about to park and another sleeps: whoever takes the first must see that the
// second has somebody.
TEST_P(SchedulerContract, APThatTurnsBackPassesOnThatThereIsMore) {
  const PId procs = procs_for(GetParam(), 2);
  ParkingWorld world(GetParam(), procs, 1);
  Herd herd(procs);
  for (PId p = 1; p < procs; ++p) EXPECT_EQ(world.pick_next(p), nullptr);
  bool came = false;
  world.hook = [&](ParkingWorld::At now) {
    if (now != ParkingWorld::At::kBeforePark || std::exchange(came, true)) return;
    for (std::size_t i = 0; i < procs; ++i) world.put(herd[i], kNoP, Why::kInjected);
  };
  std::uint64_t busy = world.pick_next(0) != nullptr ? 1 : 0;  // with its goroutine, for ever
  for (PId p = world.begin_chosen(); p != kNoP; p = world.begin_chosen()) busy += world.pick_next(p) != nullptr ? 1 : 0;
  // Where nobody steals, the first takes its share of both, and keeps it.
  EXPECT_EQ(busy, keeps(Promise::kOthersTakeAnyLocal) ? procs : 1) << "a P sleeps beside work";
}

TEST_P(SchedulerContract, NoInterleavingOfParkingAndSubmittingLosesWork) {
  for (PId procs : {1, 2, 3, 5}) {
    if (procs_for(GetParam(), procs) != procs) break;
    for (std::uint64_t seed = 1; seed <= (kSanitized ? 12 : 60); ++seed) Interleaver(GetParam(), procs, seed).run(50);
  }
}

TEST_P(SchedulerContract, HasRunnableIsTrueWhileAnythingIsQueued) {
  const PId procs = procs_for(GetParam(), 3);
  ParkingWorld world(GetParam(), procs, 1);
  Random random(5);
  Herd herd(600);
  std::vector<TestG*> free = herd.some(herd.size());
  EXPECT_FALSE(world.scheduler().has_runnable());
  for (int i = 0; i < 20'000; ++i) {
    const PId p = random.below(procs);
    if (i / 1000 % 2 == 0 && random.below(3) != 0 && !free.empty()) {
      world.put(*free.back(), random.below(4) == 0 ? kNoP : p, kAllWhys[random.below(std::size(kAllWhys))]);
      free.pop_back();
    } else if (world.queued() != 0) {
      if (TestG* g = world.pick_local(p)) free.push_back(g);
    }
    ASSERT_EQ(world.scheduler().has_runnable(), world.queued() != 0) << "step " << i;
  }
  drain(world, random);
  EXPECT_EQ(world.queued(), 0u);
  EXPECT_FALSE(world.scheduler().has_runnable());
}

// ---- Ps that come and go

TEST_P(SchedulerContract, ChangesOfGomaxprocsLoseNothing) {
  const PId most = procs_for(GetParam(), 9);
  ParkingWorld world(GetParam(), most, 1);
  Random random(3);
  Herd herd(6000);
  for (int round = 0; round < 60; ++round) {
    // In turn: a bit on every P; one long queue; the P that goes has all.
    const std::size_t n = round % 3 == 0 ? 100 : 6000;
    for (std::size_t i = 0; i < n; ++i) {
      const PId p = round % 3 == 0 ? static_cast<PId>(i % world.p_count()) : round % 3 == 1 ? 0 : world.p_count() - 1;
      world.put(herd[i], p, i % 7 == 0 ? Why::kReadied : Why::kSpawned);
    }
    world.change_procs(1 + random.below(most));
    EXPECT_EQ(world.scheduler().has_runnable(), true);
    if (round % 2 == 0) world.change_procs(1);
    drain(world, random);
    ASSERT_EQ(world.queued(), 0u) << "round " << round;
    world.scheduler().check();
    world.change_procs(1 + random.below(most));
  }
}

// A P that comes back starts as empty as a new one, and works.
TEST_P(SchedulerContract, APThatComesBackWorks) {
  const PId most = procs_for(GetParam(), 4);
  ParkingWorld world(GetParam(), most, 1);
  Random random(3);
  Herd herd(300);
  for (int round = 0; round < 10; ++round) {
    for (std::size_t i = 0; i < herd.size(); ++i) world.put(herd[i], most - 1, Why::kSpawned);
    world.change_procs(1);
    drain(world, random);
    ASSERT_EQ(world.queued(), 0u);
    world.change_procs(most);
    if (most > 1) EXPECT_EQ(world.pick_local(most - 1), nullptr);
    world.put(herd[0], most - 1, Why::kSpawned);
    TestG* g = world.pick_local(most - 1);
    if (g == nullptr) g = world.pick_next(most - 1);
    EXPECT_EQ(g, &herd[0]);
  }
}

// ---- self-tests and counters

TEST_P(SchedulerContract, CheckDiesOfAQueuedGThatIsNotRunnable) {
  for (Why why : kAllWhys) {
    for (PId from : {PId{0}, kNoP}) {
      if (kSanitized && why != Why::kReadied) continue;  // each look is a process
      ParkingWorld world(GetParam(), 1, 1);
      Herd herd(3);
      for (std::size_t i = 0; i < herd.size(); ++i) world.put(herd[i], from, why);
      world.scheduler().check();
      for (std::size_t i = 0; i < herd.size(); ++i) {
        herd[i].status = GStatus::kWaiting;
        EXPECT_DEATH(world.scheduler().check(), "runnable|status")
            << "goroutine " << i << " queued as " << static_cast<int>(why) << " from " << from;
        herd[i].status = GStatus::kRunnable;
      }
    }
  }
}

class CounterReader final : public CounterVisitor {
 public:
  void counter(std::string_view name, std::uint64_t, std::string_view text) override {
    EXPECT_FALSE(name.empty());
    EXPECT_FALSE(text.empty()) << name;
    EXPECT_TRUE(names.insert(std::string(name)).second) << name << " is counted twice";
  }
  std::set<std::string> names;
};

TEST_P(SchedulerContract, CountersHaveNamesAndTexts) {
  ParkingWorld world(GetParam(), procs_for(GetParam(), 2), 1);
  CounterReader reader;
  world.scheduler().counters(reader);
}

// With no idle P a wake can do nothing, and with one it is asked for at most once for each enqueue and each find.
TEST_P(SchedulerContract, WakesAreBounded) {
  const PId procs = procs_for(GetParam(), 4);
  ParkingWorld world(GetParam(), procs, 1);
  Random random(1);
  Herd herd(500);
  for (std::size_t i = 0; i < herd.size(); ++i) world.put(herd[i], i % 3 == 0 ? kNoP : PId{0}, kAllWhys[i % 5]);
  EXPECT_EQ(world.begin_chosen(), kNoP) << "a P was woken that was not idle";
  drain(world, random);
  for (int round = 0; round < 200; ++round) {
    const PId mine = world.take_idle();
    const std::uint64_t asked = world.wakes_asked(), excused = world.wakes_excused();
    const std::size_t n = 1 + random.below(20);
    for (std::size_t i = 0; i < n; ++i) world.put(herd[i], i % 2 == 0 ? kNoP : mine, Why::kInjected);
    ASSERT_LE(world.wakes_asked() - asked, n);
    drain(world, random);
    ASSERT_LE(world.wakes_asked() - asked, world.wakes_excused() - excused);
    ASSERT_EQ(world.queued(), 0u);
  }
}

TEST_P(SchedulerContract, ManyInOneProcess) {
  const PId procs = procs_for(GetParam(), 2);
  constexpr std::size_t kWorlds = 300, kEach = 40;
  std::vector<std::unique_ptr<ParkingWorld>> worlds;
  Herd herd(kWorlds * kEach);
  for (std::size_t w = 0; w < kWorlds; ++w) worlds.push_back(std::make_unique<ParkingWorld>(GetParam(), procs, w));
  for (std::size_t i = 0; i < herd.size(); ++i) {
    herd[i].kind = static_cast<std::uint32_t>(i % kWorlds);
    worlds[i % kWorlds]->put(herd[i], i % 3 == 0 ? kNoP : PId{0}, kAllWhys[i % 5]);
  }
  for (std::size_t w = 0; w < kWorlds; ++w) {
    TestG* g = worlds[w]->pick_next(0);
    ASSERT_NE(g, nullptr);
    EXPECT_EQ(g->kind, w);
  }
  Random random(1);
  for (std::size_t w = 0; w < kWorlds; w += 2) {
    drain(*worlds[w], random);
    ASSERT_EQ(worlds[w]->queued(), 0u);
    worlds[w].reset();
  }
  for (std::size_t w = 1; w < kWorlds; w += 2) {
    drain(*worlds[w], random);
    ASSERT_EQ(worlds[w]->picks(), kEach);
    worlds[w]->scheduler().check();
  }
}

INSTANTIATE_TEST_SUITE_P(Every, SchedulerContract, ::testing::ValuesIn(all_ends(all_schedulers())),
                         [](const auto& info) { return info.param.name(); });

// Every waiver names an option that there is: a renamed one would lift its promise from nobody, and silently.
TEST(SchedulerWaivers, NameOptionsThatExist) {
  const std::vector<OptionEnd> ends = all_ends(all_schedulers());
  for (const Waiver& w : kWaivers)
    EXPECT_TRUE(
        std::any_of(ends.begin(), ends.end(),
                    [&](const OptionEnd& e) { return e.gear == w.gear && e.field == w.field && e.level == w.level; }))
        << w.gear << ":" << w.field;
}

}  // namespace
}  // namespace gearbox::testing
