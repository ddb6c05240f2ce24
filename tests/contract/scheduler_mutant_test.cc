// Each bug planted in a scheduler must be noticed: a child process plants it, runs a part of the contract that looks for
// it, and has to die of a broken promise. `checked` builds only; in others mutants do not exist, and neither do these
// tests.
#include <gtest/gtest.h>

#include "interfaces/mutant.h"
#include "tests/contract/scheduler_storm.h"

namespace gearbox::testing {
namespace {

void some_interleavings(const OptionEnd& end, std::uint64_t seeds) {
  for (std::uint64_t seed = 1; seed <= seeds; ++seed)
    for (PId procs : {1, 2, 3, 5})
      if (procs_for(end, procs) == procs) Interleaver(end, procs, seed).run(50);
}
void interleavings(const OptionEnd& end) { some_interleavings(end, 300); }
void storm(const OptionEnd& end) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) mixed_storm(end, procs_for(end, 4), 1, 10'000, seed);
}
// Whatever is picked has been stolen from the ring of an owner that is busy.
void duel(const OptionEnd& end) { parking_duel(end, 2, false, 2'000, 1); }
void gangs(const OptionEnd& end) { gang(end, procs_for(end, 3), 2'000, 1); }

struct Contract {
  const char* name;
  void (*look)(const OptionEnd&);
};
constexpr Contract kInterleavings{"interleavings", &interleavings}, kStorm{"storm", &storm}, kGang{"gang", &gangs},
    kDuel{"duel", &duel};

TEST(SchedulerMutants, NoneIsNoBug) {
  for (const char* gear : {"gmp", "global_queue", "null"}) {
    const OptionEnd end{gear, "", 0};
    some_interleavings(end, kSanitized ? 30 : 300);
    storm(end);
    gangs(end);
  }
}

#if defined(GEARBOX_CHECKED)

struct Planted {
  Mutant mutant;
  const char* name;
  OptionEnd end;
  Contract contract;
};
void PrintTo(const Planted& planted, std::ostream* out) { *out << planted.name; }

class SchedulerMutants : public ::testing::TestWithParam<Planted> {};

TEST_P(SchedulerMutants, IsNoticed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        planted_mutant.store(GetParam().mutant);
        GetParam().contract.look(GetParam().end);
      },
      "contract broken|invariant");  // a lost goroutine, one returned twice, a P that sleeps beside work
}

const OptionEnd kGmp{"gmp", "", 0}, kGlobalQueue{"global_queue", "", 0}, kNull{"null", "", 0};

INSTANTIATE_TEST_SUITE_P(
    Each, SchedulerMutants,
    ::testing::Values(Planted{Mutant::kNoSecondLook, "NoSecondLook", kGmp, kInterleavings},
                      Planted{Mutant::kNoSecondLook, "NoSecondLook", kGlobalQueue, kInterleavings},
                      Planted{Mutant::kNoSecondLook, "NoSecondLook", kNull, kInterleavings},
                      Planted{Mutant::kNoWakeAtEnqueue, "NoWakeAtEnqueue", kGmp, kInterleavings},
                      Planted{Mutant::kNoWakeAtEnqueue, "NoWakeAtEnqueue", kGlobalQueue, kInterleavings},
                      Planted{Mutant::kNoWakeAtEnqueue, "NoWakeAtEnqueue", kNull, kInterleavings},
                      Planted{Mutant::kNoWakeAtEnqueue, "NoWakeAtEnqueue", kGmp, kGang},
                      Planted{Mutant::kNoWakeAtEnqueue, "NoWakeAtEnqueue", kGlobalQueue, kGang},
                      Planted{Mutant::kFailedWakeForgets, "FailedWakeForgets", kGmp, kInterleavings},
                      Planted{Mutant::kFailedWakeForgets, "FailedWakeForgets", kGlobalQueue, kInterleavings},
                      Planted{Mutant::kLastSpinnerIsSilent, "LastSpinnerIsSilent", kGmp, kInterleavings},
                      Planted{Mutant::kLastSpinnerIsSilent, "LastSpinnerIsSilent", kGmp, kGang},
                      Planted{Mutant::kLostPWakesNobody, "LostPWakesNobody", kGmp, kInterleavings},
                      Planted{Mutant::kSpinnerForgetsCount, "SpinnerForgetsCount", kGmp, kInterleavings},
                      Planted{Mutant::kStealTwice, "StealTwice", kGmp, kInterleavings},
                      Planted{Mutant::kStealTwice, "StealTwice", {"gmp", "runnext", 0}, kDuel},
                      Planted{Mutant::kOverflowLosesOne, "OverflowLosesOne", {"gmp", "queue_slots", 0}, kInterleavings},
                      Planted{Mutant::kOverflowLosesOne, "OverflowLosesOne", {"gmp", "queue_slots", 0}, kStorm}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + info.param.end.gear + "_" + info.param.contract.name;
    });

#endif

}  // namespace
}  // namespace gearbox::testing
