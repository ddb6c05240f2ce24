// Roots, and everything else outside heap and stacks that keeps objects: channels, closures. Their barriers are tested
// with the mutants that take them away (mutant_test.cc).
#include <cstring>

#include "runtime/root.h"
#include "tests/runtime/heap_program.h"

namespace gearbox::testing {
namespace {

class RootProgram : public HeapProgram {};
INSTANTIATE_TEST_SUITE_P(Every, RootProgram, ::testing::ValuesIn(legal()), HeapProgram::case_name);

void collect_a_few_times() {
  scrub_stack();
  for (int i = 0; i < 3; ++i) {
    litter(500);
    gc();
  }
}

TEST_P(RootProgram, DeferredFunctionsKeepWhatTheyCapture) {
  run(setup(), [] {
    int intact = 0;
    scope([&](Defer& defer) {
      [&]() __attribute__((noinline)) {
        for (int i = 0; i < 100; ++i) defer([n = chain(5), &intact] { intact += intact_length(n) == 5 ? 1 : 0; });
        // Larger than a chunk, and changed by the call.
        struct {
          char padding[3000];
          Node* n;
        } large{{}, chain(5)};
        defer([large, &intact]() mutable { intact += intact_length(std::exchange(large.n, nullptr)) == 5 ? 1 : 0; });
      }
      ();
      collect_a_few_times();
    });
    EXPECT_EQ(intact, 101);
  });
}

TEST_P(RootProgram, FunctionsDeferredByDeferredFunctionsRun) {
  run(setup(), [] {
    std::string order;
    scope([&](Defer& defer) {
      defer([&] { order += 'a'; });
      defer([&] {
        for (char c = 'b'; c < 'z'; ++c) defer([n = chain(2), c, &order] { order += intact_length(n) == 2 ? c : '!'; });
        gc();
      });
    });
    EXPECT_EQ(order, "yxwvutsrqponmlkjihgfedcba");
  });
}

TEST_P(RootProgram, FinalizersAndTimersKeepWhatTheyCapture) {
  run(setup(), [&] {
    std::atomic<int> finalized{0}, fired{0}, damaged{0};
    [&]() __attribute__((noinline)) {
      for (int i = 0; i < 50; ++i)
        set_finalizer(make<Node>(1u), [&, n = chain(5)](Node*) {
          ++finalized;
          damaged += intact_length(n) == 5 ? 0 : 1;
        });
      for (int i = 0; i < 5; ++i)
        after_func(20 * kMillisecond, [&, n = chain(5)] {
          ++fired;
          damaged += intact_length(n) == 5 ? 0 : 1;
        });
    }
    ();
    for (int i = 0; i < 1000 && (fired < 5 || (collects() && finalized < 40)); ++i) {
      collect_a_few_times();
      gearbox::sleep(kMillisecond);
    }
    EXPECT_EQ(fired.load(), 5);
    EXPECT_EQ(damaged.load(), 0);
    if (collects()) {
      EXPECT_GE(finalized.load(), 40);
    }
  });
}

TEST_P(RootProgram, AFinalizerCanBeReplacedAndRemoved) {
  if (!collects()) return;
  run(setup(), [] {
    std::atomic<int> wrong{0}, right{0};
    [&]() __attribute__((noinline)) {
      for (int i = 0; i < 20; ++i) {
        Node* n = make<Node>(1u);
        set_finalizer(n, [&](Node*) { ++wrong; });
        if (i % 2 == 0)
          set_finalizer(n, nullptr);
        else
          set_finalizer(n, [&](Node*) { ++right; });
      }
    }
    ();
    for (int i = 0; i < 200 && right < 8; ++i) {
      collect_a_few_times();
      gearbox::sleep(kMillisecond);
    }
    EXPECT_EQ(wrong.load(), 0);
    EXPECT_GE(right.load(), 8);
  });
}

// A finalizer gives its object back to the program while marks come and go.
TEST_P(RootProgram, AResurrectedObjectLives) {
  if (!collects()) return;
  Program s = setup();
  s.options.checkmark = true;
  s.options.stress_alloc = 5;
  run(s, [] {
    const auto back = make_chan<Node*>(4);
    for (int round = 0; round < 30; ++round) {
      [&]() __attribute__((noinline)) {
        set_finalizer(chain(3), [back](Node* dead) { select(on_send(back, dead, [] {}), otherwise([] {})); });
      }
      ();
      collect_a_few_times();
      Node* risen = nullptr;
      select(on_recv(back, [&](Node* n) { risen = n; }), otherwise([] {}));
      litter(200);
      gc();
      if (risen != nullptr) {
        ASSERT_EQ(intact_length(risen), 3);
      }
    }
  });
}

// Values with Roots inside are moved under the channel's lock, and take a root shard's lock there; the collector comes
// the other way.
TEST_P(RootProgram, ChannelsOfRootsAndTheCollectorDoNotWaitForEachOther) {
  run(setup(), [] {
    const auto channel = make_chan<Root<Node>>(8);
    std::atomic<int> damaged{0};
    WaitGroup group;
    group.add(4);
    const int values = kSanitized ? 500 : 5000;
    for (int g = 0; g < 2; ++g) {
      go([&] {
        for (int i = 0; i < values; ++i) channel.send(Root<Node>(chain(2)));
        group.done();
      });
      go([&] {
        for (int i = 0; i < values; ++i)
          if (intact_length(channel.recv()) != 2) ++damaged;
        group.done();
      });
    }
    std::atomic<bool> done{false};
    go([&] {
      group.wait();
      done = true;
    });
    while (!done) gc();
    EXPECT_EQ(damaged.load(), 0);
  });
}

// A collector may look at a channel from the moment it is listed: not before it is whole.
TEST_P(RootProgram, ChannelsAreMadeWhileTheCollectorLooks) {
  run(setup(), [] {
    std::atomic<bool> done{false};
    go([&] {
      for (int i = 0; i < (kSanitized ? 2000 : 30'000); ++i) {
        const auto channel = make_chan<Node*>(3);
        channel.send(nullptr);
        if (i % 64 == 0) gosched();
      }
      done = true;
    });
    while (!done) gc();
  });
}

TEST(Roots, OnlyReferencesAreExact) {
  run(Program(), [] {
    Node* n = make<Node>(1u);
    const Root<Node> root(n);
    struct Pair {
      std::uint64_t number;
      Node* n;
    };
    const auto channel = make_chan<Pair>(1);
    channel.send({reinterpret_cast<std::uintptr_t>(n) + 8, n});
    const auto count = [](std::uintptr_t wanted, bool exact) {
      struct Context {
        std::uintptr_t wanted;
        int found;
      } context{wanted, 0};
      for (std::size_t shard = 0; shard < roots::kShards; ++shard)
        if (roots::exact(shard) == exact)
          roots::visit(
              shard,
              [](void* c, const std::uintptr_t* words, std::size_t length) {
                auto* context = static_cast<Context*>(c);
                for (std::size_t i = 0; i < length; ++i) context->found += words[i] == context->wanted ? 1 : 0;
              },
              &context);
      return context.found;
    };
    const auto word = reinterpret_cast<std::uintptr_t>(n);
    EXPECT_EQ(count(word, true), 1);       // the Root
    EXPECT_EQ(count(word, false), 1);      // the channel's reference
    EXPECT_EQ(count(word + 8, true), 0);   // a number in a channel proves nothing
    EXPECT_EQ(count(word + 8, false), 1);  // but keeps what it hits
    keep_alive(n);
  });
}

}  // namespace
}  // namespace gearbox::testing
