// panic, defer, recover, goexit, and the ways in which a program dies: each in a child process, exit code and message.
#include "runtime/init.h"
#include "tests/runtime/child.h"

namespace gearbox::testing {
namespace {

Program two(const std::string& scheduler = "gmp") {
  Program s;
  s.scheduler = scheduler;
  s.options.procs = 2;
  return s;
}

TEST(Panic, DeferredRunLastInFirstOut) {
  run(two(), [] {
    std::string order;
    scope([&](Defer& defer) {
      defer([&] { order += 'a'; });
      defer([&] { order += 'b'; });
      order += '.';
    });
    EXPECT_EQ(order, ".ba");
  });
}

TEST(Panic, RecoverStopsAtItsScopeAndOthersStillRun) {
  run(two(), [] {
    std::string order;
    const int result = scope([&](Defer& outer) {
      outer([&] {
        EXPECT_FALSE(recover().has_value());  // recovered further in
        order += 'o';
      });
      scope([&](Defer& inner) {
        inner([&] {
          const auto p = recover();
          EXPECT_TRUE(p.has_value());
          order += p->message;
        });
        inner([&] { order += '1'; });
        panic("boom");
      });
      order += '2';
      return 5;
    });
    EXPECT_EQ(order, "1boom2o");
    EXPECT_EQ(result, 5);
    EXPECT_FALSE(recover().has_value());
  });
}

TEST(Panic, RecoveredScopeReturnsTheZeroValue) {
  run(two(), [] {
    const int result = scope([&](Defer& defer) -> int {
      defer([] { recover(); });
      panic("x");
    });
    EXPECT_EQ(result, 0);
  });
}

TEST(Panic, WhilePanickingReplaces) {
  run(two(), [] {
    std::string message;
    scope([&](Defer& defer) {
      defer([&] { message = recover()->message; });
      defer([] { panic("second"); });
      panic("first");
    });
    EXPECT_EQ(message, "second");
  });
}

TEST(Panic, ParksAndMigratesWhileUnwinding) {
  run(two(), [] {
    WaitGroup group;
    group.add(50);
    for (int g = 0; g < 50; ++g)
      go([&, g] {
        std::string message;
        scope([&](Defer& defer) {
          defer([&] { message = recover()->message; });
          defer([&] {
            gosched();
            gearbox::sleep(10 * kMicrosecond * (g % 5));
          });
          panic(std::to_string(g));
        });
        EXPECT_EQ(message, std::to_string(g));
        group.done();
      });
    group.wait();
  });
}

TEST(Goexit, RunsDeferredAndCannotBeRecovered) {
  run(two(), [] {
    std::string order;
    WaitGroup group;
    group.add(1);
    go([&] {
      scope([&](Defer& defer) {
        defer([&] { group.done(); });
        defer([&] {
          EXPECT_FALSE(recover().has_value());
          order += 'd';
        });
        scope([&](Defer& inner) {
          inner([&] { order += 'i'; });
          goexit();
        });
        order += '!';
      });
    });
    group.wait();
    EXPECT_EQ(order, "id");
  });
}

TEST(Init, RunsInDependencyOrderBeforeMain) {
  std::string order;
  clear_init_functions();
  register_init("c", {"a", "b"}, [&] { order += 'c'; });
  register_init("b", {"a"}, [&] { order += 'b'; });
  register_init("a", {}, [&] {
    order += 'a';
    keep_alive(make<int>(1));
    EXPECT_NE(goroutine_id(), 0u);
  });
  run(two(), [&] { order += 'm'; });
  clear_init_functions();
  EXPECT_EQ(order, "abcm");
}

using Death = ::testing::Test;

TEST(PanicDeathTest, UnrecoveredPrintsGosMessageAndExits2) {
  EXPECT_EXIT(in_child([] { panic("boom"); }), ::testing::ExitedWithCode(2),
              "panic: boom\n\ngoroutine [0-9]+ \\[running\\]:");
  EXPECT_EXIT(in_child([] {
                go([] {
                  scope([](Defer& defer) {
                    defer([] { panic("second"); });
                    panic("first");
                  });
                });
                gearbox::sleep(kSecond);
              }),
              ::testing::ExitedWithCode(2), "panic: first\n\tpanic: second");
}

TEST(PanicDeathTest, AllAsleepIsADeadlock) {
  for (const char* scheduler : {"gmp", "global_queue"}) {
    EXPECT_EXIT(in_child(two(scheduler), [] { make_chan<int>().recv(); }), ::testing::ExitedWithCode(2),
                "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine [0-9]+ \\[chan receive\\]:");
    EXPECT_EXIT(in_child(two(scheduler),
                         [] {
                           GoMutex m;
                           m.lock();
                           go([&] { m.lock(); });
                           WaitGroup group;
                           group.add(1);
                           group.wait();
                         }),
                ::testing::ExitedWithCode(2), "deadlock!");
    EXPECT_EXIT(in_child(two(scheduler), [] { select(); }), ::testing::ExitedWithCode(2), "select \\(no cases\\)");
  }
}

TEST(PanicDeathTest, WaitingForTimeOrACallIsNoDeadlock) {
  EXPECT_EXIT(in_child([] {
                const auto c = make_chan<int>();
                go([=] {
                  gearbox::sleep(30 * kMillisecond);
                  blocking([] { os::sleep_ns(30 * kMillisecond); });
                  c.send(1);
                });
                c.recv();
              }),
              ::testing::ExitedWithCode(0), "");
}

TEST(PanicDeathTest, MutexMisuseIsFatal) {
  EXPECT_EXIT(in_child([] {
                GoMutex m;
                m.unlock();
              }),
              ::testing::ExitedWithCode(2), "fatal error: sync: unlock of unlocked mutex");
}

TEST(PanicDeathTest, ForeignExceptionsAreNamed) {
  EXPECT_EXIT(in_child([] { throw std::runtime_error("from afar"); }), ::testing::ExitedWithCode(2),
              "a C\\+\\+ exception left a goroutine: from afar");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// 512 bytes a level: no frame is large enough to jump the guard page.
[[gnu::noinline]] int deep(int n) {
  volatile char frame[512];
  frame[0] = static_cast<char>(n);
  return n == 0 ? 0 : deep(n - 1) + frame[0];
}

TEST(PanicDeathTest, StackOverflowNamesTheGoroutine) {
  EXPECT_EXIT(in_child([] { keep_alive(reinterpret_cast<void*>(static_cast<std::intptr_t>(deep(1'000'000)))); }),
              ::testing::ExitedWithCode(2),
              "runtime: goroutine [0-9]+ stack exceeds 65536-byte limit\nfatal error: stack overflow");
}

// One frame that is far larger than the guard page, of which only the far end is written.
[[gnu::noinline]] int one_large_frame(int n) {
  volatile char frame[96 * 1024];
  frame[n] = static_cast<char>(n);
  return frame[n];
}

TEST(PanicDeathTest, ALargeFrameCannotStepOverTheGuardPage) {
  EXPECT_EXIT(in_child([] { keep_alive(reinterpret_cast<void*>(static_cast<std::intptr_t>(one_large_frame(1)))); }),
              ::testing::ExitedWithCode(2),
              "runtime: goroutine [0-9]+ stack exceeds 65536-byte limit\nfatal error: stack overflow");
}

// Leaves the allocator that much stack and calls it, for an amount that needs its lock.
[[gnu::noinline]] void* allocate_near_the_end(std::size_t bytes_left) {
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  const std::size_t gone = here - current_g()->stack_lo - bytes_left;
  volatile char* below = static_cast<volatile char*>(__builtin_alloca(gone));
  below[0] = 1;
  void* memory = std::malloc(100'000);
  keep_alive(memory);
  return memory;
}

// Wherever in malloc() the stack ends, with its lock held or not: the report must come.
TEST(PanicDeathTest, StackOverflowInsideMallocIsReported) {
  for (std::size_t left = 128; left <= 640; left += 32)
    EXPECT_EXIT(in_child([left] {
                  std::free(allocate_near_the_end(left));
                  deep(1'000'000);
                }),
                ::testing::ExitedWithCode(2), "fatal error: stack overflow(.|\n)*goroutine [0-9]+ \\[running\\]");
}

TEST(PanicDeathTest, NilDereferenceNamesTheGoroutine) {
  EXPECT_EXIT(in_child([] {
                volatile int* nothing = nullptr;
                *nothing = 1;
              }),
              ::testing::ExitedWithCode(2),
              "invalid memory address or nil pointer dereference(.|\n)*goroutine [0-9]+ \\[running\\]");
}
#endif

TEST(PanicDeathTest, HeapFullIsOutOfMemory) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto fill = [] {
    Program s = two();
    s.options.heap_mib = 64;
    run(s, [] {
      const Root<Ref<char>> all(make_array<Ref<char>>(10'000).data());
      for (int i = 0; i < 10'000; ++i) all.load()[i] = make_bytes(100'000);
    });
  };
  EXPECT_EXIT(fill(), ::testing::ExitedWithCode(2), "fatal error: out of memory: the heap of 64 MiB is full");
}

TEST(Refused, BadGuardAndBadHeapAreErrorsBeforeAnythingRuns) {
  Program s = two();
  s.options.heap_mib = 1ULL << 27;  // 128 TiB: more than the address space has
  const GearSet gears = gears_of(s);
  bool ran = false;
  const auto result = run_program(s.options, gears, [&] { ran = true; });
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message.find("cannot reserve the heap"), std::string::npos) << result.error().message;
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace gearbox::testing
