// Goroutines that reach no safepoint: stops, slices, timers and the end of the program happen all the same.
#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/os/clock.h"
#include "base/os/thread.h"
#include "tests/runtime/interruptible.h"
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

// Calls nothing, allocates nothing, and is not optimised away.
void spin_until(const std::atomic<bool>& flag) {
  while (!flag.load(std::memory_order_relaxed)) asm volatile("");
}

std::uint64_t counter(const RunStats& stats, const std::string& name) {
  for (const auto& each : stats.counters)
    if (each.name == name) return each.value;
  ADD_FAILURE() << "there is no counter " << name;
  return 0;
}

int threads_of_this_process() {
  int count = 0;
  DIR* tasks = ::opendir("/proc/self/task");
  while (const dirent* entry = ::readdir(tasks)) count += entry->d_name[0] != '.' ? 1 : 0;
  ::closedir(tasks);
  return count;
}

using Combination = std::tuple<std::string, std::string, std::string, std::uint64_t>;
class Preemption : public ::testing::TestWithParam<Combination> {
 protected:
  static Program program() {
    Program s;
    std::tie(s.scheduler, s.collector, s.poller, s.options.procs) = GetParam();
    return s;
  }
  static bool refused(const Program& s) {
    const GearSet gears = gears_of(s);
    return !run_program(s.options, gears, [] {}).ok();
  }
};
INSTANTIATE_TEST_SUITE_P(Combinations, Preemption,
                         ::testing::Combine(::testing::Values("gmp", "global_queue"),
                                            ::testing::Values("stw", "concurrent"),
                                            ::testing::Values("epoll", "io_uring"), ::testing::Values(1, 2, 8)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param) + "_" +
                                  std::get<2>(info.param) + "_" + std::to_string(std::get<3>(info.param));
                         });

TEST_P(Preemption, ALoopOnEveryPHoldsUpNobody) {
  NEEDS_SIGNALS();
  const Program setup = program();
  if (refused(setup)) GTEST_SKIP() << "this machine refuses the poller";
  const RunStats stats = run(setup, [&] {
    std::atomic<bool> stop{false};
    WaitGroup hogs;
    const std::int64_t count = 2 * static_cast<std::int64_t>(setup.options.procs);
    hogs.add(count);
    for (std::int64_t i = 0; i < count; ++i)
      go([&] {
        spin_until(stop);
        hogs.done();
      });
    auto pipe = net::pipe();
    ASSERT_TRUE(pipe.ok());
    WaitGroup echo;
    echo.add(1);
    go([&, far = pipe->second] {
      char byte = 0;
      while (far.read({&byte, 1}).bytes == 1) far.write({&byte, 1});
      echo.done();
    });
    Link* list = nullptr;
    for (int round = 0; round < 3; ++round) {
      gearbox::sleep(kMillisecond);  // timers
      gc();                          // stops
      gosched();                     // slices
      list = make<Link>(list, static_cast<std::uint64_t>(round));
      char byte = 'x';  // events
      EXPECT_EQ(pipe->first.write({&byte, 1}).bytes, 1u);
      EXPECT_EQ(pipe->first.read({&byte, 1}).bytes, 1u);
    }
    EXPECT_EQ(list->value, 2u);
    stop = true;
    pipe->first.close();
    echo.wait();
    hogs.wait();
  });
  EXPECT_GT(counter(stats, "runtime.preempted_by_signal"), 0u);
}

TEST_P(Preemption, AProgramEndsWhileEveryPLoops) {
  NEEDS_SIGNALS();
  const Program setup = program();
  if (refused(setup)) GTEST_SKIP() << "this machine refuses the poller";
  const int before = threads_of_this_process();
  static std::atomic<bool> never{false};
  run(setup, [&] {
    std::atomic<int>* started = new std::atomic<int>{0};  // the loops may outlive this frame
    const int count = 2 * static_cast<int>(setup.options.procs);
    for (int i = 0; i < count; ++i)
      go([=] {
        started->fetch_add(1);
        spin_until(never);
      });
    while (started->load() < count) gosched();
  });
  // Every thread was joined: none was left behind in its loop.
  EXPECT_EQ(threads_of_this_process(), before);
}

TEST(PreemptionOptions, OffEndsNoSliceAndStopsStill) {
  Program s;
  s.options.procs = 1;
  s.options.slice_us = 100;
  s.options.preempt = RuntimeOptions::Preempt::kOff;
  const RunStats stats = run(s, [] {
    bool other_ran = false;
    go([&] { other_ran = true; });
    const std::int64_t until = os::monotonic_ns() + 20 * kMillisecond;
    while (os::monotonic_ns() < until) GEARBOX_SAFEPOINT();
    EXPECT_FALSE(other_ran);
    gc();
    gosched();
    EXPECT_TRUE(other_ran);
  });
  EXPECT_EQ(counter(stats, "runtime.preemptions"), 0u);
  EXPECT_EQ(counter(stats, "runtime.preempted_by_signal"), 0u);
}

TEST(PreemptionOptions, FlagSendsNoSignal) {
  Program s;
  s.options.procs = 1;
  s.options.slice_us = 100;
  s.options.preempt = RuntimeOptions::Preempt::kFlag;
  const RunStats stats = run(s, [] {
    std::atomic<bool> other_ran{false};
    go([&] { other_ran = true; });
    while (!other_ran) GEARBOX_SAFEPOINT();
  });
  EXPECT_GT(counter(stats, "runtime.preemptions"), 0u);
  EXPECT_EQ(counter(stats, "runtime.signals"), 0u);
}

TEST(PreemptionOptions, StopsNeedNoSysmon) {
  NEEDS_SIGNALS();
  Program s;
  s.options.procs = 2;
  s.options.sysmon = false;
  const RunStats stats = run(s, [] {
    std::atomic<bool> stop{false}, started{false};
    WaitGroup hog;
    hog.add(1);
    go([&] {
      started = true;
      spin_until(stop);
      hog.done();
    });
    while (!started) gosched();
    gc();
    stop = true;
    hog.wait();
  });
  EXPECT_GT(counter(stats, "runtime.stopped_by_signal"), 0u);
}

TEST(PreemptionOptions, AtTheLimitTheRefusalIsCounted) {
  NEEDS_SIGNALS();
  Program s;
  s.options.procs = 1;
  s.options.slice_us = 1000;
  s.options.frozen_max = 1;
  const RunStats stats = run(s, [] {
    WaitGroup hogs;
    hogs.add(4);
    for (int i = 0; i < 4; ++i)
      go([&] {
        const std::int64_t until = os::monotonic_ns() + 30 * kMillisecond;
        while (os::monotonic_ns() < until)
          for (int k = 0; k < 1000; ++k) asm volatile("");
        hogs.done();
      });
    hogs.wait();
  });
  EXPECT_GT(counter(stats, "runtime.freezes_refused"), 0u);
}

// From freeze to thaw a goroutine stays on its thread: what it took from the thread before the interruption is right
// after it.
TEST(FrozenGoroutines, StayOnTheirThread) {
  NEEDS_SIGNALS();
  Program s;
  s.options.procs = 2;
  s.options.slice_us = 50;
  const RunStats stats = run(s, [] {
    WaitGroup all;
    std::atomic<int> moved{0};
    all.add(8);
    for (int i = 0; i < 8; ++i)
      go([&] {
        const int thread = os::thread_id();
        const std::int64_t until = os::monotonic_ns() + 50 * kMillisecond;
        while (os::monotonic_ns() < until) moved += os::thread_id() != thread ? 1 : 0;
        all.done();
      });
    all.wait();
    EXPECT_EQ(moved.load(), 0);
  });
  EXPECT_GT(counter(stats, "runtime.preempted_by_signal"), 0u);
}

TEST(FrozenGoroutines, LockedOnesStayLocked) {
  NEEDS_SIGNALS();
  Program s;
  s.options.procs = 1;
  s.options.slice_us = 100;
  run(s, [] {
    std::atomic<bool> stop{false};
    WaitGroup hog;
    hog.add(1);
    go([&] {
      lock_os_thread();
      const int thread = os::thread_id();
      spin_until(stop);
      gosched();
      gearbox::sleep(kMillisecond);
      EXPECT_EQ(os::thread_id(), thread);
      unlock_os_thread();
      hog.done();
    });
    gearbox::sleep(5 * kMillisecond);
    stop = true;
    hog.wait();
  });
}

TEST(FrozenGoroutines, GomaxprocsChangesUnderThem) {
  NEEDS_SIGNALS();
  Program s;
  s.options.procs = 4;
  s.options.slice_us = 100;
  run(s, [] {
    std::atomic<bool> stop{false};
    WaitGroup hogs;
    hogs.add(6);
    for (int i = 0; i < 6; ++i)
      go([&] {
        spin_until(stop);
        hogs.done();
      });
    for (const int n : {1, 4, 2, 8, 1, 3}) {
      gomaxprocs(n);
      gearbox::sleep(kMillisecond);
      gc();
    }
    stop = true;
    hogs.wait();
  });
}

// qsort lies in the C library: the loop is stopped whenever it calls back into the program's text.
TEST(FrozenGoroutines, ALoopInASharedLibraryIsStoppedInTheProgramsText) {
  NEEDS_SIGNALS();
  Program s;
  s.options.procs = 1;
  run(s, [] {
    std::atomic<bool> stop{false};
    WaitGroup sorter;
    sorter.add(1);
    go([&] {
      std::vector<int> numbers(5000);
      while (!stop.load(std::memory_order_relaxed)) {
        for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int>((i * 7919) % 5003);
        std::qsort(numbers.data(), numbers.size(), sizeof(int), [](const void* a, const void* b) {
          const int left = *static_cast<const int*>(a), right = *static_cast<const int*>(b);
          return left < right ? -1 : (left > right ? 1 : 0);
        });
      }
      EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
      sorter.done();
    });
    for (int round = 0; round < 3; ++round) {
      gearbox::sleep(kMillisecond);
      gc();
    }
    stop = true;
    sorter.wait();
  });
}

// A loop of short blocking calls has a P most of the time, but never when sysmon looks.
TEST(Slices, EndForALoopOfBlockingCalls) {
  Program s;
  s.options.procs = 1;
  run(s, [] {
    std::atomic<bool> flag{false};
    go([&] { flag = true; });
    while (!flag.load()) blocking([] {});
  });
}

}  // namespace
}  // namespace gearbox::testing
