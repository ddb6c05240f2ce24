// What becomes of goroutine stacks that are not needed any more.
#include "base/os/memory.h"
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

// So many goroutines at a time that each has a stack, and at least a page of it, of its own.
void stand_in_line(int count) {
  const auto gate = make_chan<int>();
  WaitGroup there, gone;
  there.add(count);
  gone.add(count);
  for (int i = 0; i < count; ++i)
    go([&, gate] {
      there.done();
      EXPECT_FALSE(gate.recv_ok().ok);
      gone.done();
    });
  there.wait();
  gate.close();
  gone.wait();
}

TEST(Stacks, ThoseThatNobodyUsesGiveTheirPagesBackAndCanBeUsedAgain) {
#if GEARBOX_TSAN
  GTEST_SKIP() << "what the thread sanitizer remembers grows meanwhile, and is resident too";
#endif
  constexpr int kCount = kSanitized ? 1000 : 5000;
  const RunStats stats = run(Program{}.procs(2), [] {
    for (int round = 0; round < 2; ++round) {
      stand_in_line(kCount);
      const std::uint64_t most = os::resident_bytes();
      const std::uint64_t enough = most - static_cast<std::uint64_t>(kCount) / 2 * os::kPageBytes;
      // Some are busy all the time, some of the time nobody is: both must get on.
      for (int i = 0; i < 3000 && os::resident_bytes() > enough; ++i) {
        for (int k = 0; k < 100 && i % 64 < 32; ++k) gosched();
        gearbox::sleep(5 * kMillisecond);
      }
      EXPECT_LE(os::resident_bytes(), enough);
    }
  });
  std::uint64_t released = 0, made = 0;
  for (const auto& counter : stats.counters) {
    if (counter.name == "runtime.stacks_released") released = counter.value;
    if (counter.name == "runtime.stacks") made = counter.value;
  }
  EXPECT_GE(released, static_cast<std::uint64_t>(kCount));
  EXPECT_LT(made, static_cast<std::uint64_t>(kCount) * 3 / 2);  // the second round took those of the first
}

// A program may end before its goroutines do. The memory is the next one's.
TEST(Stacks, WhatUnfinishedFramesWereMarkedWithGoesWithTheProgram) {
#if GEARBOX_ASAN
  std::uintptr_t stack = 0;
  run(Program{}, [&] {
    go([&stack] {
      char frame[64];
      keep_alive(frame);
      stack = reinterpret_cast<std::uintptr_t>(frame) / os::kPageBytes * os::kPageBytes;
      select();
    });
    while (stack == 0) gosched();
    EXPECT_NE(__asan_region_is_poisoned(reinterpret_cast<void*>(stack), os::kPageBytes), nullptr)
        << "nothing to take away";
  });
  EXPECT_EQ(__asan_region_is_poisoned(reinterpret_cast<void*>(stack), os::kPageBytes), nullptr);
#else
  GTEST_SKIP() << "marks are the address sanitizer's";
#endif
}

}  // namespace
}  // namespace gearbox::testing
