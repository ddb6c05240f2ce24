// That everybody gets on: timers while all compute, preemption, threads that the kernel refuses, the end of the program.
// What goes wrong here is a hang, so these tests have nothing to assert but that they end.
#include <sys/resource.h>
#include <unistd.h>

#include <limits>

#include "base/os/clock.h"
#include "tests/runtime/program.h"

#if defined(__SANITIZE_THREAD__)
// A program ends without waiting for those of its threads that are in a call or a loop; the sanitizer calls them leaked.
extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() { return "report_thread_leaks=0"; }
#endif

static bool threads_are_refused = false;
#if defined(__SANITIZE_ADDRESS__)
// The leak checker looks from a thread of its own.
extern "C" int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() { return threads_are_refused ? 1 : 0; }
#endif

namespace gearbox::testing {
namespace {

void exits(const Program& setup, std::function<void()> body, int code, const char* text) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        run(setup, body);
        std::exit(0);
      },
      ::testing::ExitedWithCode(code), text);
}

std::vector<std::string> names(bool one_p_too) {
  std::vector<std::string> all;
  for (const auto& e : all_schedulers())
    if (one_p_too || e.traits.max_procs == 0) all.emplace_back(e.name);
  return all;
}

class OnEachScheduler : public ::testing::TestWithParam<std::string> {
 protected:
  Program on(std::uint64_t procs) const {
    Program s;
    s.scheduler = GetParam();
    s.options.procs = procs;
    return s;
  }
};
using Timers = OnEachScheduler;
using Slices = OnEachScheduler;
using End = OnEachScheduler;
const auto kName = [](const auto& info) { return info.param; };
INSTANTIATE_TEST_SUITE_P(EveryScheduler, Timers, ::testing::ValuesIn(names(false)), kName);
INSTANTIATE_TEST_SUITE_P(EveryScheduler, Slices, ::testing::ValuesIn(names(true)), kName);
INSTANTIATE_TEST_SUITE_P(EveryScheduler, End, ::testing::ValuesIn(names(false)), kName);

// The P whose heap holds the timer computes on and passes no safepoint: another M must fire it.
TEST_P(Timers, OfABusyPAreFiredByWhoeverIsIdle) {
  run(on(2), [] {
    for (int round = 0; round < 20; ++round) {
      std::atomic<bool> fired{false};
      const auto c = make_chan<Chan<std::int64_t>>(1);
      WaitGroup group;
      group.add(1);
      go([&, c] {
        c.recv().recv();
        fired = true;
        group.done();
      });
      gearbox::sleep(100 * kMicrosecond);  // it waits on c
      c.send(after(300 * kMicrosecond));
      os::sleep_ns(100 * kMicrosecond);
      while (!fired.load(std::memory_order_relaxed)) cpu_relax();
      group.wait();
    }
  });
}

// Armed when the M that watches has lain down already, with no deadline or a later one.
TEST_P(Timers, ArmedByABusyPWakeTheWatcher) {
  run(on(2), [] {
    std::atomic<int> fired{0};
    const TimerHandle later = after_func(3600 * kSecond, [] {});
    for (int round = 1; round <= 5; ++round) {
      os::sleep_ns(5 * kMillisecond);  // everybody else is asleep by now
      after_func(kMillisecond, [&] { fired.fetch_add(1); });
      while (fired.load(std::memory_order_relaxed) != round) cpu_relax();
    }
  });
}

// A deadline that passes in a pause finds no P; after it, nobody but the watcher would look.
TEST_P(Timers, DueWhileTheWorldStoodStillFireAfterwards) {
  run(on(2), [] {
    for (int round = 0; round < 5; ++round) {
      std::atomic<bool> started{false}, woken{false};
      WaitGroup group;
      group.add(1);
      go([&] {
        started = true;
        gearbox::sleep(2 * kMillisecond);
        woken = true;
        group.done();
      });
      while (!started.load()) cpu_relax();  // on the other P
      os::sleep_ns(kMillisecond / 2);
      current_runtime().stop_the_world("test");
      os::sleep_ns(4 * kMillisecond);
      current_runtime().start_the_world();
      blocking([&] {
        while (!woken.load()) os::sleep_ns(100 * kMicrosecond);
      });
      group.wait();
    }
  });
}

TEST_P(Timers, OfTheFarFutureDoNotFire) {
  run(on(2), [] {
    constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
    const auto never = after(kMost);
    const TimerHandle timer = new_timer(kMost), ticker = new_ticker(kMost);
    TimerHandle again = new_timer(kSecond);
    again.reset(kMost);
    gearbox::sleep(kMillisecond);
    bool fired = true;
    select(on_recv(never, [](std::int64_t) {}), on_recv(timer.channel(), [](std::int64_t) {}),
           on_recv(ticker.channel(), [](std::int64_t) {}), on_recv(again.channel(), [](std::int64_t) {}),
           otherwise([&] { fired = false; }));
    EXPECT_FALSE(fired);
  });
}

TEST_P(Timers, MayBeResetByManyAtATime) {
  run(on(4), [] {
    TimerHandle timer = new_timer(kSecond), ticker = new_ticker(kSecond);
    WaitGroup group;
    group.add(4);
    for (int g = 0; g < 4; ++g)
      go([&, g] {
        for (int i = 0; i < (kSanitized ? 300 : 5000); ++i) {
          timer.reset(i % 7 == g ? 1 : kSecond);
          ticker.reset(i % 5 == g ? kMicrosecond : kSecond);
          if (i % 16 == 0) gosched();
        }
        group.done();
      });
    group.wait();
    timer.stop();
    ticker.stop();
    EXPECT_FALSE(timer.stop());
  });
}

TEST(TimersAtTheEnd, HandlesOutliveTheRuntime) {
  TimerHandle ticker, timer, call;
  Chan<std::int64_t> late;
  run(Program{}.procs(2), [&] {
    ticker = new_ticker(3600 * kSecond);
    timer = new_timer(3600 * kSecond);
    call = after_func(3600 * kSecond, [] {});
    late = after(3600 * kSecond);
    go([] { gearbox::sleep(3600 * kSecond); });
    gosched();
  });
  EXPECT_FALSE(timer.stop());
  EXPECT_FALSE(ticker.stop());
}

// A few that compute take turns; timers must not wait for as many slices as there are switches between two looks.
TEST_P(Slices, APreemptionLooksAtTheTimers) {
  Program s = on(1);
  s.options.slice_us = 1000;
  constexpr std::uint64_t kSleeps = 20;
  const RunStats stats = run(s, [] {
    std::atomic<bool> stop{false};
    WaitGroup group;
    group.add(2);
    for (int i = 0; i < 2; ++i)
      go([&] {
        while (!stop.load(std::memory_order_relaxed)) GEARBOX_SAFEPOINT();
        group.done();
      });
    for (std::uint64_t i = 0; i < kSleeps; ++i) gearbox::sleep(100 * kMicrosecond);
    stop = true;
    group.wait();
  });
  for (const auto& counter : stats.counters)
    if (counter.name == "runtime.preemptions") {
      EXPECT_LT(counter.value, kSleeps * 16);
    }
}

// Two that ready each other inherit one slice after the other; its end must come all the same.
TEST_P(Slices, APairThatReadiesEachOtherDoesNotStarveTheRest) {
  Program s = on(1);
  s.options.slice_us = 1000;
  run(s, [] {
    std::atomic<bool> stop{false};
    Semaphore ping(0), pong(0);
    WaitGroup group;
    group.add(2);
    go([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        ping.release();
        pong.acquire();
      }
      ping.release();
      group.done();
    });
    go([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        ping.acquire();
        pong.release();
      }
      group.done();
    });
    for (int i = 0; i < 5; ++i) gosched();
    stop = true;
    group.wait();
  });
}

TEST_P(Slices, LoopsOfSynchronisationArePreempted) {
  GoMutex mutex;
  RWMutex lock;
  WaitGroup counter;
  Semaphore semaphore(1);
  const std::function<void()> loops[] = {
      [&] {
        mutex.lock();
        mutex.unlock();
      },
      [&] {
        if (mutex.try_lock()) mutex.unlock();
      },
      [&] {
        lock.lock();
        lock.unlock();
      },
      [&] {
        lock.rlock();
        lock.runlock();
      },
      [&] {
        counter.add(1);
        counter.done();
      },
      [&] {
        semaphore.acquire();
        semaphore.release();
      },
      [&] { counter.wait(); },
      [] { go([] {}); },
  };
  for (const auto& body : loops) {
    Program s = on(1);
    s.options.slice_us = 1000;
    run(s, [&] {
      std::atomic<bool> stop{false};
      const auto done = make_chan<int>(1);
      go([&] {
        while (!stop.load(std::memory_order_relaxed)) body();
        done.send(1);
      });
      gosched();
      stop = true;
      done.recv();
    });
  }
}

TEST_P(End, DoesNotWaitForBlockingCalls) {
  exits(
      on(2),
      [] {
        for (int i = 0; i < 6; ++i)
          go([] {
            blocking([] {
              for (;;) ::pause();
            });
          });
        gearbox::sleep(5 * kMillisecond);
      },
      0, "");
}

TEST_P(End, DoesNotWaitForLoopsWithoutSafepoints) {
  exits(
      on(3),
      [] {
        go([] {
          for (;;) cpu_relax();
        });
        gearbox::sleep(kMillisecond);
        // From go() on main passes no safepoint: it would be held there, and never return.
        std::atomic<bool> main_is_past{false}, collecting{false};
        go([&] {
          while (!main_is_past) gosched();
          collecting = true;
          for (;;) gc();  // waits for the loop, and keeps the world
        });
        main_is_past = true;
        while (!collecting) cpu_relax();
        for (const std::int64_t until = os::monotonic_ns() + kMillisecond; os::monotonic_ns() < until;) cpu_relax();
      },
      0, "");
}

// A call that ends by an exception, a panic or goexit() gives the goroutine its P back all the same.
TEST(Blocking, MayThrowPanicAndExit) {
  for (const char* poller : {"null", "epoll", "io_uring"}) {
    Program s;
    s.poller = poller;
    s.options.procs = 2;
    run(s, [] {
      WaitGroup group;
      group.add(1);
      for (int i = 0; i < 20; ++i) {
        const std::int64_t length_ns = i % 2 * 100 * kMicrosecond;
        try {
          blocking([&]() -> int {
            os::sleep_ns(length_ns);
            throw std::runtime_error("no");
          });
        } catch (const std::runtime_error& e) {
          gosched();
          EXPECT_STREQ(e.what(), "no");
        }
        keep_alive(make<int>(i));
        std::string message;
        scope([&](Defer& defer) {
          defer([&] {
            gosched();
            message = recover()->message;
          });
          blocking([&] {
            os::sleep_ns(length_ns);
            panic("within");
          });
        });
        EXPECT_EQ(message, "within");
      }
      go([&] {
        scope([&](Defer& defer) {
          defer([&] { group.done(); });
          blocking([] { goexit(); });
          ADD_FAILURE();
        });
      });
      group.wait();
    });
  }
}

// From here the kernel refuses this process new threads. Root is exempt from the limit, so it stops being root first.
void refuse_threads() {
  threads_are_refused = true;
  if (::geteuid() == 0) {
    ASSERT_EQ(::setuid(65534), 0);
  }
  const rlimit none{1, 1};
  ASSERT_EQ(::setrlimit(RLIMIT_NPROC, &none), 0);
}

TEST(RefusedThreadsDeathTest, WorkIsDoneByThoseThereAre) {
  for (const auto& scheduler : names(false)) {
    Program s;
    s.scheduler = scheduler;
    s.collector = "none";
    s.options.procs = 8;
    exits(
        s,
        [] {
          refuse_threads();
          WaitGroup group;
          group.add(20'000);
          for (int i = 0; i < 20'000; ++i) {
            go([&] { group.done(); });
            if (i % 2 == 0) gosched();
          }
          gearbox::sleep(kMillisecond);
          blocking([] { os::sleep_ns(30 * kMillisecond); });
          group.wait();
        },
        0, "");
  }
}

TEST(RefusedThreadsDeathTest, WithNobodyLeftToRunAnythingItIsTheEnd) {
  for (const bool sysmon : {true, false}) {
    Program s;
    s.collector = "none";
    s.options.procs = 1;
    s.options.sysmon = sysmon;
    exits(
        s,
        [] {
          refuse_threads();
          const auto c = make_chan<int>();
          lock_os_thread();  // the only thread runs this goroutine only
          go([=] { c.send(1); });
          c.recv();
        },
        2, "fatal error: cannot create a thread, and none is left to run goroutines");
  }
}

TEST(DeadlockDeathTest, IsFoundWhenABlockingThreadLiesDownLast) {
  for (const char* poller : {"epoll", "io_uring"}) {
    Program s;
    s.poller = poller;
    s.options.procs = 2;
    exits(
        s,
        [] {
          const auto c = make_chan<int>();
          go([=] {
            blocking([] { os::sleep_ns(5 * kMillisecond); });
            c.recv();
          });
          c.recv();
        },
        2, "all goroutines are asleep");
  }
}

}  // namespace
}  // namespace gearbox::testing
