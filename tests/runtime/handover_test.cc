// A pair that hands over to each other beside goroutines that compute: the rule of slices under the real loop.
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

// One loop a P, and a pair that goes back and forth. A hand-over is no slice, so the loops do not come between every so
// many of them; each time one did, its slice would have to be cut short by a preemption.
TEST(HandOvers, AreNotCountedAsSlicesOfOthersBesideThem) {
  constexpr int kRoundTrips = 5'000;
  for (std::uint64_t procs : {1, 2}) {
    std::atomic<bool> done{false};
    const RunStats stats = run(Program{}.procs(procs), [&] {
      const auto there = make_chan<int>(), back = make_chan<int>();
      for (std::uint64_t p = 0; p < procs; ++p)
        go([&done] {
          while (!done.load(std::memory_order_relaxed)) GEARBOX_SAFEPOINT();
        });
      go([there, back] {
        for (int i = 0; i < kRoundTrips; ++i) back.send(there.recv());
      });
      for (int i = 0; i < kRoundTrips; ++i) {
        there.send(i);
        ASSERT_EQ(back.recv(), i);
      }
      done = true;
    });
    std::uint64_t preemptions = 0;
    for (const auto& counter : stats.counters)
      if (counter.name == "runtime.preemptions") preemptions = counter.value;
    // Twice as many hand-overs, and the 61st of them each: 163.
    EXPECT_LT(preemptions, 2u * kRoundTrips / 61 / 2) << procs << " Ps";
  }
}

}  // namespace
}  // namespace gearbox::testing
