// Who owns which P: locked goroutines, stops of the world and changes of GOMAXPROCS, all at once. Checked builds account
// for every P at each stop (Runtime::check_stopped); a P that got lost hangs the next stop.
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

struct Case {
  std::string scheduler, collector;
};
std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto& e : all_schedulers())
    if (e.traits.max_procs == 0)
      for (const char* collector : {"stw", "concurrent"}) cases.push_back({std::string(e.name), collector});
  return cases;
}

class Ownership : public ::testing::TestWithParam<Case> {
 protected:
  Program setup(std::uint64_t procs) const {
    Program s;
    s.scheduler = GetParam().scheduler;
    s.collector = GetParam().collector;
    s.options.procs = procs;
    s.exactly = true;  // the tests change the number themselves, and know what it was
    s.options.slice_us = 100;
    return s;
  }
};
INSTANTIATE_TEST_SUITE_P(EveryScheduler, Ownership, ::testing::ValuesIn(all_cases()),
                         [](const auto& info) { return info.param.scheduler + "_" + info.param.collector; });

// A locked goroutine that yields is visible to others before its own M has given its P up.
TEST_P(Ownership, LockedGoroutinesYieldWhileTheWorldStops) {
  run(setup(2), [] {
    std::atomic<bool> stop{false};
    WaitGroup group;
    group.add(3);
    for (int i = 0; i < 3; ++i)
      go([&, i] {
        if (i != 0) lock_os_thread();
        const int mine = os::thread_id();
        while (!stop.load(std::memory_order_relaxed)) {
          gosched();
          if (i != 0) {
            EXPECT_EQ(os::thread_id(), mine);
          }
        }
        group.done();
      });
    for (int i = 0; i < (kSanitized ? 50 : 500); ++i) {
      current_runtime().stop_the_world("test");
      current_runtime().start_the_world();
      gosched();
    }
    stop = true;
    group.wait();
  });
}

TEST_P(Ownership, EveryPIsAccountedForAtEachStop) {
  run(setup(4), [] {
    constexpr int kChanges = kSanitized ? 30 : 150;
    std::atomic<bool> stop{false};
    WaitGroup changers, others;
    const auto until_stopped = [&](auto body) {
      others.add(1);
      go([&, body] {
        while (!stop.load(std::memory_order_relaxed)) body();
        others.done();
      });
    };
    for (int i = 0; i < 3; ++i) {
      others.add(1);
      go([&, i] {
        lock_os_thread();
        const int mine = os::thread_id();
        for (int k = 0; !stop.load(std::memory_order_relaxed); ++k) {
          if (k % 3 == i) gearbox::sleep(20 * kMicrosecond);
          if (k % 3 != i) gosched();
          for (int spin = 0; spin < 2000; ++spin) GEARBOX_SAFEPOINT();
          EXPECT_EQ(os::thread_id(), mine);
        }
        others.done();
      });
    }
    for (int i = 0; i < 3; ++i)
      until_stopped([] {
        keep_alive(make<int>(1));
        gosched();
      });
    until_stopped([] { GEARBOX_SAFEPOINT(); });
    until_stopped([] { blocking([] { os::sleep_ns(50 * kMicrosecond); }); });
    until_stopped([] {
      gc();
      gosched();
    });
    changers.add(2);
    for (int i = 0; i < 2; ++i)
      go([&, i] {
        for (int k = 0; k < kChanges; ++k) {
          const int former = gomaxprocs(1 + (k * (3 + 2 * i) + i) % 8);
          EXPECT_GE(former, 1);
          EXPECT_LE(former, 8);
        }
        changers.done();
      });
    changers.wait();
    stop = true;
    others.wait();
  });
}

TEST(Procs, BeyondTheSchedulersLimitPanics) {
  Program s;
  s.scheduler = "null";
  s.options.procs = 1;
  run(s, [] {
    std::string message;
    scope([&](Defer& defer) {
      defer([&] { message = recover()->message; });
      gomaxprocs(2);
    });
    EXPECT_EQ(message, "GOMAXPROCS(2): the scheduler runs at most 1 P");
    EXPECT_EQ(gomaxprocs(0), 1);
    EXPECT_EQ(gomaxprocs(1), 1);
  });
}

TEST(Procs, MoreThanThereCanBeAreRefusedBeforeAnythingRuns) {
  for (const auto& [scheduler, procs, text] :
       {std::tuple{"gmp", 257, "procs=257: from 1 to 256"}, {"null", 2, "procs=2: scheduler=null runs at most 1"}}) {
    Program s;
    s.scheduler = scheduler;
    s.options.procs = static_cast<std::uint64_t>(procs);
    const GearSet gears = gears_of(s);
    const auto result = run_program(s.options, gears, [] { FAIL(); });
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().message, text);
  }
}

}  // namespace
}  // namespace gearbox::testing
