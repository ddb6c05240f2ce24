// What the C library keeps for each thread, in code as people write it: read, park, read again, in one function. The
// library declares the accessors of errno and of the thread's own number as const functions, so a compiler that believes
// it keeps the former thread's address (PITFALLS of every runtime with stackful goroutines).
#include <pthread.h>

#include <cerrno>
#include <string>
#include <thread>

#include "base/os/thread.h"
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

// Calls body(me) in many goroutines that move between threads; it returns how often it saw another thread's word.
int wrong_in(int (*body)(int me)) {
  std::atomic<int> wrong{0};
  std::atomic<int> moved{0};
  Program s;
  s.options.procs = 4;
  run(s, [&] {
    WaitGroup group;
    // Until some have moved: on a busy machine one thread may do all for a while.
    for (int round = 0; round < 200 && (round < 5 || moved.load() < 50); ++round) {
      group.add(16);
      for (int me = 1; me <= 16; ++me)
        go([&, me] {
          const int before = os::thread_id();
          wrong.fetch_add(body(me));
          if (os::thread_id() != before) moved.fetch_add(1);
          group.done();
        });
      group.wait();
    }
  });
  EXPECT_GT(moved.load(), 0);
  return wrong.load();
}

TEST(Errno, IsRightAfterASleep) {
  EXPECT_EQ(wrong_in([](int me) {
              int wrong = 0;
              for (int i = 0; i < 20; ++i) {
                errno = me;
                gearbox::sleep(1000 * me);
                wrong += errno != me;
              }
              return wrong;
            }),
            0);
}

TEST(Errno, IsRightAfterAYieldAndAChannel) {
  EXPECT_EQ(wrong_in([](int me) {
              int wrong = 0;
              const auto c = make_chan<int>();
              go([c] {
                for (int i = 0; i < 20; ++i) c.send(i);
              });
              for (int i = 0; i < 20; ++i) {
                errno = me;
                c.recv();
                wrong += errno != me;
                gosched();
                wrong += errno != me;
              }
              return wrong;
            }),
            0);
}

// libstdc++'s own headers look at errno in line.
TEST(Errno, IsRightInTheLibrarysInlineFunctions) {
  EXPECT_EQ(wrong_in([](int me) {
              int wrong = 0;
              for (int i = 0; i < 20; ++i) {
                wrong += std::stol("12") != 12;
                gearbox::sleep(1000 * me);
                try {
                  (void)std::stol("99999999999999999999999999");  // it knows by errno alone
                  ++wrong;
                } catch (const std::out_of_range&) {
                }
              }
              return wrong;
            }),
            0);
}

TEST(ThreadsOwnNumber, IsThatOfTheThreadItRunsOn) {
  EXPECT_EQ(wrong_in([](int me) {
              pthread_t (*volatile ask)() = &pthread_self;  // the compiler does not know what is called
              int wrong = 0;
              for (int i = 0; i < 20; ++i) {
                wrong += pthread_self() != ask();
                gearbox::sleep(1000 * me);
                wrong += pthread_self() != ask();
                wrong += std::this_thread::get_id() != std::thread::id(ask());
              }
              return wrong;
            }),
            0);
}

// What the program itself keeps for each thread does not come along: README, Limits. One P is enough to show it.
TEST(ThreadLocal, BelongsToTheThreadAndNotToTheGoroutine) {
  static thread_local int mine = 0;
  Program s;
  s.options.procs = 1;
  run(s, [] {
    mine = 1;
    WaitGroup group;
    group.add(1);
    go([&] {
      mine = 2;  // on the same thread
      group.done();
    });
    group.wait();
    EXPECT_EQ(mine, 2) << "thread_local variables travel with goroutines now: README, Limits says that they do not";
  });
}

}  // namespace
}  // namespace gearbox::testing
