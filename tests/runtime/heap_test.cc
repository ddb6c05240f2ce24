// Objects on the collected heap under the real scheduler: roots of every kind survive, garbage goes, finalizers run,
// memory goes back; and a graph fuzzer that moves objects between goroutines, over every allocator and collector that
// fit together, with checkmark and forced collections.
#include <cstring>
#include <map>

#include "base/os/memory.h"
#include "tests/runtime/heap_program.h"

namespace gearbox::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(Every, HeapProgram, ::testing::ValuesIn(legal()), HeapProgram::case_name);

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

TEST_P(HeapProgram, WhatWasAllocatedNeverFalls) {
  run(setup(2), [this] {
    std::atomic<bool> stop{false};
    WaitGroup group;
    group.add(1);
    go([&] {
      while (!stop.load()) keep_alive(make<Node>(2u));
      group.done();
    });
    std::uint64_t last = 0, falls = 0;
    const auto look = [&] {
      const std::uint64_t now = read_mem_stats().total_allocated;
      falls += now < last;
      last = now;
    };
    for (int i = 0; i < 60; ++i) {
      // A claim of cells, of which a collection gives most back.
      keep_alive(make<Node>(1u));
      keep_alive(make_bytes(100u << (i % 6)));
      look();
      if (collects()) gc();
      look();
    }
    stop = true;
    group.wait();
    EXPECT_EQ(falls, 0u);
  });
}

TEST_P(HeapProgram, WhatWasAllocatedIsWhatWasHandedOut) {
  run(setup(1), [this] {
    constexpr std::uint64_t kMade = 1000;
    for (int round = 0; round < 3; ++round) {
      const std::uint64_t before = read_mem_stats().total_allocated;
      for (std::uint64_t i = 0; i < kMade; ++i) keep_alive(make<Node>(i));
      const std::uint64_t made = read_mem_stats().total_allocated - before;
      EXPECT_GE(made, kMade * sizeof(Node));
      EXPECT_LE(made, kMade * (sizeof(Node) + sizeof(Node) / 2));
      if (collects()) gc();
    }
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

// A big heap that is dropped and collected does not stay resident, whatever the size of its objects.
void drop_a_big_heap(const Program& setup, std::size_t blob_bytes) {
  run(setup, [blob_bytes] {
    const std::size_t blob_count = (std::size_t{190} << 20) / blob_bytes;
    std::uint64_t full = 0;
    [&]() __attribute__((noinline)) {
      Root<Ref<char>> blobs(make_array<Ref<char>>(blob_count).data());
      for (std::size_t i = 0; i < blob_count; ++i) {
        char* blob = make_bytes(blob_bytes);
        std::memset(blob, 1, blob_bytes);
        blobs.load()[i] = blob;
      }
      gc();
      full = os::resident_bytes();
    }
    ();
    scrub_stack();
    // The concurrent collector gives back behind the cycle that it reports as done.
    for (int i = 0; i < 200 && os::resident_bytes() + blob_count * blob_bytes * 3 / 4 > full; ++i) {
      gc();
      gearbox::sleep(kMillisecond);
    }
    EXPECT_LT(os::resident_bytes() + blob_count * blob_bytes * 3 / 4, full);
  });
}

TEST_P(HeapProgram, WhatIsDroppedIsGivenBackToTheKernel) {
  if (!collects() || kSanitized) return;
  for (std::size_t blob_bytes : {1 << 10, 64 << 10}) drop_a_big_heap(setup(), blob_bytes);
}

// Goroutines that find the heap full at the same time take from each other what a collection frees; nobody may die of
// that while there is room.
TEST_P(HeapProgram, StarvingGoroutinesShareWhatACollectionFrees) {
  if (!collects()) return;
  Program s = setup();
  s.options.heap_mib = 64;
  run(s, [] {
    WaitGroup group;
    group.add(12);
    for (int g = 0; g < 12; ++g)
      go([&] {
        for (int i = 0; i < (kSanitized ? 40 : 300); ++i) {
          char* large = make_bytes(1 << 20);
          large[0] = 1;
          gosched();
          keep_alive(large);
        }
        group.done();
      });
    group.wait();
  });
}

TEST_P(HeapProgram, OutOfMemoryNamesTheLimitThatWasSet) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  Program s = setup();
  s.options.heap_mib = 64;
  EXPECT_EXIT(run(s,
                  [] {
                    Root<Node> list;
                    for (;;) {
                      Node* n = make<Node>(1u);
                      n->edges[0] = list.load();
                      list = n;
                    }
                  }),
              ::testing::ExitedWithCode(2), "out of memory: the heap of 64 MiB is full");
}

// Two small numbers share a cell; the half that a P has left must not outlive its time away.
TEST_P(HeapProgram, AProcessorThatComesBackBringsNoCellsAlong) {
  run(setup(2), [] {
    constexpr int kGoroutines = 8, kEach = 51;  // odd: a half is left
    for (int round = 0; round < 20; ++round) {
      const auto numbers = make_array<Ref<std::int64_t>>(kGoroutines * kEach);
      WaitGroup group;
      group.add(kGoroutines);
      for (int g = 0; g < kGoroutines; ++g)
        go([&, g] {
          for (int i = 0; i < kEach; ++i) {
            numbers[g * kEach + i] = make<std::int64_t>(g * kEach + i);
            if (i % 10 == 0) gosched();
          }
          group.done();
        });
      group.wait();
      for (int i = 0; i < kGoroutines * kEach; ++i) ASSERT_EQ(*numbers[i], i);
      gomaxprocs(1);
      gc();
      gomaxprocs(2);
    }
  });
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

}  // namespace
}  // namespace gearbox::testing
