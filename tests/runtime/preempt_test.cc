// Goroutines that reach no safepoint: stops, slices, timers and the end of the program happen all the same, and what
// such a goroutine holds in registers alone stays alive.
#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "base/os/thread.h"
#include "tests/runtime/program.h"

#if defined(__SANITIZE_THREAD__)
// TSan delays asynchronous signals until the thread calls into it: a loop that calls nothing is never interrupted.
#define NEEDS_SIGNALS() GTEST_SKIP() << "TSan delays asynchronous signals"
#else
#define NEEDS_SIGNALS() static_cast<void>(0)
#endif

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

struct Node {
  Ref<Node> next;
  std::uint64_t value = 0;
  Node(Node* n, std::uint64_t v) : next(n), value(v) {}
  GEARBOX_REFS(Node, next)
};

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
    Node* list = nullptr;
    for (int round = 0; round < 3; ++round) {
      gearbox::sleep(kMillisecond);  // timers
      gc();                          // stops
      gosched();                     // slices
      list = make<Node>(list, static_cast<std::uint64_t>(round));
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
    const std::int64_t until = now_ns() + 20 * kMillisecond;
    while (now_ns() < until) GEARBOX_SAFEPOINT();
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
        const std::int64_t until = now_ns() + 30 * kMillisecond;
        while (now_ns() < until)
          for (int k = 0; k < 1000; ++k) asm volatile("");
        hogs.done();
      });
    hogs.wait();
  });
  EXPECT_GT(counter(stats, "runtime.freezes_refused"), 0u);
}

// What an interrupted goroutine holds in one register, and nowhere else.
[[gnu::noinline]] std::uintptr_t hidden_node() {
  return ~reinterpret_cast<std::uintptr_t>(make<Node>(nullptr, 0xfeedu));
}
// Overwrites what calls have left below this frame: the collector would take it for a reference.
[[gnu::noinline]] void scrub_stack() {
  volatile char below[8192];
  for (volatile char& byte : below) byte = 0;
}
enum class Register : std::uint8_t { kGeneral, kVector };

void hold(Register where, std::uintptr_t hidden, std::atomic<bool>& held, std::atomic<bool>& stop,
          std::uint64_t& value) {
  std::uintptr_t out = 0;
  held = true;
  if (where == Register::kGeneral) {
    asm volatile(
        "notq %[hidden]\n\t"
        "1: pause\n\t"
        "cmpb $0, (%[stop])\n\t"
        "je 1b\n\t"
        "notq %[hidden]\n\t"
        : [hidden] "+r"(hidden)
        : [stop] "r"(&stop)
        : "memory", "cc");
    out = hidden;
  } else {
    asm volatile(
        "movq %[hidden], %%rax\n\t"
        "notq %%rax\n\t"
        "movq %%rax, %%xmm7\n\t"
        "xorl %%eax, %%eax\n\t"
        "1: pause\n\t"
        "cmpb $0, (%[stop])\n\t"
        "je 1b\n\t"
        "movq %%xmm7, %[out]\n\t"
        "notq %[out]\n\t"
        "pxor %%xmm7, %%xmm7\n\t"
        : [out] "=&r"(out)
        : [hidden] "r"(hidden), [stop] "r"(&stop)
        : "memory", "cc", "rax", "xmm7");
  }
  value = reinterpret_cast<const Node*>(~out)->value;
}

using RegisterCase = std::tuple<std::string, Register, bool>;
class Registers : public ::testing::TestWithParam<RegisterCase> {};
INSTANTIATE_TEST_SUITE_P(All, Registers,
                         ::testing::Combine(::testing::Values("stw", "concurrent"),
                                            ::testing::Values(Register::kGeneral, Register::kVector),
                                            ::testing::Bool()),
                         [](const auto& info) {
                           return std::get<0>(info.param) +
                                  (std::get<1>(info.param) == Register::kGeneral ? "_general" : "_vector") +
                                  (std::get<2>(info.param) ? "_frozen" : "_stopped");
                         });

// `frozen`: one P, so that the loop has been preempted and waits in the queue; else it is stopped on its own P.
std::uint64_t value_after_collections(const RegisterCase& param) {
  const auto [collector, where, frozen] = param;
  std::uint64_t value = 0;
  Program s;
  s.collector = collector;
  s.options.procs = frozen ? 1 : 2;
  s.options.slice_us = 200;
  run(s, [&value, where = where] {
    std::atomic<bool> held{false}, stop{false};
    WaitGroup holder;
    holder.add(1);
    go([&] {
      const std::uintptr_t hidden = hidden_node();
      scrub_stack();
      hold(where, hidden, held, stop, value);
      holder.done();
    });
    while (!held) gosched();
    for (int round = 0; round < 3; ++round) {
      gc();
      for (int i = 0; i < 2000; ++i) keep_alive(make<Node>(nullptr, 0xdeadu));  // takes the cell, if it was freed
    }
    stop = true;
    holder.wait();
  });
  return value;
}

TEST_P(Registers, AreRoots) {
  NEEDS_SIGNALS();
  EXPECT_EQ(value_after_collections(GetParam()), 0xfeedu);
}

#if defined(GEARBOX_CHECKED)
// The control: the test above sees what it is there for.
TEST_P(Registers, AreNotRootsWithABugPlanted) {
  NEEDS_SIGNALS();
  planted_mutant.store(Mutant::kHideRegisters);
  EXPECT_EQ(value_after_collections(GetParam()), 0xdeadu);
  planted_mutant.store(Mutant::kNone);
}
#endif

// Goroutines that allocate and store references, interrupted as often as can be, while marks are checked one by one.
class Interrupted : public ::testing::TestWithParam<std::string> {
 protected:
  static Program program(std::uint64_t procs) {
    Program s;
    s.collector = GetParam();
    s.options.procs = procs;
    s.options.slice_us = 20;
    s.options.checkmark = true;
    return s;
  }
};
INSTANTIATE_TEST_SUITE_P(Collectors, Interrupted, ::testing::Values("stw", "concurrent"),
                         [](const auto& info) { return info.param; });

TEST_P(Interrupted, RefStoresKeepTheSnapshot) {
  NEEDS_SIGNALS();
  run(program(2), [] {
    std::atomic<bool> stop{false};
    WaitGroup movers;
    constexpr int kMovers = 4, kNodes = 64;
    std::array<std::uint64_t, kMovers> sums{};
    std::array<std::atomic<std::uint64_t>, kMovers> turns{};
    movers.add(kMovers);
    for (int m = 0; m < kMovers; ++m)
      go([&, m] {
        Node* head = nullptr;
        for (std::uint64_t i = 0; i < kNodes; ++i) head = make<Node>(head, i);
        // Turns the list round and round: each node is held by one slot or one local, and moves between the two.
        while (!stop.load(std::memory_order_relaxed)) {
          Node* turned = nullptr;
          while (head != nullptr) {
            Node* next = head->next;
            head->next = turned;
            turned = head;
            head = next;
          }
          head = turned;
          turns[static_cast<std::size_t>(m)].fetch_add(1, std::memory_order_relaxed);
        }
        for (; head != nullptr; head = head->next) sums[static_cast<std::size_t>(m)] += head->value;
        movers.done();
      });
    const auto all_have_turned = [&] {
      return std::all_of(turns.begin(), turns.end(), [](const auto& each) { return each.load() >= 500; });
    };
    for (int round = 0; round < 50 || !all_have_turned(); ++round) {
      gc();
      gosched();
      for (int i = 0; i < 500; ++i) keep_alive(make<Node>(nullptr, 1000000u));
    }
    stop = true;
    movers.wait();
    for (const std::uint64_t sum : sums) EXPECT_EQ(sum, std::uint64_t{kNodes} * (kNodes - 1) / 2);
  });
}

TEST_P(Interrupted, AllocationTakesEachCellOnce) {
  NEEDS_SIGNALS();
  run(program(2), [] {
    WaitGroup makers;
    constexpr int kMakers = 6;
    std::atomic<std::uint64_t> wrong{0};
    makers.add(kMakers);
    for (int m = 0; m < kMakers; ++m)
      go([&, m] {
        const std::int64_t until = now_ns() + 150 * kMillisecond;
        while (now_ns() < until) {
          Node* list = nullptr;
          std::array<std::uint64_t*, 64> words{};
          std::array<std::uint8_t*, 64> bytes{};
          for (std::uint64_t i = 0; i < 64; ++i) {
            list = make<Node>(list, i * 8 + static_cast<std::uint64_t>(m));
            words[i] = make<std::uint64_t>(i + static_cast<std::uint64_t>(m) * 1000);
            bytes[i] = make<std::uint8_t>(static_cast<std::uint8_t>(m));
          }
          for (std::uint64_t i = 64; i-- > 0; list = list->next) {
            wrong += list->value == i * 8 + static_cast<std::uint64_t>(m) ? 0 : 1;
            wrong += *words[i] == i + static_cast<std::uint64_t>(m) * 1000 ? 0 : 1;
            wrong += *bytes[i] == m ? 0 : 1;
          }
        }
        makers.done();
      });
    makers.wait();
    EXPECT_EQ(wrong.load(), 0u);
  });
}

TEST_P(Interrupted, ExceptionsStringsAndChannelsGoOn) {
  NEEDS_SIGNALS();
  run(program(2), [] {
    WaitGroup all;
    constexpr int kWorkers = 6;
    std::atomic<std::uint64_t> wrong{0};
    const auto pipe = make_chan<int>(4);
    all.add(kWorkers);
    for (int w = 0; w < kWorkers; ++w)
      go([&, w] {
        const std::int64_t until = now_ns() + 150 * kMillisecond;
        std::uint64_t caught = 0, thrown = 0;
        while (now_ns() < until) {
          std::string text;
          for (int i = 0; i < 50; ++i) text += std::to_string(i * w);
          std::string again;
          for (int i = 0; i < 50; ++i) again.append(std::to_string(i * w));
          wrong += text == again ? 0 : 1;
          try {
            ++thrown;
            throw std::runtime_error(text);
          } catch (const std::runtime_error& e) {
            for (int k = 0; k < 2000; ++k) asm volatile("");  // interrupted inside the handler, too
            caught += text == e.what() ? 1 : 0;
          }
          select(on_send(pipe, w, [] {}), on_recv(pipe, [](int) {}), otherwise([] {}));
        }
        wrong += caught == thrown ? 0 : 1;
        all.done();
      });
    all.wait();
    EXPECT_EQ(wrong.load(), 0u);
  });
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
        const std::int64_t until = now_ns() + 50 * kMillisecond;
        while (now_ns() < until) moved += os::thread_id() != thread ? 1 : 0;
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
