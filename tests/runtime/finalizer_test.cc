// Finalizers under the real scheduler: every object gets its turn, whatever it hung on and wherever it was made; what a
// finalizer may do to the others; and what of that a program can see.
#include "tests/runtime/heap_program.h"

namespace gearbox::testing {
namespace {

class FinalizerProgram : public HeapProgram {};
INSTANTIATE_TEST_SUITE_P(Every, FinalizerProgram, ::testing::ValuesIn(legal()), HeapProgram::case_name);

// Collects until `done` or for long enough that something must be wrong. Each cycle gives finalizers time to run.
template <class Done>
void collect_until(Done&& done) {
  for (int i = 0; i < 300 && !done(); ++i) {
    gc();
    gearbox::sleep(kMillisecond / (i < 100 ? 2 : 1));
  }
}

// One after the other, since each keeps what it refers to; the last one, too.
TEST_P(FinalizerProgram, EveryLinkOfAChainIsFinalized) {
  if (!collects()) return;
  for (int length : {1, 2, 3, 10}) {
    run(setup(), [length] {
      std::vector<int> order;
      [&]() __attribute__((noinline)) {
        Node* head = chain(length);
        for (Node* n = head; n != nullptr; n = n->edges[0])
          set_finalizer(n, [&order](Node* dead) { order.push_back(static_cast<int>(dead->id)); });
      }
      ();
      scrub_stack();
      collect_until([&] { return order.size() == static_cast<std::size_t>(length); });
      std::vector<int> expected;
      for (int i = 1; i <= length; ++i) expected.push_back(i);
      EXPECT_EQ(order, expected);
    });
  }
}

// Risen from the dead and given a finalizer again, by the finalizer itself or later by the program.
TEST_P(FinalizerProgram, AnObjectThatIsGivenAFinalizerAgainIsFinalizedAgain) {
  if (!collects()) return;
  for (bool by_itself : {true, false}) {
    run(setup(), [by_itself] {
      struct Lives {
        std::atomic<int> count{0};
        bool by_itself;
        Root<Node> risen;
        static void end(Lives* lives, Node* n) {
          EXPECT_TRUE(n->intact());
          if (lives->count < 3) {
            lives->risen = n;
            if (lives->by_itself) set_finalizer(n, [lives](Node* dead) { end(lives, dead); });
          }
          ++lives->count;  // last: the program goes on with what is above
        }
      } lives{.count = 0, .by_itself = by_itself, .risen = {}};
      [&]() __attribute__((noinline)) {
        set_finalizer(make<Node>(1u), [&lives](Node* n) { Lives::end(&lives, n); });
      }
      ();
      scrub_stack();
      for (int life = 1; life <= 4; ++life) {
        collect_until([&] { return lives.count == life; });
        ASSERT_EQ(lives.count, life);
        [&]() __attribute__((noinline)) {
          if (!by_itself && lives.risen)
            set_finalizer(lives.risen.load(), [&lives](Node* n) { Lives::end(&lives, n); });
          lives.risen = nullptr;
        }
        ();
        scrub_stack();
      }
      collect_until([] { return false; });
      EXPECT_EQ(lives.count, 4);
    });
  }
}

// The very first object of a program: where the heap begins is a number that a collector has in many frames, and so it must
// not be an object's address; and what made the object has left its address below main's frame, where gc() waits. Nothing
// is scrubbed here: a program does not, either. (What main's own frame still holds is another matter, and the compiler's.)
TEST_P(FinalizerProgram, TheFirstObjectOfAProgramIsFinalized) {
  if (!collects()) return;
  run(setup(), [] {
    bool finalized = false;
    [&]() __attribute__((noinline)) {
      set_finalizer(make<Node>(1u), [&finalized](Node*) { finalized = true; });
    }
    ();
    collect_until([&] { return finalized; });
    EXPECT_TRUE(finalized);
  });
}

// Objects with finalizers that die by the thousand while others live: each once, and only those.
TEST_P(FinalizerProgram, ThousandsDieBesideThousandsThatLive) {
  if (!collects()) return;
  run(setup(), [] {
    constexpr std::size_t kEach = kSanitized ? 2'000 : 10'000;
    std::atomic<std::size_t> right{0}, wrong{0};
    Root<Ref<Node>> living(make_array<Ref<Node>>(kEach).data());
    [&]() __attribute__((noinline)) {
      for (std::size_t i = 0; i < kEach; ++i) {
        set_finalizer(make<Node>(i), [&](Node* n) { (n->intact() ? right : wrong).fetch_add(1); });
        Node* n = make<Node>(i);
        living.load()[i] = n;
        set_finalizer(n, [&](Node*) { wrong.fetch_add(1); });
      }
    }
    ();
    scrub_stack();
    collect_until([&] { return right == kEach; });
    EXPECT_EQ(right.load(), kEach);
    EXPECT_EQ(wrong.load(), 0u);
    for (std::size_t i = 0; i < kEach; ++i) ASSERT_TRUE(living.load()[i]->intact());
  });
}

// As in Go: one goroutine runs them all. What a program can see of it is that objects wait.
TEST_P(FinalizerProgram, OneThatBlocksSilencesTheOthersAndTheyAreCounted) {
  if (!collects()) return;
  run(setup(), [] {
    constexpr std::uint64_t kOthers = 20;
    const auto gate = make_chan<int>();
    std::atomic<std::uint64_t> others{0};
    [&]() __attribute__((noinline)) {
      set_finalizer(make<Node>(1u), [gate](Node*) { gate.recv(); });
    }
    ();
    scrub_stack();
    collect_until([] { return read_mem_stats().finalizers_waiting == 1; });
    ASSERT_EQ(read_mem_stats().finalizers_waiting, 1u) << "the one that blocks";
    [&]() __attribute__((noinline)) {
      for (std::uint64_t i = 0; i < kOthers; ++i)
        set_finalizer(make<Node>(i), [&others](Node*) { others.fetch_add(1); });
    }
    ();
    scrub_stack();
    collect_until([] { return read_mem_stats().finalizers_waiting == 1 + kOthers; });
    EXPECT_EQ(read_mem_stats().finalizers_waiting, 1 + kOthers);
    EXPECT_EQ(others.load(), 0u);
    gate.send(1);
    collect_until([&] { return others == kOthers && read_mem_stats().finalizers_waiting == 0; });
    EXPECT_EQ(others.load(), kOthers);
    EXPECT_EQ(read_mem_stats().finalizers_waiting, 0u);
  });
}

TEST_P(FinalizerProgram, OneThatEndsItsGoroutineSilencesTheOthersAndTheyAreCounted) {
  if (!collects()) return;
  run(setup(), [] {
    std::atomic<int> ended{0}, others{0};
    [&]() __attribute__((noinline)) {
      set_finalizer(make<Node>(1u), [&ended](Node*) {
        ended.fetch_add(1);
        goexit();
      });
    }
    ();
    scrub_stack();
    collect_until([&] { return ended == 1; });
    ASSERT_EQ(ended.load(), 1);
    [&]() __attribute__((noinline)) {
      set_finalizer(make<Node>(2u), [&others](Node*) { others.fetch_add(1); });
    }
    ();
    scrub_stack();
    collect_until([] { return read_mem_stats().finalizers_waiting == 1; });
    EXPECT_EQ(read_mem_stats().finalizers_waiting, 1u);
    EXPECT_EQ(others.load(), 0);
  });
}

}  // namespace
}  // namespace gearbox::testing
