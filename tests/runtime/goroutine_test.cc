// Goroutines, parking, Ps and Ms, over every scheduler and several numbers of Ps.
#include <cerrno>
#include <set>
#include <stdexcept>

#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

struct Case {
  std::string scheduler;
  std::uint64_t procs;
};
std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto& e : all_schedulers())
    for (std::uint64_t procs : {1, 2, 5})
      if (e.traits.max_procs == 0 || procs <= e.traits.max_procs) cases.push_back({std::string(e.name), procs});
  return cases;
}

class Goroutines : public ::testing::TestWithParam<Case> {
 protected:
  Program setup() const {
    Program s;
    s.scheduler = GetParam().scheduler;
    s.options.procs = GetParam().procs;
    return s;
  }
};
INSTANTIATE_TEST_SUITE_P(EveryScheduler, Goroutines, ::testing::ValuesIn(all_cases()), [](const auto& info) {
  return info.param.scheduler + "_" + std::to_string(info.param.procs) + "p";
});

TEST_P(Goroutines, MainReturnsWhateverOthersDo) {
  run(setup(), [] {
    for (int i = 0; i < 10; ++i)
      go([] {
        for (;;) gosched();
      });
    go([] { make_chan<int>().recv(); });
  });
}

TEST_P(Goroutines, EachRunsExactlyOnce) {
  constexpr int kCount = kSanitized ? 500 : 20'000;
  std::vector<std::atomic<int>> ran(kCount);
  run(setup(), [&] {
    WaitGroup group;
    group.add(kCount);
    for (int i = 0; i < kCount; ++i)
      go([&, i] {
        ran[static_cast<std::size_t>(i)].fetch_add(1);
        group.done();
      });
    group.wait();
    EXPECT_EQ(num_goroutine() >= 1, true);
  });
  for (const auto& n : ran) ASSERT_EQ(n.load(), 1);
}

// One after another, so that a few of them live all these lives.
TEST_P(Goroutines, EndAndBeginAnewManyTimes) {
  run(setup(), [] {
    constexpr int kLives = 50'000;
    const auto done = make_chan<int>();
    int sum = 0;
    for (int i = 0; i < kLives; ++i) {
      go([=] { done.send(1); });
      sum += done.recv();
    }
    EXPECT_EQ(sum, kLives);
  });
}

TEST_P(Goroutines, YieldLetsTheOtherRun) {
  run(setup(), [] {
    // With one P, two goroutines that yield alternate; with more, both must get on.
    std::atomic<int> turns[2] = {0, 0};
    WaitGroup group;
    group.add(2);
    for (int me = 0; me < 2; ++me)
      go([&, me] {
        for (int i = 0; i < 1000; ++i) {
          turns[me].fetch_add(1);
          if (gomaxprocs(0) == 1 && i > 0 && i < 999) {
            EXPECT_LE(std::abs(turns[0].load() - turns[1].load()), 2);
          }
          gosched();
        }
        group.done();
      });
    group.wait();
  });
}

TEST_P(Goroutines, SleepersWakeInOrderAndNeverEarly) {
  run(setup(), [] {
    const auto woken = make_chan<int>(8);
    for (int i = 0; i < 8; ++i)
      go([=] {
        const std::int64_t before = now_ns();
        gearbox::sleep(i * 5 * kMillisecond);
        EXPECT_GE(now_ns() - before, i * 5 * kMillisecond);
        woken.send(i);
      });
    std::set<int> seen;
    for (int i = 0; i < 8; ++i) seen.insert(woken.recv());
    EXPECT_EQ(seen.size(), 8u);
  });
}

// PITFALLS, errno: it travels with the goroutine.
TEST_P(Goroutines, ErrnoIsTheGoroutinesOwn) {
  run(setup(), [] {
    WaitGroup group;
    group.add(8);
    for (int me = 1; me <= 8; ++me)
      go([&, me] {
        for (int i = 0; i < 200; ++i) {
          [&]() __attribute__((noinline)) { errno = me; }
          ();
          gosched();
          [&]() __attribute__((noinline)) { EXPECT_EQ(errno, me); }
          ();
        }
        group.done();
      });
    group.wait();
  });
}

// PITFALLS, C++ exceptions in flight: park inside a handler, come back on whatever thread, rethrow.
TEST_P(Goroutines, ExceptionsInFlightTravel) {
  run(setup(), [] {
    WaitGroup group;
    constexpr int kCount = 50;
    group.add(kCount);
    for (int me = 0; me < kCount; ++me)
      go([&, me] {
        for (int i = 0; i < 20; ++i) {
          try {
            try {
              throw std::runtime_error(std::to_string(me));
            } catch (...) {
              gosched();
              gearbox::sleep((me % 3) * 10 * kMicrosecond);
              throw;
            }
          } catch (const std::runtime_error& e) {
            gosched();
            EXPECT_EQ(e.what(), std::to_string(me));
          }
        }
        group.done();
      });
    group.wait();
  });
}

TEST_P(Goroutines, BlockingCallsLeaveThePToOthers) {
  run(setup(), [] {
    // As many blocked calls as twice the Ps; a goroutine that computes must still get on.
    WaitGroup group;
    const int n = gomaxprocs(0) * 2;
    group.add(n);
    for (int i = 0; i < n; ++i)
      go([&] {
        blocking([] { os::sleep_ns(50 * kMillisecond); });
        group.done();
      });
    std::atomic<bool> stop{false};
    std::uint64_t turns = 0;
    go([&] {
      group.wait();
      stop = true;
    });
    while (!stop) {
      ++turns;
      gosched();
    }
    EXPECT_GT(turns, 0u);
    const int answer = blocking([] { return 42; });
    EXPECT_EQ(answer, 42);
  });
}

TEST_P(Goroutines, LongRunnersArePreemptedAtSafepoints) {
  Program s = setup();
  s.options.slice_us = 1000;
  run(s, [] {
    std::atomic<bool> stop{false};
    const int hogs = gomaxprocs(0) + 1;
    WaitGroup group;
    group.add(hogs);
    for (int i = 0; i < hogs; ++i)
      go([&] {
        while (!stop.load(std::memory_order_relaxed)) GEARBOX_SAFEPOINT();
        group.done();
      });
    gearbox::sleep(5 * kMillisecond);  // would never return if nobody was preempted
    stop = true;
    group.wait();
  });
}

TEST_P(Goroutines, TheWorldStopsAndStarts) {
  run(setup(), [] {
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> counter{0};
    WaitGroup group;
    group.add(4);
    for (int i = 0; i < 4; ++i)
      go([&] {
        while (!stop.load(std::memory_order_relaxed)) {
          counter.fetch_add(1, std::memory_order_relaxed);
          gosched();
        }
        group.done();
      });
    for (int i = 0; i < 50; ++i) {
      current_runtime().stop_the_world("test");
      const std::uint64_t before = counter.load();
      for (int k = 0; k < 1000; ++k) cpu_relax();
      EXPECT_EQ(counter.load(), before);
      current_runtime().start_the_world();
      gosched();
    }
    stop = true;
    group.wait();
  });
}

TEST_P(Goroutines, LockedGoroutineKeepsItsThread) {
  run(setup(), [] {
    WaitGroup group;
    group.add(3);
    for (int i = 0; i < 3; ++i)
      go([&] {
        lock_os_thread();
        const int mine = os::thread_id();
        for (int k = 0; k < 30; ++k) {
          gosched();
          EXPECT_EQ(os::thread_id(), mine);
          gearbox::sleep(50 * kMicrosecond);
          EXPECT_EQ(os::thread_id(), mine);
        }
        unlock_os_thread();
        group.done();
      });
    group.wait();
  });
}

// Another M may pick a locked goroutine before its own thread has gone to sleep: that thread must not run it on the P
// that it is about to give up, or the P that comes with it belongs to nobody and the next stop waits for it for ever.
TEST_P(Goroutines, AStopFindsEveryPWhileLockedGoroutinesYield) {
  run(setup(), [] {
    std::atomic<bool> stop{false};
    WaitGroup group;
    group.add(3);
    for (int i = 0; i < 3; ++i)
      go([&] {
        lock_os_thread();
        while (!stop.load(std::memory_order_relaxed)) {
          gosched();
          for (int k = 0; k < 200; ++k) GEARBOX_SAFEPOINT();
        }
        group.done();
      });
    for (int i = 0; i < 200; ++i) {
      current_runtime().stop_the_world("test");
      current_runtime().start_the_world();
      gosched();
    }
    stop = true;
    group.wait();
  });
}

TEST(Procs, ChangeWhileGoroutinesRun) {
  Program s;
  s.options.procs = 2;
  s.exactly = true;
  for (const char* scheduler : {"gmp", "global_queue"}) {
    s.scheduler = scheduler;
    run(s, [] {
      std::atomic<bool> stop{false};
      std::atomic<std::uint64_t> work{0};
      WaitGroup group;
      group.add(16);
      for (int i = 0; i < 16; ++i)
        go([&] {
          while (!stop.load(std::memory_order_relaxed)) {
            work.fetch_add(1, std::memory_order_relaxed);
            keep_alive(make<int>(1));
            gosched();
          }
          group.done();
        });
      int expected = 2;
      for (int n : {1, 8, 3, 1, 256, 2}) {
        EXPECT_EQ(gomaxprocs(n), expected);
        EXPECT_EQ(gomaxprocs(0), n);
        expected = n;
        for (int k = 0; k < 20; ++k) gosched();
      }
      // So fast that a P may be gone and back before the M that was held with it has run.
      for (int i = 0; i < 100; ++i) {
        gomaxprocs(1);
        gomaxprocs(8);
      }
      stop = true;
      group.wait();
    });
  }
}

TEST(Procs, From1To256) {
  for (std::uint64_t procs : {1u, 2u, 64u, 256u}) {
    Program s;
    s.options.procs = procs;
    s.exactly = true;
    const RunStats stats = run(s, [] {
      WaitGroup group;
      group.add(600);
      for (int i = 0; i < 600; ++i)
        go([&] {
          for (int k = 0; k < 20; ++k) gosched();
          group.done();
        });
      group.wait();
    });
    EXPECT_EQ(stats.procs, procs);
  }
}

TEST(Runtimes, AHundredOneAfterAnother) {
  for (int i = 0; i < 100; ++i) {
    int answer = 0;
    Program s;
    s.options.procs = 2;
    run(s, [&] {
      const auto c = make_chan<int>();
      go([=] { c.send(7); });
      answer = c.recv();
    });
    ASSERT_EQ(answer, 7);
  }
}

TEST(Runtimes, TwoAtTheSameTime) {
  const auto work = [](int* answer) {
    Program s;
    s.options.procs = 2;
    run(s, [&] {
      const auto c = make_chan<int>(4);
      go([=] {
        for (int i = 0; i < 5000; ++i) c.send(*make<int>(i));
        c.close();
      });
      for (int v : c) *answer += v & 1;
    });
  };
  int a = 0, b = 0;
  pthread_t thread{};
  struct Arg {
    decltype(work)* f;
    int* answer;
  } arg{&work, &b};
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void* p) -> void* {
                  auto* arg = static_cast<Arg*>(p);
                  (*arg->f)(arg->answer);
                  return nullptr;
                },
                &arg),
            0);
  work(&a);
  pthread_join(thread, nullptr);
  EXPECT_EQ(a, 2500);
  EXPECT_EQ(b, 2500);
}

TEST(Stacks, ManyParkedGoroutinesFitUnderTheMapLimit) {
  if (kSanitized) return;  // fibers and shadow memory are what would be measured
  Program s;
  s.options.procs = 2;
  const RunStats stats = run(s, [] {
    constexpr int kCount = 100'000;  // three times what mprotect guards allow with the default vm.max_map_count
    const auto gate = make_chan<int>();
    const auto done = make_chan<int>(1024);
    for (int i = 0; i < kCount; ++i)
      go([=] {
        gate.recv();
        done.send(1);
      });
    gate.close();
    for (int i = 0; i < kCount; ++i) done.recv();
  });
  if (stats.guard_kind == "install") {
    EXPECT_GT(stats.counters.size(), 0u);
  }
}

}  // namespace
}  // namespace gearbox::testing
