// The runtime's own deliberate bugs (interfaces/mutant.h): each has a program that is right, and stays right under
// every schedule, but not with that bug. A child process plants the bug and runs the program over some seeds; it must
// be killed by checkmark, by an invariant, or by a seal. The control runs the same seeds without a bug and must end
// well.
//
// Not here: kNoShadeGoArguments. What a running goroutine has on its stack is in the snapshot or was born black, so the
// closure that it gives to a new one protects nothing that is not protected already; no program can tell. kRunUnscanned
// can be told, but only if a worker looks at a stack in the few instructions before its goroutine has moved on: a killer
// that stretched them found it in none of five tries of a minute each.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <thread>

#include "interfaces/mutant.h"
#include "runtime/blocking.h"
#include "tests/runtime/heap_program.h"

namespace gearbox::testing {
namespace {

#if defined(GEARBOX_CHECKED)

Program program(std::uint64_t seed) {
  Program s;
  s.options.procs = 2;
  s.options.seed = seed;
  s.options.checkmark = true;
  s.options.heap_mib = 4096;
  return s;
}

// So many that looking at them all takes a while: what a mutator does meanwhile falls between two root jobs.
constexpr std::size_t kManyRoots = 100'000;

std::atomic<std::uint64_t> cycles_seen{0};

// Runs `round` beside a goroutine that collects all the time, until it has said often enough what became of an object.
// Returns how many were damaged.
template <class F>
std::uint64_t beside_collections(std::uint64_t seed, int rounds, F round) {
  std::uint64_t damaged = 0;
  run(program(seed), [&] {
    std::vector<Root<Node>> many(kManyRoots);
    std::atomic<bool> done{false};
    WaitGroup group;
    group.add(1);
    go([&] {
      while (!done) {
        gc();
        cycles_seen.fetch_add(1);
      }
      group.done();
    });
    for (int i = 0; i < rounds && damaged == 0; ++i)
      if (!round(i)) ++damaged;
    done = true;
    group.wait();
  });
  return damaged;
}

// kSkipRoots: chains that a Root alone holds, over some collections.
std::uint64_t keep_by_roots(std::uint64_t seed) {
  return beside_collections(seed, 10, [](int) {
    std::vector<Root<Node>> kept;
    [&]() __attribute__((noinline)) {
      for (int i = 0; i < 50; ++i) kept.emplace_back(chain(3));
    }
    ();
    scrub_stack();
    litter(300);
    gc();
    litter(300);
    for (const auto& root : kept)
      if (intact_length(root.load()) != 3) return false;
    return true;
  });
}

// kNoSpillAtSyscall: over the call, the object is known to a register only.
[[gnu::noinline]] int held_over_a_call() {
  Node* held = chain(20);
  // Two cycles: the first may have begun before the call, and then kept what it found.
  blocking([until = cycles_seen.load() + 2, deadline = os::monotonic_ns() + kSecond] {
    while (cycles_seen.load() < until && os::monotonic_ns() < deadline) os::sleep_ns(kMillisecond);
  });
  return intact_length(held);
}
std::uint64_t block(std::uint64_t seed) {
  return beside_collections(seed, 20, [](int) { return held_over_a_call() == 20; });
}

// kNoShadeAtRootEnd: the last that is seen of the object before its Root ends is a read.
std::uint64_t end_roots(std::uint64_t seed) {
  std::vector<Root<Node>> vector;
  std::map<int, Root<Node>> map;
  vector.reserve(1);
  return beside_collections(seed, 60, [&](int i) {
    [&]() __attribute__((noinline)) {
      vector.emplace_back(chain(3));
      map.emplace(i, chain(3));
    }
    ();
    scrub_stack();
    if (!wait_for_mark()) return true;
    const Node* of_vector = vector.back();
    vector.pop_back();
    const Node* of_map = map.begin()->second;
    map.clear();
    wait_for_sweep();
    return intact_length(of_vector) == 3 && intact_length(of_map) == 3;
  });
}

// kNoShadeWithoutP: references move from Root to Root on a thread that no pause stops, and in a blocking call.
void shuffle(std::vector<Root<Node>>& slots, std::uint64_t seed, const std::atomic<bool>& done) {
  Random random(seed);
  while (!done) {
    Root<Node>& from = slots[random.below(static_cast<std::uint32_t>(slots.size()))];
    Root<Node>& to = slots[random.below(static_cast<std::uint32_t>(slots.size()))];
    if (from.load() == nullptr || to.load() != nullptr) continue;
    to = from;
    from = nullptr;
  }
}
std::uint64_t move_without_p(std::uint64_t seed) {
  constexpr std::size_t kNodes = 500;
  std::uint64_t damaged = 0;
  run(program(seed), [&] {
    std::vector<Root<Node>> many(kManyRoots / 4), outside(kNodes * 2), blocked(kNodes * 2);
    [&]() __attribute__((noinline)) {
      for (std::size_t i = 0; i < kNodes; ++i) outside[i] = make<Node>(i), blocked[i] = make<Node>(i);
    }
    ();
    scrub_stack();
    std::atomic<bool> done{false};
    std::thread foreign([&] { shuffle(outside, seed, done); });
    WaitGroup group;
    group.add(1);
    go([&] {
      blocking([&] { shuffle(blocked, seed + 1, done); });
      group.done();
    });
    for (int i = 0; i < 25; ++i) gc();
    done = true;
    group.wait();
    blocking([&] { foreign.join(); });
    for (const auto* slots : {&outside, &blocked}) {
      std::size_t found = 0;
      for (const auto& slot : *slots)
        if (slot.load() != nullptr) slot->intact() ? ++found : ++damaged;
      if (found != kNodes) ++damaged;
    }
  });
  return damaged;
}

// kNoShadeAtHandoff: an object is in a channel's buffer when the mark begins, and on a black stack before the buffer is
// looked at. Gates see to the "before": lists of roots are walked from the newest, and a gate holds up whoever walks.
//
//   receiver                                      worker
//   sends to the buffer, shuts the gates
//   is stopped by the first pause; its stack is scanned
//                                                 comes to a gate in each list of roots, and waits
//   receives, opens the gates
//                                                 comes to the channel: its buffer is empty
class Gate : public RootBlock {
 public:
  explicit Gate(const std::atomic<bool>& shut) : RootBlock(Words::kAnything), shut_(shut) { enlist(); }
  ~Gate() { withdraw(); }

 private:
  void visit_words(void (*)(void*, const std::uintptr_t*, std::size_t), void*) override {
    const std::int64_t deadline = os::monotonic_ns() + kSecond;
    while (shut_ && os::monotonic_ns() < deadline) os::yield_thread();
  }
  const std::atomic<bool>& shut_;
};
std::uint64_t receive_early(std::uint64_t seed) {
  std::atomic<bool> shut{false};
  Chan<Node*> channel(1);
  std::list<Gate> gates;
  for (std::size_t i = 0; i < 32 * roots::kShards; ++i) gates.emplace_back(shut);
  return beside_collections(seed, 20, [&](int) {
    [&]() __attribute__((noinline)) { channel.send(chain(3)); }
    ();
    scrub_stack();
    while (current_p()->marking) gosched();
    shut = true;
    while (!current_p()->marking) GEARBOX_SAFEPOINT();  // not gosched(): its P would be lent to a worker, and wait
    const Node* received = channel.recv();
    shut = false;
    wait_for_sweep();
    return intact_length(received) == 3;
  });
}

// kHideClosures: deferred functions, finalizers, timers.
std::uint64_t hide(std::uint64_t seed) {
  std::atomic<std::uint64_t> damaged{0};
  run(program(seed), [&] {
    std::atomic<int> called{0};
    [&]() __attribute__((noinline)) {
      after_func(20 * kMillisecond, [n = chain(3), &damaged, &called] {
        if (intact_length(n) != 3) ++damaged;
        ++called;
      });
      for (int i = 0; i < 20; ++i)
        set_finalizer(make<Node>(1u), [n = chain(3), &damaged](Node*) {
          if (intact_length(n) != 3) ++damaged;
        });
    }
    ();
    scope([&](Defer& defer) {
      [&]() __attribute__((noinline)) {
        for (int i = 0; i < 40; ++i)
          defer([n = chain(3), &damaged] {
            if (intact_length(n) != 3) ++damaged;
          });
      }
      ();
      scrub_stack();
      for (int i = 0; i < 4; ++i) {
        litter(300);
        gc();
      }
    });
    while (called == 0) gearbox::sleep(kMillisecond);
  });
  return damaged;
}

// kNoPad: a row that fills its cell, known by its end only.
std::uint64_t point_past_the_end(std::uint64_t seed) {
  return beside_collections(seed, 10, [](int) {
    constexpr std::size_t kRows = 30, kLength = (1024 - sizeof(ObjectHeader)) / sizeof(Ref<Node>);
    const Ref<Node>* ends[kRows];
    [&]() __attribute__((noinline)) {
      for (const auto*& end : ends) {
        const auto row = make_array<Ref<Node>>(kLength);
        for (auto& slot : row) slot = make<Node>(1u);
        end = row.data() + row.size();
      }
    }
    ();
    scrub_stack();
    gc();
    gc();
    for (const auto* end : ends)
      for (std::size_t i = 1; i <= kLength; ++i)
        if (!current_runtime().heap().contains(
                reinterpret_cast<std::uintptr_t>(end[-static_cast<std::ptrdiff_t>(i)].load())) ||
            !end[-static_cast<std::ptrdiff_t>(i)]->intact())
          return false;
    return true;
  });
}

struct Killer {
  Mutant mutant;
  const char* name;
  std::uint64_t (*damage)(std::uint64_t seed);
  std::uint64_t seeds;
};
void PrintTo(const Killer& killer, std::ostream* out) { *out << killer.name; }

class RuntimeMutants : public ::testing::TestWithParam<Killer> {};
INSTANTIATE_TEST_SUITE_P(Each, RuntimeMutants,
                         ::testing::Values(Killer{Mutant::kSkipRoots, "SkipRoots", keep_by_roots, 2},
                                           Killer{Mutant::kNoSpillAtSyscall, "NoSpillAtSyscall", block, 4},
                                           Killer{Mutant::kNoShadeAtRootEnd, "NoShadeAtRootEnd", end_roots, 4},
                                           Killer{Mutant::kNoShadeWithoutP, "NoShadeWithoutP", move_without_p, 4},
                                           Killer{Mutant::kNoShadeAtHandoff, "NoShadeAtHandoff", receive_early, 1},
                                           Killer{Mutant::kHideClosures, "HideClosures", hide, 2},
                                           Killer{Mutant::kNoPad, "NoPad", point_past_the_end, 2}),
                         [](const auto& info) { return std::string(info.param.name); });

// Never returns.
void provoke(const Killer& killer, Mutant planted) {
  planted_mutant.store(planted);
  const std::uint64_t seeds = kSanitized && planted == Mutant::kNone ? 1 : killer.seeds;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    if (killer.damage(seed) == 0) continue;
    std::fputs("damaged objects were found\n", stderr);
    std::abort();
  }
  std::_Exit(0);
}

TEST_P(RuntimeMutants, IsKilled) {
#if defined(__SANITIZE_ADDRESS__)
  if (GetParam().mutant == Mutant::kNoSpillAtSyscall)
    GTEST_SKIP() << "the address sanitizer keeps variables in frames, not in registers";
#endif
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(provoke(GetParam(), GetParam().mutant),
               "damaged objects were found|checkmark: reachable and not marked|gearbox: invariant .* broken|"
               "gearbox: contract broken|unexpected signal: SIGSEGV|" GEARBOX_SANITIZERS_WORDS);
}

TEST_P(RuntimeMutants, ControlEndsWell) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(provoke(GetParam(), Mutant::kNone), ::testing::ExitedWithCode(0), "");
}

#endif

}  // namespace
}  // namespace gearbox::testing
