// The window in which a P is lost: its M has given it up, sees work in its last look, and another M, which came back from
// the poller, has taken the P for an event. What others left to the M that parked is then nobody's, unless the policy
// wakes another (interfaces/scheduler.h, "Idle protocol").
#include <gtest/gtest.h>

#include "interfaces/mutant.h"
#include "tests/contract/scheduler_contract.h"

namespace gearbox::testing {
namespace {

// Three Ps, by hand. P 0 parks; P 1 parks behind it and may leave the work to P 0's M, which still searches as far as
// anybody can tell; P 2 is busy for ever and has queued the work.
//
//   P 0's M                          P 2's M                   P 1's M                    M from the poller
//   finds nothing
//                                    queues two; all Ps are
//                                    busy: no wake
//   prepare_to_park(0)
//                                                              finds nothing it may take,
//                                                              or leaves it to P 0's M;
//                                                              gives P 1 up
//                                                                                         takes P 0, runs its event
//   looks again: work
//   cancel_park(0): false
//   returns null, but P 1 ...                                  ... has been woken
//
// Dies when P 1 sleeps beside work.
void lose_a_p(const OptionEnd& end, bool brings_event) {
  ParkingWorld world(end, 3, 1);
  Herd herd(3);
  bool queued = false, taken = false;
  world.hook = [&](ParkingWorld::At now) {
    if (now == ParkingWorld::At::kBeforePark && !std::exchange(queued, true)) {
      world.put(herd[0], 2, Why::kSpawned);
      world.put(herd[1], 2, Why::kSpawned);
    }
    if (now != ParkingWorld::At::kAfterPark || std::exchange(taken, true)) return;
    GEARBOX_REQUIRE(!world.is_owned(0), "P 0 is parked");
    world.pick_next(1);
    std::size_t nth = 0;  // P 0, which parked first
    if (!world.is_owned(1)) nth = 1;
    GEARBOX_REQUIRE(world.take_idle(nth) == 0, "the test took the wrong P");
    if (brings_event) {
      world.put(herd[2], 0, Why::kInjected);
      world.pick_local(0);
    }
  };
  GEARBOX_REQUIRE(world.pick_next(0) == nullptr || !taken, "P 0 belongs to another M");
  world.hook = nullptr;
  for (PId p = world.begin_chosen(); p != kNoP; p = world.begin_chosen()) world.pick_next(p);  // busy for ever then
  const std::uint64_t excused = promises(end, Promise::kOthersTakeLatest) ? 0 : 1;
  GEARBOX_REQUIRE(!world.any_idle() || world.queued() <= excused, "a P sleeps, nobody was woken, and {} are queued",
                  world.queued());
}

class SchedulerLostP : public ::testing::TestWithParam<OptionEnd> {};

TEST_P(SchedulerLostP, WorkThatWasLeftToItsMIsFound) {
  if (procs_for(GetParam(), 3) != 3 || !promises(GetParam(), Promise::kOthersTakeAnyLocal)) return;
  for (bool brings_event : {true, false}) lose_a_p(GetParam(), brings_event);
}

INSTANTIATE_TEST_SUITE_P(Every, SchedulerLostP, ::testing::ValuesIn(all_ends(all_schedulers())),
                         [](const auto& info) { return info.param.name(); });

#if defined(GEARBOX_CHECKED)
TEST(SchedulerLostPMutant, APolicyThatWakesNobodyIsNoticed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        planted_mutant.store(Mutant::kLostPWakesNobody);
        lose_a_p({"gmp", "", 0}, true);
      },
      "contract broken");
}
#endif

}  // namespace
}  // namespace gearbox::testing
