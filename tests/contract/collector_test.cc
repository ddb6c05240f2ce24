// The contract of interfaces/collector.h, over every collector, both ends of each of its options, and every allocator
// it is legal with.
#include <gtest/gtest.h>

#include "tests/contract/graph_fuzz.h"
#include "tests/contract/option_ends.h"
#include "tests/sanitized.h"

namespace gearbox::testing {
namespace {

struct Pairing {
  OptionEnd collector;
  std::string allocator;
  std::string name() const { return collector.name() + "_on_" + allocator; }
};

// What GoogleTest prints for a parameter.
void PrintTo(const Pairing& pairing, std::ostream* out) { *out << pairing.name(); }

std::vector<Pairing> all_pairings() {
  std::vector<Pairing> out;
  for (const CollectorEntry& collector : all_collectors()) {
    for (const AllocatorEntry& allocator : all_allocators()) {
      if (why_illegal(SchedulerEntry{}, allocator, collector, PollerEntry{}, 2)) continue;
      for (const OptionEnd& end : all_ends(std::vector<CollectorEntry>{collector}))
        out.push_back({end, std::string(allocator.name)});
    }
  }
  return out;
}

class CollectorContract : public ::testing::TestWithParam<Pairing> {
 protected:
  std::unique_ptr<MockWorld> world(std::size_t heap_mib = 64, WorldConfig config = {}, MockConfig mock = {}) {
    mock.heap_mib = heap_mib;
    mock.world = config;
    mock.allocator = GetParam().allocator;
    mock.collector = GetParam().collector.gear;
    mock.collector_options = setter(GetParam().collector);
    auto made = std::make_unique<MockWorld>(mock);
    Status ok = made->start();
    EXPECT_TRUE(ok.ok()) << (ok.ok() ? "" : ok.error().message);
    return made;
  }
  static bool frees() {
    for (const CollectorEntry& entry : all_collectors())
      if (entry.name == GetParam().collector.gear) return entry.traits.frees;
    return false;
  }
  static bool marks_concurrently() {
    for (const CollectorEntry& entry : all_collectors())
      if (entry.name == GetParam().collector.gear) return entry.traits.concurrent_mark;
    return false;
  }
};

TEST_P(CollectorContract, CollectTakesBackWhatWasUnreachableAtTheCall) {
  if (!frees()) GTEST_SKIP() << "never frees";
  auto w = world();
  w->run([&] {
    for (std::uint64_t i = 0; i < 3000; ++i) make_pair_node(*w, i);
    keep(0, make_pair_node(*w, 7));
    w->collector().collect(GcReason::kExplicit);
    const auto left = w->all_objects();
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0].payload, reinterpret_cast<std::uintptr_t>(kept(0)));
    EXPECT_TRUE(sane(static_cast<Pair*>(kept(0)), 7));
    EXPECT_GE(w->collector().stats().cycles, 1u);
    EXPECT_GE(w->collector().stats().pause_ns.count(), 1u);
  });
}

TEST_P(CollectorContract, FollowsLongListsWideArraysAndInteriorWords) {
  auto w = world(128);
  w->run([&] {
    constexpr std::uint64_t kLength = 50000;
    for (std::uint64_t i = 0; i < kLength; ++i) {
      Pair* node = make_pair_node(*w, i);
      node->refs[1].store(kept(0));
      keep(0, node);
    }
    auto* array = static_cast<Slot*>(w->allocate(&kSlotArrayDesc, 40000 * sizeof(Slot)));
    keep(1, reinterpret_cast<char*>(array) + 12345);  // an interior word is all that holds it
    for (std::uint64_t i = 0; i < 40000; i += 16) {
      Pair* node = make_pair_node(*w, i);
      array[i].store(node);
    }
    w->collector().collect(GcReason::kExplicit);
    for (std::uint64_t i = 0; i < 20000; ++i) make_pair_node(*w, 1);  // would reuse what was lost
    w->collector().collect(GcReason::kExplicit);
    auto* node = static_cast<Pair*>(kept(0));
    for (std::uint64_t i = kLength; i-- > 0; node = static_cast<Pair*>(node->refs[1].load()))
      ASSERT_TRUE(sane(node, i));
    for (std::uint64_t i = 0; i < 40000; i += 16) ASSERT_TRUE(sane(static_cast<Pair*>(array[i].load()), i));
  });
}

TEST_P(CollectorContract, RootsKeepAndAreDropped) {
  auto w = world();
  w->run([&] {
    w->set_root(3, make_pair_node(*w, 3));
    w->set_root(kRootSlots - 1, make_pair_node(*w, 4));
    w->collector().collect(GcReason::kExplicit);
    ASSERT_TRUE(sane(static_cast<Pair*>(w->root(3)), 3));
    ASSERT_TRUE(sane(static_cast<Pair*>(w->root(kRootSlots - 1)), 4));
    w->set_root(3, nullptr);
    w->set_root(kRootSlots - 1, nullptr);
    w->collector().collect(GcReason::kExplicit);
    if (frees()) {
      EXPECT_TRUE(w->all_objects().empty());
    }
  });
}

TEST_P(CollectorContract, FinalizersAreQueuedOnceAndWhatTheySeeLives) {
  if (!frees()) GTEST_SKIP() << "never frees";
  auto w = world();
  w->run([&] {
    Pair* dead = make_pair_node(*w, 1);
    keep(0, dead);
    dead->refs[0].store(make_pair_node(*w, 2));
    Pair* alive = make_pair_node(*w, 3);
    keep(1, alive);
    w->set_finalizer(dead);
    w->set_finalizer(alive);
    w->collector().collect(GcReason::kExplicit);
    EXPECT_EQ(w->finalized(), 0u);
    keep(0, nullptr);
    w->collector().collect(GcReason::kExplicit);
    EXPECT_EQ(w->finalized(), 1u);
    EXPECT_TRUE(sane(dead, 1));  // resurrected for its finalizer
    EXPECT_TRUE(sane(static_cast<Pair*>(dead->refs[0].load()), 2));
    w->collector().collect(GcReason::kExplicit);
    EXPECT_EQ(w->finalized(), 1u);
    EXPECT_EQ(w->all_objects().size(), 1u);
  });
}

// A concurrent mark promises pauses of O(Ps): no finalizer is looked at in one, neither while its object lives nor when
// it dies.
TEST_P(CollectorContract, PausesOfAConcurrentMarkLookAtNoFinalizer) {
  if (!marks_concurrently()) GTEST_SKIP() << "marks in a pause";
  auto w = world();
  constexpr std::size_t kObjects = 400;
  w->run([&] {
    for (std::size_t i = 0; i < kObjects; ++i) {
      keep(i, make_pair_node(*w, i));
      w->set_finalizer(kept(i));
    }
    w->collector().collect(GcReason::kExplicit);
    EXPECT_EQ(w->finalized(), 0u);
    for (std::size_t i = 0; i < kObjects; i += 2) keep(i, nullptr);
    w->collector().collect(GcReason::kExplicit);
    EXPECT_EQ(w->finalized(), kObjects / 2);
    EXPECT_EQ(w->finalizers_visited_in_pauses(), 0u);
    for (std::size_t i = 1; i < kObjects; i += 2) ASSERT_TRUE(sane(static_cast<Pair*>(kept(i)), i));
  });
}

// What collect() has done is counted when it returns, also when the one who ended the cycle is slow to come back from its
// pause: a program that reads the statistics behind gc() finds that cycle and its pauses there.
TEST_P(CollectorContract, StatsShowACycleWhenCollectReturns) {
  if (!frees()) GTEST_SKIP() << "never frees";
  MockConfig slow;
  slow.slow_restart_ns = 3'000'000;
  auto w = world(64, {}, slow);
  std::atomic<bool> done{false};
  std::vector<std::function<void()>> bodies;
  bodies.push_back([&] {
    for (int round = 0; round < 12; ++round) {
      keep(0, make_pair_node(*w, 1));
      const CollectorStats before = w->collector().stats();
      w->collector().collect(GcReason::kExplicit);
      const CollectorStats after = w->collector().stats();
      EXPECT_GT(after.cycles, before.cycles);
      EXPECT_GT(after.pause_ns.count(), before.pause_ns.count());
      // Nobody else asks for a cycle, so nothing comes on top later.
      w->sleep_ns(10'000'000);
      const CollectorStats later = w->collector().stats();
      ASSERT_EQ(after.cycles, later.cycles) << "round " << round;
      ASSERT_EQ(after.pause_ns.count(), later.pause_ns.count()) << "round " << round;
      ASSERT_EQ(after.marked_bytes, later.marked_bytes) << "round " << round;
      ASSERT_EQ(after.mark_ns, later.mark_ns) << "round " << round;
    }
    done = true;
  });
  for (std::uint64_t t = 0; t < 2; ++t)  // they give a concurrent collector helpers, one of which may end the mark
    bodies.push_back([&] {
      while (!done.load()) w->sleep_ns(200'000);
    });
  w->run(bodies);
}

// An allocator that is told the end of the sweep while somebody is inside sweep() dies. It counts nothing of its own for
// that end: the collector waits (interfaces/allocator.h, finish_sweep).
class SweepWatch final : public Allocator {
 public:
  explicit SweepWatch(std::unique_ptr<Allocator> member) : member_(std::move(member)) {}
  Result<bool> reserve(Heap& heap) override { return member_->reserve(heap); }
  Status start(Heap& heap) override { return member_->start(heap); }
  void p_added(P& p) override { member_->p_added(p); }
  void p_removed(P& p) override { member_->p_removed(p); }
  void* refill(P& p, std::uint32_t window, const TypeDesc* type, std::size_t bytes) override {
    return member_->refill(p, window, type, bytes);
  }
  void* allocate_large(P& p, const TypeDesc* type, std::size_t bytes) override {
    return member_->allocate_large(p, type, bytes);
  }
  void begin_mark() override { member_->begin_mark(); }
  void begin_sweep() override {
    GEARBOX_REQUIRE(ends_ == begins_, "a sweep begins, and the last one was not finished");
    ++begins_;
    member_->begin_sweep();
  }
  bool sweep(P& p, std::size_t units) override {
    inside_.fetch_add(1);
    const bool more = member_->sweep(p, units);
    if (turn_.fetch_add(1) % 3 == 0)  // the tail of a piece, while others find that nothing is left
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    GEARBOX_REQUIRE(!ending_.load(), "the sweep was finished under somebody inside sweep()");
    inside_.fetch_sub(1);
    return more;
  }
  bool sweep_done() const override { return member_->sweep_done(); }
  void finish_sweep() override {
    ending_ = true;
    GEARBOX_REQUIRE(inside_.load() == 0, "the sweep is finished, and {} are inside sweep()", inside_.load());
    member_->finish_sweep();
    ++ends_;
    GEARBOX_REQUIRE(ends_ == begins_, "a sweep was finished {} times", ends_.load());
    ending_ = false;
  }
  void enumerate(void (*visit)(void*, const Object&), void* context) override { member_->enumerate(visit, context); }
  bool release_free_memory(std::uint64_t keep_bytes) override { return member_->release_free_memory(keep_bytes); }
  AllocatorStats stats() const override { return member_->stats(); }
  void check() const override { member_->check(); }

 private:
  const std::unique_ptr<Allocator> member_;
  std::atomic<std::uint64_t> inside_{0}, turn_{0}, begins_{0}, ends_{0};
  std::atomic<bool> ending_{false};
};

TEST_P(CollectorContract, TheSweepIsFinishedOnceAndWithNobodyInsideIt) {
  if (!frees()) GTEST_SKIP() << "never frees";
  MockConfig watched;
  watched.around_allocator = [](std::unique_ptr<Allocator> member) {
    return std::make_unique<SweepWatch>(std::move(member));
  };
  auto w = world(64, {.seed = 1, .stress_alloc = 30, .checkmark = false}, watched);
  std::vector<std::function<void()>> bodies;
  for (std::uint64_t t = 0; t < 3; ++t)
    bodies.push_back([&, t] {
      for (std::uint64_t i = 0; i < 15; ++i) {
        for (std::uint64_t n = 0; n < 400; ++n) keep(n % 50, make_pair_node(*w, n));
        for (int n = 0; n < 3; ++n) ASSERT_NE(w->allocate(&kBytesDesc, 300'000), nullptr);
        if (i % 3 == t) w->collector().collect(GcReason::kExplicit);
      }
    });
  w->run(bodies);
}

TEST_P(CollectorContract, SeveralCallersAtOnce) {
  auto w = world();
  std::vector<std::function<void()>> bodies;
  for (std::uint64_t t = 0; t < 4; ++t) {
    bodies.push_back([&w, t] {
      for (std::uint64_t i = 0; i < 8; ++i) {
        keep(0, make_pair_node(*w, t * 100 + i));
        make_pair_node(*w, 9);
        w->collector().collect(GcReason::kExplicit);
        ASSERT_TRUE(sane(static_cast<Pair*>(kept(0)), t * 100 + i));
      }
    });
  }
  w->run(bodies);
}

TEST_P(CollectorContract, AFullHeapIsCollectedAndTheCallerGoesOn) {
  if (!frees()) GTEST_SKIP() << "never frees";
  auto w = world(64);
  w->run([&] {
    for (int i = 0; i < (kSanitized ? 1500 : 3000); ++i) ASSERT_NE(w->allocate(&kBytesDesc, 100000), nullptr) << i;
  });
}

// Some mutator is in the middle of shading at almost every moment, and the cycles must end all the same.
TEST_P(CollectorContract, MutatorsThatShadeAllTheTimeDoNotHoldACycleUp) {
  auto w = world();
  std::atomic<bool> done{false};
  std::vector<std::function<void()>> bodies;
  bodies.push_back([&] {
    for (std::uint64_t i = 0; i < 3; ++i) {
      keep(0, make_pair_node(*w, i));
      w->collector().collect(GcReason::kExplicit);
    }
    done = true;
  });
  for (std::uint64_t t = 0; t < 4; ++t) {
    bodies.push_back([&, t] {
      Random random(t);
      std::vector<std::uintptr_t> words(2000);
      for (auto& word : words) word = w->heap().base + random() % w->heap().bytes;
      while (!done.load()) {
        w->safepoint();
        if (current_p()->marking) w->collector().shade_words(*current_p(), words.data(), words.size());
      }
    });
  }
  w->run(bodies);
}

TEST_P(CollectorContract, StopsDuringACycle) {
  for (std::uint64_t round = 0; round < 5; ++round) {
    auto w = world(64, {.seed = round, .stress_alloc = 1 + round, .checkmark = false});
    w->run([&] {
      for (std::uint64_t i = 0; i < 300 * (round + 1); ++i) keep(i % 10, make_pair_node(*w, i));
    });
    EXPECT_EQ(w->heap().phase.load() == GcPhase::kMark, false);
  }
}

TEST_P(CollectorContract, GraphFuzzOneGoroutine) {
  auto w = world(128, {.seed = 1, .stress_alloc = 20, .checkmark = true});
  GraphFuzz(*w, {.seed = 11, .threads = 1, .operations = 6000, .collect_every = 300}).run();
}

TEST_P(CollectorContract, GraphFuzzThreeGoroutines) {
  auto w = world(256, {.seed = 1, .stress_alloc = 30, .checkmark = true});
  GraphFuzz(*w, {.seed = 12, .threads = 3, .operations = 4000, .collect_every = 1000}).run();
}

INSTANTIATE_TEST_SUITE_P(Every, CollectorContract, ::testing::ValuesIn(all_pairings()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace gearbox::testing
