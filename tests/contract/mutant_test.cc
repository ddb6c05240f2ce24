// Each planted bug must be noticed: a child process plants it, runs the graph fuzzer over several seeds, and has to die
// of a broken promise. `checked` builds only; in others mutants do not exist.
#include <gtest/gtest.h>

#include "interfaces/mutant.h"
#include "tests/contract/graph_fuzz.h"

namespace gearbox::testing {
namespace {

// Not here: kNoShadeAtHandoff and kRunUnscanned. A stack is scanned before its goroutine runs, so what a sender holds
// is marked when it hands it over, and each of the two rules hides the other's absence from this world; the runtime's
// own tests look at both.
struct Planted {
  Mutant mutant;
  const char* name;
  const char* collector;
  const char* allocator = "size_class";
};
void PrintTo(const Planted& planted, std::ostream* out) { *out << planted.name; }

class Mutants : public ::testing::TestWithParam<Planted> {};

// As the fuzzer of the contract, with a small write buffer or a large one, with and without checkmark; each seed is a
// new world.
void fuzz(const char* collector, const char* allocator, std::uint64_t seeds) {
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    MockConfig config;
    config.heap_mib = 256;
    config.collector = collector;
    config.allocator = allocator;
    config.world = {.seed = seed, .stress_alloc = 10 + seed * 7 % 40, .checkmark = seed % 4 == 0};
    MockWorld world(config);
    GEARBOX_REQUIRE(world.start().ok());
    GraphFuzz(
        world,
        {.seed = seed, .threads = 1 + static_cast<std::uint32_t>(seed % 3), .operations = 6000, .collect_every = 400})
        .run();
  }
}

TEST(Mutants, NoneIsNoBug) { fuzz("concurrent", "size_class", 4); }

TEST_P(Mutants, IsNoticed) {
  if (!kGearboxChecked) GTEST_SKIP() << "mutants exist in checked builds only";
#if defined(GEARBOX_CHECKED)
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        planted_mutant.store(GetParam().mutant);
        fuzz(GetParam().collector, GetParam().allocator, 60);
      },
      "");  // a message of ours or a crash: either way the bug does not pass unnoticed
#endif
}

INSTANTIATE_TEST_SUITE_P(
    Each, Mutants,
    ::testing::Values(Planted{Mutant::kDropDeletionBarrier, "DropDeletionBarrier", "concurrent"},
                      Planted{Mutant::kStoreBeforeBarrier, "StoreBeforeBarrier", "concurrent"},
                      Planted{Mutant::kNoFinalFlush, "NoFinalFlush", "concurrent"},
                      Planted{Mutant::kAllocateWhite, "AllocateWhite", "concurrent"},
                      Planted{Mutant::kSweepLosesBlack, "SweepLosesBlack", "concurrent"},
                      Planted{Mutant::kClearMarksInSweep, "ClearMarksInSweep", "concurrent", "mimalloc"},
                      Planted{Mutant::kNoPad, "NoPad", "stw"}, Planted{Mutant::kSkipRoots, "SkipRoots", "stw"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gearbox::testing
