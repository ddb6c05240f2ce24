// The contract of interfaces/scheduler.h with threads that own Ps and sleep in earnest: what scheduler_test.cc demands
// at the borders of the World, here at every instruction. Seeded; the kernel decides the rest, so each is many rounds.
//
// None of these tests can pass by luck of the clock: a wake-up is lost when every M sleeps or waits for others while a
// goroutine is queued, and the World knows that at once (ParkingWorld::look_for_deadlock).
#include <gtest/gtest.h>

#include "tests/contract/scheduler_storm.h"

namespace gearbox::testing {
namespace {

class SchedulerThreads : public ::testing::TestWithParam<OptionEnd> {};

TEST_P(SchedulerThreads, ReturnEachEnqueuedGExactlyOnce) {
  PId last = 0;
  for (PId wanted : {1, 2, 4, 8}) {
    const PId procs = several_for(GetParam(), wanted);
    if (std::exchange(last, procs) == procs) break;  // the member takes no more Ps
    for (std::size_t outsiders : {0, 2}) mixed_storm(GetParam(), procs, outsiders, 24'000 / kStormScale, wanted);
  }
}

TEST_P(SchedulerThreads, NoPSleepsWhileABusyOneHasWork) {
  if (!traits_of(GetParam().gear).work_conserving) return;  // promises less, and says so
  for (PId wanted : {2, 3}) {
    // With a single P there is no other to sleep; what remains is work from outside, below.
    if (const PId procs = several_for(GetParam(), wanted); procs >= wanted)
      parking_duel(GetParam(), procs, false, 4'000 / kStormScale, wanted);
  }
}

TEST_P(SchedulerThreads, NoPSleepsWhileWorkComesFromOutside) {
  for (PId wanted : {1, 2})
    parking_duel(GetParam(), several_for(GetParam(), wanted), true, 4'000 / kStormScale, wanted);
}

TEST_P(SchedulerThreads, AsManyPsWakeAsThereIsWorkFor) {
  if (!traits_of(GetParam().gear).work_conserving) return;
  for (PId wanted : {2, 3, 5})
    if (const PId procs = several_for(GetParam(), wanted); procs >= wanted)
      gang(GetParam(), procs, 2'000 * wanted / procs / kStormScale + 1, wanted);
}

TEST_P(SchedulerThreads, ChangesOfGomaxprocsLoseNothing) {
  storm_of_changing_procs(GetParam(), several_for(GetParam(), 6), 20'000 / kStormScale, 1);
}

INSTANTIATE_TEST_SUITE_P(Every, SchedulerThreads, ::testing::ValuesIn(all_ends(all_schedulers())),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace gearbox::testing
