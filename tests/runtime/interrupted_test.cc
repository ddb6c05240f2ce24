// What a goroutine was in the middle of when a signal interrupted it: references that lie in registers alone, allocation,
// stores of references, exceptions, strings.
#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "base/os/clock.h"
#include "tests/runtime/interruptible.h"
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

// What an interrupted goroutine holds in one register, and nowhere else.
[[gnu::noinline]] std::uintptr_t hidden_node() {
  return ~reinterpret_cast<std::uintptr_t>(make<Link>(nullptr, 0xfeedu));
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
  value = reinterpret_cast<const Link*>(~out)->value;
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
      for (int i = 0; i < 2000; ++i) keep_alive(make<Link>(nullptr, 0xdeadu));  // takes the cell, if it was freed
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
        Link* head = nullptr;
        for (std::uint64_t i = 0; i < kNodes; ++i) head = make<Link>(head, i);
        // Turns the list round and round: each node is held by one slot or one local, and moves between the two.
        while (!stop.load(std::memory_order_relaxed)) {
          Link* turned = nullptr;
          while (head != nullptr) {
            Link* next = head->next;
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
      for (int i = 0; i < 500; ++i) keep_alive(make<Link>(nullptr, 1000000u));
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
        const std::int64_t until = os::monotonic_ns() + 150 * kMillisecond;
        while (os::monotonic_ns() < until) {
          Link* list = nullptr;
          std::array<std::uint64_t*, 64> words{};
          std::array<std::uint8_t*, 64> bytes{};
          for (std::uint64_t i = 0; i < 64; ++i) {
            list = make<Link>(list, i * 8 + static_cast<std::uint64_t>(m));
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
        const std::int64_t until = os::monotonic_ns() + 150 * kMillisecond;
        std::uint64_t caught = 0, thrown = 0;
        while (os::monotonic_ns() < until) {
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

}  // namespace
}  // namespace gearbox::testing
