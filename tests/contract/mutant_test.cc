// Each planted bug must be noticed: a child process plants it, runs the graph fuzzer over several seeds, and has to die
// of a broken promise. The control runs the same seeds on the same gears without a bug, and must end well. `checked`
// builds only; in others mutants do not exist.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "base/os/file.h"
#include "interfaces/mutant.h"
#include "tests/contract/graph_fuzz.h"
#include "tests/sanitized.h"

namespace gearbox::testing {
namespace {

#if defined(GEARBOX_CHECKED)

// Not here: bugs of the runtime's half, like kNoShadeAtHandoff, which need real stacks and channels
// to be seen; tests/runtime/mutant_test.cc has them.
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

// The first seed that is noticed ends the child, so many cost nothing: on a machine whose CPUs are busy elsewhere threads
// overlap less, and a bug between two of them takes more seeds.
constexpr std::uint64_t kSeeds = 600, kControlSeeds = 12;

// Never returns. A crash says so, that the test can tell it from a child that died of something else.
void provoke(const Planted& planted, Mutant mutant, std::uint64_t seeds) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  for (int number : {SIGSEGV, SIGBUS})
    std::signal(number, [](int) {
      constexpr char kText[] = "a bad address was used\n";
      os::write_all(2, kText, sizeof(kText) - 1);
      std::_Exit(139);
    });
#endif
  planted_mutant.store(mutant);
  fuzz(planted.collector, planted.allocator, seeds);
  std::_Exit(0);
}

TEST_P(Mutants, IsNoticed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(provoke(GetParam(), GetParam().mutant, kSeeds),
               "gearbox: contract broken|gearbox: invariant .* broken|checkmark: reachable and not marked|"
               "a bad address was used|" GEARBOX_SANITIZERS_WORDS);
}

TEST_P(Mutants, ControlEndsWell) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(provoke(GetParam(), Mutant::kNone, kControlSeeds), ::testing::ExitedWithCode(0), "");
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
#endif

}  // namespace
}  // namespace gearbox::testing
