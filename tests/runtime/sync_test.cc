// Mutex, RWMutex, WaitGroup, Once, Cond, Semaphore.
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

constexpr int kRounds = kSanitized ? 300 : 20'000;

Setup procs(std::uint64_t n) {
  Setup s;
  s.options.procs = n;
  return s;
}

class Sync : public ::testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Procs, Sync, ::testing::Values(1, 2, 4));

TEST_P(Sync, MutexKeepsOthersOut) {
  run(procs(GetParam()), [] {
    GoMutex mutex;
    std::uint64_t counter = 0;
    bool inside = false;
    WaitGroup group;
    group.add(8);
    for (int g = 0; g < 8; ++g)
      go([&] {
        for (int i = 0; i < kRounds; ++i) {
          mutex.lock();
          EXPECT_FALSE(inside);
          inside = true;
          ++counter;
          if (i % 64 == 0) gosched();  // a holder that is switched out
          inside = false;
          mutex.unlock();
        }
        group.done();
      });
    group.wait();
    EXPECT_EQ(counter, 8u * kRounds);
    EXPECT_TRUE(mutex.try_lock());
    EXPECT_FALSE(mutex.try_lock());
    mutex.unlock();
  });
}

TEST_P(Sync, StarvingWaiterGetsTheMutex) {
  run(procs(GetParam()), [] {
    GoMutex mutex;
    std::atomic<bool> stop{false};
    go([&] {
      while (!stop.load()) {
        mutex.lock();
        gearbox::sleep(100 * kMicrosecond);
        mutex.unlock();
      }
    });
    gearbox::sleep(kMillisecond);
    for (int i = 0; i < 10; ++i) {
      mutex.lock();
      mutex.unlock();
    }
    stop = true;
    mutex.lock();  // the hog has let go before the mutex goes out of scope
    mutex.unlock();
    gearbox::sleep(kMillisecond);
  });
}

TEST_P(Sync, RWMutexReadersTogetherWritersAlone) {
  run(procs(GetParam()), [] {
    RWMutex lock;
    std::atomic<int> readers{0}, writers{0};
    WaitGroup group;
    group.add(8);
    for (int g = 0; g < 8; ++g)
      go([&, g] {
        for (int i = 0; i < kRounds / 10; ++i) {
          if (g % 4 == 0) {
            lock.lock();
            EXPECT_EQ(writers.fetch_add(1), 0);
            EXPECT_EQ(readers.load(), 0);
            gosched();
            writers.fetch_sub(1);
            lock.unlock();
          } else {
            lock.rlock();
            readers.fetch_add(1);
            EXPECT_EQ(writers.load(), 0);
            gosched();
            readers.fetch_sub(1);
            lock.runlock();
          }
        }
        group.done();
      });
    group.wait();
  });
}

TEST_P(Sync, WaitGroupMayBeReusedAndMayDieAtOnce) {
  run(procs(GetParam()), [] {
    for (int round = 0; round < kRounds / 20; ++round) {
      WaitGroup group;  // on this stack: gone right after wait()
      group.add(3);
      for (int i = 0; i < 3; ++i) go([&group] { group.done(); });
      group.wait();
    }
  });
}

TEST_P(Sync, WaitGroupBelowZeroPanics) {
  run(procs(GetParam()), [] {
    std::string message;
    scope([&](Defer& defer) {
      defer([&] { message = recover()->message; });
      WaitGroup group;
      group.done();
    });
    EXPECT_EQ(message, "sync: negative WaitGroup counter");
  });
}

TEST_P(Sync, OnceRunsOnceAndAllWaitForIt) {
  run(procs(GetParam()), [] {
    Once once;
    std::atomic<int> ran{0};
    WaitGroup group;
    group.add(20);
    for (int i = 0; i < 20; ++i)
      go([&] {
        once.run([&] {
          gearbox::sleep(kMillisecond);
          ran.fetch_add(1);
        });
        EXPECT_EQ(ran.load(), 1);
        group.done();
      });
    group.wait();
  });
}

TEST_P(Sync, CondSignalsWhoWaits) {
  run(procs(GetParam()), [] {
    GoMutex mutex;
    Cond cond(mutex);
    int tokens = 0, taken = 0;
    WaitGroup group;
    group.add(4);
    for (int i = 0; i < 4; ++i)
      go([&] {
        for (int k = 0; k < 50; ++k) {
          mutex.lock();
          while (tokens == 0) cond.wait();
          --tokens;
          ++taken;
          mutex.unlock();
        }
        group.done();
      });
    for (int i = 0; i < 200; ++i) {
      mutex.lock();
      ++tokens;
      mutex.unlock();
      if (i % 10 == 0)
        cond.broadcast();
      else
        cond.signal();
      if (i % 3 == 0) gosched();
    }
    cond.broadcast();
    group.wait();
    EXPECT_EQ(taken, 200);
  });
}

TEST_P(Sync, SemaphoreLimits) {
  run(procs(GetParam()), [] {
    Semaphore semaphore(3);
    std::atomic<int> inside{0};
    WaitGroup group;
    group.add(10);
    for (int i = 0; i < 10; ++i)
      go([&] {
        for (int k = 0; k < 30; ++k) {
          semaphore.acquire();
          EXPECT_LE(inside.fetch_add(1) + 1, 3);
          gosched();
          inside.fetch_sub(1);
          semaphore.release();
        }
        group.done();
      });
    group.wait();
    EXPECT_TRUE(semaphore.try_acquire());
  });
}

}  // namespace
}  // namespace gearbox::testing
