// The contract of interfaces/collector.h, over every collector, both ends of each of its options, and every allocator
// it is legal with.
#include <gtest/gtest.h>

#include "tests/contract/graph_fuzz.h"
#include "tests/contract/option_ends.h"

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
  std::unique_ptr<MockWorld> world(std::size_t heap_mib = 64, WorldConfig config = {}) {
    MockConfig mock;
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
    for (int i = 0; i < 3000; ++i) ASSERT_NE(w->allocate(&kBytesDesc, 100000), nullptr) << i;
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
