// Objects on the collected heap under the real scheduler: roots of every kind survive, garbage goes, finalizers run;
// and a graph fuzzer that moves objects between goroutines, over every allocator and collector that fit together, with
// checkmark and forced collections.
#include <cstring>
#include <map>

#include "base/random.h"
#include "interfaces/mutant.h"
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

struct Node {
  std::uint64_t id = 0, seal = 0;
  Ref<Node> edges[4];
  GEARBOX_REFS(Node, edges)
  static std::uint64_t seal_of(std::uint64_t id) { return id * 0x9e3779b97f4a7c15ULL ^ 0x5ea1; }
  explicit Node(std::uint64_t n) : id(n), seal(seal_of(n)) {}
  bool intact() const { return seal == seal_of(id); }
};

struct Case {
  std::string allocator, collector;
};
std::vector<Case> legal() {
  std::vector<Case> cases;
  for (const auto& a : all_allocators())
    for (const auto& c : all_collectors())
      if (!why_illegal(all_schedulers().front(), a, c, all_pollers().front(), 1))
        cases.push_back({std::string(a.name), std::string(c.name)});
  return cases;
}

class HeapProgram : public ::testing::TestWithParam<Case> {
 protected:
  Program setup(std::uint64_t procs = 2) const {
    Program s;
    s.allocator = GetParam().allocator;
    s.collector = GetParam().collector;
    s.options.procs = procs;
    s.options.heap_mib = 4096;
    return s;
  }
  bool collects() const { return GetParam().collector != "none"; }
};
INSTANTIATE_TEST_SUITE_P(Every, HeapProgram, ::testing::ValuesIn(legal()),
                         [](const auto& info) { return info.param.allocator + "_" + info.param.collector; });

Node* chain(int length) {
  Node* head = nullptr;
  for (int i = length; i > 0; --i) {
    Node* n = make<Node>(static_cast<std::uint64_t>(i));
    n->edges[0] = head;
    head = n;
  }
  return head;
}
int intact_length(const Node* n) {
  int length = 0;
  for (; n != nullptr && n->intact(); n = n->edges[0]) ++length;
  return length;
}
void litter(int n) {
  for (int i = 0; i < n; ++i) {
    keep_alive(make<Node>(1u));
    if (i % 16 == 0) keep_alive(make_bytes(100 + static_cast<std::size_t>(i) % 3000));
  }
}

TEST_P(HeapProgram, EveryKindOfRootKeepsItsObjects) {
  static constexpr int kLength = 50;
  run(setup(), [] {
    Node* on_stack = chain(kLength);
    const Root<Node> rooted(chain(kLength));
    std::map<int, Root<Node>> in_container;
    in_container.emplace(1, chain(kLength));
    const auto buffered = make_chan<Node*>(1);
    buffered.send(chain(kLength));
    const auto gate = make_chan<int>();
    const auto lengths = make_chan<int>();
    go([captured = chain(kLength), gate, lengths] {
      gate.recv();
      lengths.send(intact_length(captured));
    });
    const auto rows = make_array<Ref<Node>>(300);
    for (auto& row : rows) row = chain(3);
    const auto large = make_array<Ref<Node>>(20'000);
    for (std::size_t i = 0; i < large.size(); i += 100) large[i] = chain(2);
    Node* const* past_the_end_keeper = nullptr;
    keep_alive(past_the_end_keeper);
    const auto sending = make_chan<Node*>();
    go([sending] { sending.send(chain(kLength)); });  // parked with the object on its stack
    for (int round = 0; round < 6; ++round) {
      litter(2000);
      gc();
    }
    gate.send(1);
    EXPECT_EQ(lengths.recv(), kLength);
    EXPECT_EQ(intact_length(on_stack), kLength);
    EXPECT_EQ(intact_length(rooted), kLength);
    EXPECT_EQ(intact_length(in_container.at(1)), kLength);
    EXPECT_EQ(intact_length(buffered.recv()), kLength);
    EXPECT_EQ(intact_length(sending.recv()), kLength);
    for (auto& row : rows) ASSERT_EQ(intact_length(row), 3);
    for (std::size_t i = 0; i < large.size(); i += 100) ASSERT_EQ(intact_length(large[i]), 2);
  });
}

TEST_P(HeapProgram, FramesAboveABlockingCallAreRoots) {
  run(setup(), [] {
    Node* mine = chain(100);
    std::atomic<bool> inside{false}, leave{false};
    go([&] {
      while (!inside) gosched();
      for (int i = 0; i < 3; ++i) {
        litter(2000);
        gc();
      }
      leave = true;
    });
    blocking([&] {
      inside = true;
      while (!leave) os::sleep_ns(50'000);
    });
    EXPECT_EQ(intact_length(mine), 100);
  });
}

TEST_P(HeapProgram, WhatIsDroppedIsTakenBack) {
  if (!collects()) return;
  run(setup(1), [] {
    // Many rows of objects, not one chain: a stale word on a stack may look like a reference, and must not be able to
    // keep more than its row.
    constexpr std::size_t kRows = kSanitized ? 40 : 400, kPerRow = 500;
    [&]() __attribute__((noinline)) {
      std::vector<Root<Ref<Node>>> rows(kRows);
      for (auto& row : rows) {
        row = make_array<Ref<Node>>(kPerRow).data();
        for (std::size_t i = 0; i < kPerRow; ++i) row.load()[i] = make<Node>(i);
      }
      gc();
      for (auto& row : rows)
        for (std::size_t i = 0; i < kPerRow; ++i) ASSERT_TRUE(row.load()[i]->intact());
      EXPECT_GE(read_mem_stats().heap_live, kRows * kPerRow * sizeof(Node));
    }
    ();
    gc();
    gc();
    EXPECT_LT(read_mem_stats().heap_live, kRows * kPerRow * sizeof(Node) / 10);
  });
}

TEST_P(HeapProgram, ZeroedWhateverLayThereBefore) {
  run(setup(1), [] {
    for (int round = 0; round < 4; ++round) {
      for (std::size_t bytes : {1u, 8u, 15u, 16u, 17u, 100u, 1000u, 5000u, 32767u, 32768u, 40000u, 300000u}) {
        for (int i = 0; i < 10; ++i) {
          char* at = make_bytes(bytes);
          for (std::size_t k = 0; k < bytes; ++k) ASSERT_EQ(at[k], 0) << bytes << " bytes, offset " << k;
          std::memset(at, 0xa5, bytes);
        }
      }
      gc();
    }
  });
}

TEST_P(HeapProgram, FinalizersRunOnceWithTheirObject) {
  if (!collects()) return;
  run(setup(), [] {
    constexpr int kObjects = 200;
    std::atomic<int> finalized{0}, damaged{0};
    [&]() __attribute__((noinline)) {
      for (int i = 0; i < kObjects; ++i) {
        Node* n = make<Node>(static_cast<std::uint64_t>(i));
        n->edges[1] = chain(3);
        set_finalizer(n, [&](Node* dead) {
          finalized.fetch_add(1);
          if (!dead->intact() || intact_length(dead->edges[1]) != 3) damaged.fetch_add(1);
        });
      }
    }
    ();
    Node* kept = make<Node>(1u);
    set_finalizer(kept, [&](Node*) { damaged.fetch_add(1000); });
    for (int i = 0; i < 100 && finalized < kObjects * 9 / 10; ++i) {
      litter(100);
      gc();
      gearbox::sleep(kMillisecond);
    }
    EXPECT_GE(finalized.load(), kObjects * 9 / 10);  // the rest may be held by stale words
    EXPECT_LE(finalized.load(), kObjects);
    EXPECT_EQ(damaged.load(), 0);
    EXPECT_TRUE(kept->intact());
  });
}

// Each goroutine owns a table of roots and a shadow of what hangs on it; objects are made, linked, unlinked, dropped,
// sent to others, carried into new goroutines. Every object carries a seal, so an object that was freed while reachable
// is noticed when it is next walked over (freed cells are poisoned in `checked` builds).
void mutate(std::uint64_t seed, int steps, const Chan<Node*>& mail, std::atomic<std::uint64_t>& damaged,
            std::atomic<std::uint64_t>& walked) {
  Random random(seed);
  constexpr std::uint32_t kSlots = 24;
  Root<Node> table[kSlots];
  std::map<const Node*, std::uint64_t> shadow;
  const auto look = [&](const Node* n, int depth, auto& self) -> void {
    if (n == nullptr || depth == 0) return;
    walked.fetch_add(1, std::memory_order_relaxed);
    if (!n->intact()) {
      damaged.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    for (const auto& edge : n->edges) self(edge, depth - 1, self);
  };
  for (int step = 0; step < steps; ++step) {
    Root<Node>& slot = table[random.below(kSlots)];
    Root<Node>& other = table[random.below(kSlots)];
    switch (random.below(10)) {
      case 0:
      case 1: {
        Node* n = make<Node>(random());
        n->edges[random.below(4)] = slot;
        slot = n;
        break;
      }
      case 2:
        if (slot.load() != nullptr) slot->edges[random.below(4)] = other;
        break;
      case 3:
        if (slot.load() != nullptr) slot->edges[random.below(4)] = nullptr;
        break;
      case 4:
        if (slot.load() != nullptr) {  // move a subtree: the only reference passes through this stack
          Node* moved = slot->edges[1].exchange(nullptr);
          gosched();
          if (other.load() != nullptr) other->edges[2] = moved;
        }
        break;
      case 5:
        slot = nullptr;
        break;
      case 6: {
        Node* out = slot;
        slot = nullptr;
        select(on_send(mail, out, [] {}), on_recv(mail, [&](Node* in) { other = in; }), otherwise([&] { slot = out; }));
        break;
      }
      case 7: {
        Node* carried = slot;
        slot = nullptr;
        const auto back = make_chan<Node*>();
        go([carried, back] {
          Node* n = make<Node>(7u);
          n->edges[3] = carried;
          back.send(n);
        });
        slot = back.recv();
        break;
      }
      case 8:
        keep_alive(make_bytes(random.below(20'000)));
        break;
      default:
        look(slot, 4, look);
        break;
    }
  }
  for (const auto& slot : table) look(slot, 6, look);
}

TEST_P(HeapProgram, GraphFuzz) {
  constexpr int kSteps = kSanitized ? 1500 : 20'000;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    Program s = setup(seed % 2 + 1);
    s.options.seed = seed;
    s.options.checkmark = true;
    s.options.stress_alloc = 37 * seed;
    std::atomic<std::uint64_t> damaged{0}, walked{0};
    run(s, [&] {
      const auto mail = make_chan<Node*>(seed % 3);
      WaitGroup group;
      group.add(4);
      for (std::uint64_t g = 0; g < 4; ++g)
        go([&, g] {
          mutate(seed * 100 + g, kSteps, mail, damaged, walked);
          group.done();
        });
      group.wait();
    });
    ASSERT_EQ(damaged.load(), 0u) << "seed " << seed;
    ASSERT_GT(walked.load(), 100u);
  }
}

TEST_P(HeapProgram, ConcurrentGcCallsAndGrowth) {
  run(setup(), [] {
    WaitGroup group;
    group.add(6);
    for (int g = 0; g < 6; ++g)
      go([&, g] {
        Root<Node> mine(chain(500));
        for (int i = 0; i < 10; ++i) {
          if (g % 2 == 0) gc();
          litter(1000);
        }
        EXPECT_EQ(intact_length(mine), 500);
        group.done();
      });
    group.wait();
  });
}

TEST(HeapTypes, ARefOutsideTheHeapIsABrokenContract) {
#if defined(GEARBOX_CHECKED)
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(run(Program(),
                   [] {
                     Ref<Node> on_stack;
                     on_stack = make<Node>(1u);
                   }),
               "is not inside a heap object");
  struct Forgetful {
    Ref<Node> named, forgotten;
    GEARBOX_REFS(Forgetful, named)
  };
  EXPECT_DEATH(run(Program(), [] { keep_alive(make<Forgetful>()); }), "that GEARBOX_REFS does not name");
#endif
}

#if defined(GEARBOX_CHECKED)
// The runtime's own deliberate bugs (interfaces/mutant.h): each must be killed by checkmark or by the fuzzer's seals.
// Not in the list, because no program can tell them from the correct runtime while both halves of the barrier are on
// and every stack is scanned before it runs: kNoShadeAtHandoff, kNoShadeGoArguments, kRunUnscanned. Each takes away one
// of two things that protect the same reference.
class RuntimeMutants : public ::testing::TestWithParam<Mutant> {};
INSTANTIATE_TEST_SUITE_P(Each, RuntimeMutants, ::testing::Values(Mutant::kSkipRoots, Mutant::kNoSpillAtSyscall));

void provoke(Mutant mutant) {
  planted_mutant.store(mutant);
  std::atomic<std::uint64_t> damaged{0}, walked{0};
  for (std::uint64_t seed = 1; seed <= 60 && damaged == 0; ++seed) {
    Program s;
    s.options.procs = 2;
    s.options.seed = seed;
    s.options.checkmark = true;
    s.options.stress_alloc = 3;
    s.options.heap_mib = 4096;
    run(s, [&] {
      const auto mail = make_chan<Node*>(seed % 3);
      WaitGroup group;
      group.add(5);
      for (std::uint64_t g = 0; g < 4; ++g)
        go([&, g] {
          mutate(seed * 100 + g, 2000, mail, damaged, walked);
          group.done();
        });
      go([&] {
        for (int i = 0; i < 20; ++i) {
          Node* held = chain(20);
          blocking([] { os::sleep_ns(kMillisecond); });
          if (intact_length(held) != 20) damaged.fetch_add(1);
        }
        group.done();
      });
      group.wait();
    });
  }
  if (damaged != 0) {
    std::fputs("damaged objects were found\n", stderr);
    std::abort();
  }
  std::exit(0);
}

TEST_P(RuntimeMutants, IsKilled) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(provoke(GetParam()), "");
}
#endif

}  // namespace
}  // namespace gearbox::testing
