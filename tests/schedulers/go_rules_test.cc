// Rules of Go's that the schedulers claim, one test a rule, each by hand on one thread. Go's side is runtime/proc.go; what
// every policy must keep whoever invented it is in tests/contract/.
#include <gtest/gtest.h>

#include "tests/contract/scheduler_contract.h"

namespace gearbox::testing {
namespace {

const OptionEnd kGmp{"gmp", "", 0};

TestG* next_of(ParkingWorld& world, PId p, bool* inherits = nullptr) {
  TestG* g = world.pick_local(p, inherits);
  return g != nullptr ? g : world.pick_next(p, inherits);
}

// ---- the global queue and its turn (schedule(): schedtick % 61)

TEST(GoRules, EverySixtyFirstSliceTakesFromTheGlobalQueueFirst) {
  ParkingWorld world(kGmp, 1, 1);
  Herd herd(300);
  std::vector<TestG*> ring;
  for (std::size_t i = 3; i < 250; ++i) ring.push_back(&herd[i]);
  world.put_all(ring, 0, Why::kReadied);  // not to runnext: each is a slice
  for (std::size_t i = 0; i < 3; ++i) world.put(herd[i], kNoP, Why::kInjected);
  std::vector<int> at;
  for (int pick = 1; pick <= 61 * 3; ++pick) {
    bool inherits = true;
    const TestG* g = world.pick_local(0, &inherits);
    ASSERT_NE(g, nullptr);
    EXPECT_FALSE(inherits) << pick;
    if (g->id <= 3) at.push_back(pick);
  }
  EXPECT_EQ(at, (std::vector<int>{61, 122, 183}));
}

// A pair that ready each other. `hand_overs` of them, in one slice; true if what is in the global queue came between.
bool is_disturbed(ParkingWorld& world, TestG& one, TestG& other, const TestG& outside, int hand_overs) {
  for (int i = 0; i < hand_overs; ++i) {
    TestG& next = i % 2 == 0 ? one : other;
    world.put(next, 0, Why::kReadied);
    bool inherits = false;
    const TestG* g = world.pick_local(0, &inherits);
    if (g == &outside) return true;
    EXPECT_EQ(g, &next);
    EXPECT_TRUE(inherits);
  }
  return false;
}

// execute(): schedtick moves with a slice, and not when the slice is inherited. Else a goroutine that computes comes back
// from the global queue after 61 hand-overs of a pair, each time for a slice of its own.
TEST(GoRules, AHandOverIsNoSliceAndBringsTheGlobalQueueNoNearer) {
  ParkingWorld world(kGmp, 1, 1);
  Herd herd(3);
  world.put(herd[2], 0, Why::kPreempted);
  EXPECT_FALSE(is_disturbed(world, herd[0], herd[1], herd[2], 10'000));
  EXPECT_EQ(world.queued(), 1u);
  // When the slice is over, its turn comes: the pair's runnext goes behind, and the preempted one behind that.
  world.put(herd[0], 0, Why::kReadied);
  world.scheduler().on_slice_over(0);
  world.put(herd[1], 0, Why::kPreempted);
  EXPECT_EQ(world.pick_local(0), &herd[0]);
  EXPECT_EQ(world.pick_local(0), &herd[2]);
}

// The same with the turn of the global queue due at once: one look at it, and then 61 slices more.
TEST(GoRules, AfterItsTurnTheGlobalQueueWaitsForSlicesAgain) {
  ParkingWorld world(kGmp, 1, 1);
  Herd herd(70);
  std::vector<TestG*> ring;
  for (std::size_t i = 4; i < 64; ++i) ring.push_back(&herd[i]);
  world.put_all(ring, 0, Why::kReadied);
  for (int i = 0; i < 60; ++i) ASSERT_GT(world.pick_local(0)->id, 4u);
  world.put(herd[2], kNoP, Why::kInjected);
  world.put(herd[3], kNoP, Why::kInjected);
  EXPECT_EQ(world.pick_local(0), &herd[2]) << "slice 61";
  EXPECT_FALSE(is_disturbed(world, herd[0], herd[1], herd[3], 10'000));
}

TEST(GoRules, WithoutInheritedSlicesEveryPickIsOne) {
  ParkingWorld world({"gmp", "inherit_slice", 0}, 1, 1);
  Herd herd(3);
  world.put(herd[2], 0, Why::kPreempted);
  int picks = 0;
  for (; picks < 1000; ++picks) {
    world.put(herd[picks % 2], 0, Why::kReadied);
    bool inherits = false;
    const TestG* g = world.pick_local(0, &inherits);
    EXPECT_FALSE(inherits);
    if (g == &herd[2]) break;
  }
  EXPECT_EQ(picks, 60);
}

// globrunqget(): a P takes n / GOMAXPROCS + 1, at most half of its ring.
TEST(GoRules, APTakesItsShareOfTheGlobalQueue) {
  for (const auto& [queued, share] : {std::pair{100, 26}, {3, 1}, {10'000, 128}}) {
    ParkingWorld world(kGmp, 4, 1);
    Herd herd(static_cast<std::size_t>(queued));
    world.put_all(herd.some(herd.size()), kNoP, Why::kInjected);
    EXPECT_EQ(world.pick_local(0), &herd[0]);
    // The next P begins behind that share.
    EXPECT_EQ(world.pick_local(1), &herd[static_cast<std::size_t>(share)]) << queued << " queued";
  }
}

// goschedImpl(): to the global queue, behind all others, where any P finds it without stealing.
TEST(GoRules, WhoYieldsOrIsPreemptedGoesToTheGlobalQueue) {
  for (Why why : {Why::kYielded, Why::kPreempted}) {
    ParkingWorld world({"gmp", "spinning_pct", 0}, 2, 1);  // nobody steals
    Herd herd(2);
    world.put(herd[0], 0, why);
    world.put(herd[1], 0, Why::kSpawned);
    EXPECT_EQ(world.pick_local(0), &herd[1]);
    EXPECT_EQ(next_of(world, 1), &herd[0]);
  }
}

// ---- runnext (runqput, runqget)

TEST(GoRules, TheLatestIsInFrontAndTheOneBeforeGoesToTheTail) {
  for (Why why : {Why::kSpawned, Why::kReadied}) {
    ParkingWorld world(kGmp, 1, 1);
    Herd herd(4);
    world.put_all({&herd[0]}, 0, Why::kReadied);
    for (std::size_t i = 1; i < 4; ++i) world.put(herd[i], 0, why);
    for (std::size_t i : {3, 0, 1, 2}) EXPECT_EQ(world.pick_local(0), &herd[i]);
  }
}

TEST(GoRules, RunnextInheritsTheSliceAndNothingElseDoes) {
  ParkingWorld world(kGmp, 1, 1);
  Herd herd(3);
  world.put(herd[0], 0, Why::kSpawned);
  world.put(herd[1], 0, Why::kSpawned);
  world.put(herd[2], kNoP, Why::kInjected);
  for (bool expected : {true, false, false}) {
    bool inherits = !expected;
    ASSERT_NE(next_of(world, 0, &inherits), nullptr);
    EXPECT_EQ(inherits, expected);
  }
}

TEST(GoRules, AFullRingMovesItsOlderHalfToTheGlobalQueue) {
  ParkingWorld world(kGmp, 2, 1);
  constexpr std::size_t kSlots = 256;
  Herd herd(kSlots + 1);
  world.put_all(herd.some(kSlots + 1), 0, Why::kReadied);
  EXPECT_EQ(world.pick_local(0), &herd[kSlots / 2]) << "the younger half stays";
  EXPECT_EQ(world.pick_local(1), &herd[0]) << "the older half is anybody's";
}

// ---- stealing (stealWork, runqgrab)

TEST(GoRules, AThiefTakesHalfAndRunsTheYoungestOfIt) {
  for (std::size_t n : {1, 2, 5, 10, 255}) {
    ParkingWorld world(kGmp, 2, 1);
    Herd herd(n);
    world.put_all(herd.some(n), 0, Why::kReadied);
    const std::size_t taken = n - n / 2;
    EXPECT_EQ(world.pick_next(1), &herd[taken - 1]);
    if (taken > 1) EXPECT_EQ(world.pick_local(1), &herd[0]);
    if (n > 1) EXPECT_EQ(world.pick_local(0), &herd[taken]) << "what is left to the victim";
  }
}

// A runnext is taken only when nothing else was found anywhere, in the last of four rounds.
TEST(GoRules, AThiefTakesRunnextOnlyInTheLastPass) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {  // victims come in a random order
    ParkingWorld world(kGmp, 4, seed);
    Herd herd(2);
    for (PId p = 0; p < 2; ++p) world.put(herd[0], p, Why::kSpawned), world.pick_local(p);
    world.put(herd[0], 0, Why::kSpawned);
    world.put_all({&herd[1]}, 1, Why::kReadied);
    EXPECT_EQ(world.pick_next(2), &herd[1]) << "seed " << seed;
    EXPECT_EQ(world.pick_next(3), &herd[0]) << "nothing else is left";
  }
}

// findRunnable(): 2 * spinning < busy. A P beyond that does not search, and gives up beside what it could steal.
TEST(GoRules, AtMostHalfOfTheBusyPsSearch) {
  constexpr PId kProcs = 6;
  ParkingWorld world(kGmp, kProcs, 1);
  std::array<int, kProcs> looks{};  // of each P at the number of Ps: whether it may search, then in its search
  PId inside = 1, last = 1;
  world.hook = [&](ParkingWorld::At now) {
    // In the middle of a search the next P begins one, if it may; when it may not, the one after that tries. P 0 is busy.
    if (now != ParkingWorld::At::kBeforeCount || ++looks[inside] != 2) return;
    while (last + 1 < kProcs) {
      const PId former = std::exchange(inside, ++last);
      world.pick_next(last);
      inside = former;
    }
  };
  world.pick_next(1);
  world.hook = nullptr;
  ASSERT_EQ(last + 1, kProcs);
  for (PId p = 1; p < kProcs; ++p) EXPECT_FALSE(world.is_owned(p)) << "nothing was queued";
  struct Failed final : CounterVisitor {
    void counter(std::string_view name, std::uint64_t value, std::string_view) override {
      if (name == "failed_searches") searches = value;
    }
    std::uint64_t searches = 0;
  } failed;
  world.scheduler().counters(failed);
  EXPECT_EQ(failed.searches, kProcs / 2);
}

// wakep(): one at a time; a searcher that is awake already makes another wake needless.
TEST(GoRules, WorkWakesNobodyWhileAnotherSearches) {
  ParkingWorld world(kGmp, 3, 1);
  Herd herd(3);
  for (PId p = 1; p < 3; ++p) EXPECT_EQ(world.pick_next(p), nullptr);
  for (std::size_t i = 0; i < 3; ++i) world.put(herd[i], 0, Why::kSpawned);
  EXPECT_EQ(world.wakes_asked(), 1u);
  // resetspinning(): the last that stops searching wakes the next.
  const PId woken = world.begin_chosen();
  ASSERT_NE(woken, kNoP);
  EXPECT_NE(world.pick_next(woken), nullptr);
  EXPECT_EQ(world.wakes_asked(), 2u);
}

// ---- global_queue: Go 1.0's one queue, first in, first out, from wherever

TEST(GoRules, OneQueueForAllIsFirstInFirstOut) {
  ParkingWorld world({"global_queue", "", 0}, 2, 1);
  Herd herd(10);
  for (std::size_t i = 0; i < herd.size(); ++i)
    world.put(herd[i], i % 3 == 2 ? kNoP : static_cast<PId>(i % 2), i % 3 == 2 ? Why::kInjected : kAllWhys[i % 2]);
  for (std::size_t i = 0; i < herd.size(); ++i) EXPECT_EQ(world.pick_local(static_cast<PId>(i % 2)), &herd[i]);
}

}  // namespace
}  // namespace gearbox::testing
