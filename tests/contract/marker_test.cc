// What is special in the parts of `concurrent`: budgets hold inside large arrays, work is shared from the root's side,
// marking is not called dry while somebody holds a grey object; and the pacer's limits.
#include <gtest/gtest.h>

#include <bit>

#include "collectors/concurrent/marker.h"
#include "collectors/concurrent/pacer.h"
#include "tests/contract/mock_heap.h"

namespace gearbox::testing {
namespace {

using collectors::concurrent_parts::Marker;
using collectors::concurrent_parts::Marking;
using collectors::concurrent_parts::Pacer;

constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};

class MarkerParts : public ::testing::Test {
 protected:
  // On a goroutine of a world whose collector does nothing, so that all marks are the test's.
  void run(const std::function<void(MockWorld&, Marking&)>& body) {
    MockConfig config;
    config.heap_mib = 256;
    config.collector = "none";
    MockWorld world(config);
    ASSERT_TRUE(world.start().ok());
    world.run([&] {
      Marking marking;
      marking.heap = &world.heap();
      body(world, marking);
    });
  }
  static std::uintptr_t word(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }
  static Slot* array_of_nodes(MockWorld& world, std::size_t length) {
    auto* array = static_cast<Slot*>(world.allocate(&kSlotArrayDesc, length * sizeof(Slot)));
    for (std::size_t i = 0; i < length; ++i) array[i].store(make_pair_node(world, i));
    return array;
  }
  static Pair* tree(MockWorld& world, int depth) {
    Pair* node = make_pair_node(world, static_cast<std::uint64_t>(depth));
    if (depth > 0)
      for (Slot& child : node->refs) child.store(tree(world, depth - 1));
    return node;
  }
};

TEST_F(MarkerParts, ABudgetHoldsInTheMiddleOfAnArray) {
  run([](MockWorld& world, Marking& marking) {
    constexpr std::size_t kLength = 100'000;
    constexpr std::uint64_t kBudget = 32 << 10;
    const Slot* array = array_of_nodes(world, kLength);
    std::uint64_t pieces = 0;
    for (bool more = true; more; ++pieces) {
      Marker marker(marking);
      if (pieces == 0) marker.grey_word(word(array));
      const std::uint64_t before = marker.work_bytes();
      more = marker.drain(nullptr, kBudget);
      // One array piece and the objects that are being fetched may come on top.
      ASSERT_LE(marker.work_bytes() - before, kBudget + (64 << 10)) << "piece " << pieces;
    }
    EXPECT_GT(pieces, 50u);
    EXPECT_EQ(marking.marked_objects.load(), kLength + 1);
  });
}

TEST_F(MarkerParts, SlotsThatFindNothingNewCountAsWork) {
  run([](MockWorld& world, Marking& marking) {
    constexpr std::size_t kLength = 100'000;
    auto* array = static_cast<Slot*>(world.allocate(&kSlotArrayDesc, kLength * sizeof(Slot)));
    void* only = make_pair_node(world, 1);
    for (std::size_t i = 0; i < kLength; ++i) array[i].store(only);
    {
      Marker marker(marking);
      marker.grey_word(word(array));
      const std::uint64_t before = marker.work_bytes();
      EXPECT_TRUE(marker.drain(nullptr, 64 << 10));
      EXPECT_LE(marker.work_bytes() - before, 128u << 10);
    }
    Marker marker(marking);
    EXPECT_FALSE(marker.drain(nullptr, kNoLimit));
  });
}

TEST_F(MarkerParts, ATreeIsSharedFromItsRoot) {
  run([](MockWorld& world, Marking& marking) {
    constexpr int kDepth = 16;
    Pair* root = tree(world, kDepth);
    Marker one(marking);
    one.grey_word(word(root));
    ASSERT_TRUE(one.drain(nullptr, 16 << 10));
    ASSERT_GE(marking.pool.chunks(), 1u) << "nobody else could help";
    // What is in the pool is the larger part of the tree.
    {
      Marker other(marking);
      while (other.drain(nullptr, kNoLimit)) {
      }
    }
    EXPECT_GT(marking.marked_objects.load(), (1u << kDepth) / 2);
    EXPECT_FALSE(one.drain(nullptr, kNoLimit));
  });
}

TEST_F(MarkerParts, IsDryOnlyWhenNobodyHoldsAnything) {
  run([](MockWorld& world, Marking& marking) {
    EXPECT_TRUE(marking.run_dry());
    Pair* root = tree(world, 3);
    {
      Marker holder(marking);
      EXPECT_FALSE(marking.run_dry());  // it may find something yet
      holder.grey_word(word(root));
      EXPECT_EQ(marking.pool.chunks(), 0u);
      EXPECT_FALSE(marking.run_dry());
    }
    EXPECT_EQ(marking.pool.chunks(), 1u);
    EXPECT_FALSE(marking.run_dry());
    {
      Marker marker(marking);
      EXPECT_FALSE(marker.drain(nullptr, kNoLimit));
      EXPECT_FALSE(marking.run_dry());
    }
    EXPECT_TRUE(marking.run_dry());
  });
}

TEST(Pacing, AMarkBeginsInTheLastPartOfTheRoom) {
  constexpr std::uint64_t kLive = 100 << 20, kRoom = kLive;
  Pacer pacer(100, 4 << 20);
  pacer.after_mark(kLive, 10 * kRoom, kLive, 2 * kLive);  // mutators that no runway is long enough for
  EXPECT_GE(pacer.goal(), kLive + kRoom / 100 * 99);
  EXPECT_GE(pacer.trigger(), kLive + kRoom / 100 * 69);
  pacer.after_mark(kLive, 0, kLive, 2 * kLive);
  for (int i = 0; i < 40; ++i) pacer.after_mark(kLive, 0, kLive, 2 * kLive);
  EXPECT_LE(pacer.trigger(), pacer.goal() - kRoom / 17);
  EXPECT_GE(pacer.trigger(), pacer.goal() - kRoom / 15);
}

TEST(Pacing, OneOddCycleDoesNotMoveTheTriggerAllTheWay) {
  constexpr std::uint64_t kLive = 100 << 20;
  Pacer pacer(100, 4 << 20);
  for (int i = 0; i < 20; ++i) pacer.after_mark(kLive, 20 << 20, kLive, 2 * kLive);
  const std::uint64_t steady = pacer.goal() - pacer.trigger();
  pacer.after_mark(kLive, 0, kLive, 2 * kLive);
  EXPECT_GE(pacer.goal() - pacer.trigger(), steady / 3);
}

TEST(Pacing, WhatIsOwedFollowsWhatMarkingTook) {
  constexpr std::uint64_t kLive = 100 << 20;
  Pacer cheap(100, 4 << 20), dear(100, 4 << 20);
  cheap.after_mark(kLive, 10 << 20, kLive, kLive);
  dear.after_mark(kLive, 10 << 20, kLive, 3 * kLive);
  cheap.before_mark(kLive + (80 << 20));
  dear.before_mark(kLive + (80 << 20));
  EXPECT_NEAR(dear.work_per_byte() / cheap.work_per_byte(), 3, 0.01);
}

// A window's own garbage becomes its next spans, without the page heap; other windows get the pages when they need them.
class EmptySpans : public ::testing::Test {
 protected:
  struct Reader final : CounterVisitor {
    void counter(std::string_view name, std::uint64_t value, std::string_view) override {
      if (name == "spans_made") spans_made = value;
    }
    std::uint64_t spans_made = 0;
  };
  static std::uint64_t spans_made(MockWorld& world) {
    Reader reader;
    world.allocator().counters(reader);
    return reader.spans_made;
  }
};

TEST_F(EmptySpans, StayWithTheirWindowForACycle) {
  MockConfig config;
  config.heap_mib = 64;
  config.collector = "stw";
  MockWorld world(config);
  ASSERT_TRUE(world.start().ok());
  world.run([&] {
    constexpr std::uint64_t kNodes = 20'000;
    for (std::uint64_t i = 0; i < kNodes; ++i) make_pair_node(world, i);
    world.collector().collect(GcReason::kExplicit);
    const std::uint64_t before = spans_made(world);
    for (std::uint64_t i = 0; i < kNodes; ++i) make_pair_node(world, i);
    EXPECT_LE(spans_made(world), before + 2);
    // Unused for a cycle, they are given back.
    world.collector().collect(GcReason::kExplicit);
    world.collector().collect(GcReason::kExplicit);
    EXPECT_EQ(world.allocator().stats().in_use_bytes, 0u);
  });
}

TEST_F(EmptySpans, ServeOtherWindowsBeforeTheHeapGrows) {
  MockConfig config;
  config.heap_mib = 16;
  config.collector = "stw";
  config.collector_options = [](OptionSet& set) {
    struct Never final : OptionVisitor {
      void integer(std::string_view name, std::uint64_t& value, Range, std::string_view) override {
        if (name == "gogc") value = 0;
      }
      void flag(std::string_view, bool&, std::string_view) override {}
      void choice(std::string_view, std::size_t&, const std::vector<std::string>&, std::string_view) override {}
    } never;
    set.visit(never);
  };
  MockWorld world(config);
  ASSERT_TRUE(world.start().ok());
  world.run([&] {
    for (std::uint64_t i = 0; i < 150'000; ++i) ASSERT_NE(make_pair_node(world, i), nullptr);  // most of the range
    world.collector().collect(GcReason::kExplicit);
    for (std::uint64_t i = 0; i < 30'000; ++i) ASSERT_NE(make_node<Wide>(world, kWideDesc, i), nullptr) << i;
    EXPECT_EQ(world.collector().stats().cycles, 1u) << "the pages were there";
    world.with_world_stopped([&] { world.allocator().check(); });
  });
}

}  // namespace
}  // namespace gearbox::testing
