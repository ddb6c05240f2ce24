// What doctor thinks of a machine, from its facts.
#include "harness/machine.h"

#include <gtest/gtest.h>

namespace gearbox::harness {
namespace {

Machine quiet() {
  Machine m;
  m.cores = 8;
  m.virtualization = "none";
  m.aslr = 2;
  m.io_uring = "available";
  m.guard = "install";
  m.idle_pct = 99;
  return m;
}
std::string verdict_of(Machine m) {
  judge(m);
  return m.verdict;
}

TEST(Machine, NothingElseThereIsGreen) { EXPECT_EQ(verdict_of(quiet()), "green"); }

// The first sweep comes right after the build that it needed, whose load the kernel's average still holds.
TEST(Machine, ABuildThatHasEndedIsAmberAndOneThatGoesOnIsRed) {
  Machine m = quiet();
  m.load[0] = 9.5;
  EXPECT_EQ(verdict_of(m), "amber");
  m.idle_pct = 40;
  EXPECT_EQ(verdict_of(m), "red");
  m.load[0] = 3;
  EXPECT_EQ(verdict_of(m), "amber");
}

TEST(Machine, AProcessThatUsesACpuNowIsRedWhateverTheLoadSays) {
  Machine m = quiet();
  m.busy.push_back({17, "cc1plus", 98});
  EXPECT_EQ(verdict_of(m), "red");
}

}  // namespace
}  // namespace gearbox::harness
