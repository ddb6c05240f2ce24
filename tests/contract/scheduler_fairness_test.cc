// The contract of interfaces/scheduler.h: fairness on one P, with the runtime's rule of slices, over every scheduler and
// both ends of each of its options. Yielding, hand-overs, slices and work from outside starve nobody.
#include <gtest/gtest.h>

#include <functional>

#include "tests/contract/scheduler_contract.h"

namespace gearbox::testing {
namespace {

class SchedulerFairness : public ::testing::TestWithParam<OptionEnd> {
 protected:
  static bool keeps(Promise promise) { return promises(GetParam(), promise); }
  // Whether `third` ran beside some that ready each other: only what waits in the P's own queue may depend on the promise.
  static void expect_as_promised(bool is_fair, Why third) {
    const bool from_queue = third == Why::kSpawned || third == Why::kReadied || third == Why::kHandedOver;
    if (keeps(Promise::kPairIsPreempted) || !from_queue)
      EXPECT_TRUE(is_fair) << static_cast<int>(third);
    else
      EXPECT_FALSE(is_fair) << "the waiver is out of date";
  }
};
INSTANTIATE_TEST_SUITE_P(Every, SchedulerFairness, ::testing::ValuesIn(all_ends(all_schedulers())),
                         [](const auto& info) { return info.param.name(); });

// Runs goroutines on P 0. `step` is what one does when it is picked, and hears when its slice, which lasts kSlice picks,
// is over; sysmon then needs a while to look again. True if `wanted` was picked within `most` picks.
constexpr int kSlice = 10;
bool is_picked(ParkingWorld& world, const TestG& wanted, int most, const std::function<void(TestG&, bool)>& step) {
  int slice = 0;
  for (int i = 0; i < most; ++i) {
    bool inherits = false;
    TestG* g = world.pick_local(0, &inherits);
    if (g == nullptr) g = world.pick_next(0, &inherits);
    if (g == nullptr) return false;
    if (g == &wanted) return true;
    slice = inherits ? slice + 1 : 0;
    const bool slice_is_over = slice >= kSlice;
    if (slice_is_over) slice = 0;
    step(*g, slice_is_over);
    if (slice_is_over) world.scheduler().on_slice_over(0);
  }
  return false;
}
// Above the longest period that an option can ask for: 100 000 slices.
constexpr int kMostPicks = 100'000 * (kSlice + 4);

TEST_P(SchedulerFairness, YieldedGoroutinesAlternate) {
  for (Why first : {Why::kSpawned, Why::kReadied, Why::kYielded, Why::kPreempted, Why::kInjected}) {
    ParkingWorld world(GetParam(), 1, 1);
    Herd herd(2);
    world.put(herd[0], 0, first);
    world.put(herd[1], 0, first);
    for (int i = 0; i < 1000; ++i) {
      TestG* g = world.pick_local(0);
      if (g == nullptr) g = world.pick_next(0);
      ASSERT_NE(g, nullptr);
      world.put(*g, 0, Why::kYielded);
    }
    if (keeps(Promise::kYieldAlternates)) {
      // Not one by one: a periodic look at another queue may bring one of them forward.
      EXPECT_GE(herd[0].picks, 400u);
      EXPECT_GE(herd[1].picks, 400u);
    } else {
      EXPECT_EQ(std::min(herd[0].picks, herd[1].picks), 0u) << "the waiver is out of date";
    }
  }
}

// Who hands its P over wakes nobody, and is not overtaken.
TEST_P(SchedulerFairness, AHandedOverGoroutineGoesNextAndNobodyIsWoken) {
  const PId procs = procs_for(GetParam(), 2);
  ParkingWorld world(GetParam(), procs, 1);
  Herd herd(40);
  for (PId p = 1; p < procs; ++p) EXPECT_EQ(world.pick_next(p), nullptr);
  for (int round = 0; round < 1000; ++round) {
    const std::uint64_t wakes = world.wakes_asked();
    world.put(herd[0], 0, Why::kHandedOver);
    ASSERT_EQ(world.wakes_asked(), wakes);
    TestG* g = world.pick_local(0);
    if (g == nullptr) g = world.pick_next(0);
    ASSERT_EQ(g, &herd[0]);
  }
  for (std::size_t i = 1; i < herd.size(); ++i) world.put(herd[i], 0, Why::kSpawned);
  world.put(herd[0], 0, Why::kHandedOver);
  // A periodic look at another queue may bring one other forward.
  for (int picks = 0; herd[0].picks == 1000; ++picks) {
    ASSERT_LT(picks, 2);
    TestG* g = world.pick_local(0);
    ASSERT_NE(g != nullptr ? g : world.pick_next(0), nullptr);
  }
}

// The loop that every program has somewhere: yield until something has happened.
TEST_P(SchedulerFairness, WhoYieldsInALoopLetsAllOthersRun) {
  for (Why why : kAllWhys) {
    ParkingWorld world(GetParam(), 1, 1);
    Herd herd(40);
    for (std::size_t i = 1; i < herd.size(); ++i) world.put(herd[i], 0, why);
    world.put(herd[0], 0, Why::kYielded);
    for (int i = 0; i < 10'000; ++i) {
      TestG* g = world.pick_local(0);
      if (g == nullptr) g = world.pick_next(0);
      ASSERT_NE(g, nullptr);
      if (g == &herd[0]) world.put(*g, 0, Why::kYielded);
    }
    if (keeps(Promise::kYieldAlternates))
      EXPECT_EQ(world.queued(), 1u) << "of those queued as " << static_cast<int>(why) << " some never ran";
    else
      EXPECT_EQ(world.queued(), herd.size()) << "the waiver is out of date";
  }
}

TEST_P(SchedulerFairness, APairThatReadiesEachOtherStarvesNobody) {
  for (Why third : kAllWhys) {
    ParkingWorld world(GetParam(), 1, 1);
    Herd herd(3);
    world.put(herd[2], 0, third);
    world.put(herd[0], 0, Why::kSpawned);
    const bool is_fair = is_picked(world, herd[2], kMostPicks, [&](TestG& g, bool slice_is_over) {
      TestG& partner = &g == &herd[0] ? herd[1] : herd[0];
      // Readies its partner, if that is not runnable already, and parks until it is readied by it.
      if (slice_is_over)
        world.put(g, 0, Why::kPreempted);
      else if (!partner.queued)
        world.put(partner, 0, Why::kReadied);
    });
    expect_as_promised(is_fair, third);
  }
}

TEST_P(SchedulerFairness, OneThatReadiesItselfStarvesNobody) {
  for (Why third : kAllWhys) {
    ParkingWorld world(GetParam(), 1, 1);
    Herd herd(2);
    world.put(herd[1], 0, third);
    world.put(herd[0], 0, Why::kReadied);
    const bool is_fair = is_picked(world, herd[1], kMostPicks, [&](TestG& g, bool slice_is_over) {
      world.put(g, 0, slice_is_over ? Why::kPreempted : Why::kReadied);
    });
    expect_as_promised(is_fair, third);
  }
}

// Every goroutine spawns the next before it ends: the P's own queue never runs dry.
TEST_P(SchedulerFairness, WorkFromOutsideIsPickedThoughThePIsNeverDry) {
  for (bool as_list : {false, true}) {
    ParkingWorld world(GetParam(), 1, 1);
    Herd herd(150'000);  // more than are ever queued: each slice leaves one behind, preempted
    std::vector<TestG*> free;
    for (std::size_t i = 4; i < herd.size(); ++i) free.push_back(&herd[i]);
    for (std::size_t i = 1; i < 4; ++i) world.put(herd[i], 0, Why::kSpawned);
    if (as_list)
      world.put_all({&herd[0]}, kNoP, Why::kInjected);
    else
      world.put(herd[0], kNoP, Why::kInjected);
    const bool is_fair = is_picked(world, herd[0], kMostPicks, [&](TestG& g, bool slice_is_over) {
      world.put(*free.back(), 0, Why::kSpawned);
      free.pop_back();
      if (slice_is_over)
        world.put(g, 0, Why::kPreempted);
      else
        free.push_back(&g);
    });
    if (keeps(Promise::kOutsideIsPicked))
      EXPECT_TRUE(is_fair);
    else
      EXPECT_FALSE(is_fair) << "the waiver is out of date";
    world.scheduler().check();
  }
}

}  // namespace
}  // namespace gearbox::testing
