// Rules of Go's that collector and allocator claim, one test a rule; what every member must keep is in tests/contract/.
#include <gtest/gtest.h>

#include "tests/contract/mock_heap.h"

namespace gearbox::testing {
namespace {

std::uint64_t counter_of(const auto& gear, std::string_view wanted) {
  struct Reader final : CounterVisitor {
    explicit Reader(std::string_view name) : name_(name) {}
    void counter(std::string_view name, std::uint64_t value, std::string_view) override {
      if (name == name_) found = value;
    }
    std::string_view name_;
    std::uint64_t found = 0;
  } reader(wanted);
  gear.counters(reader);
  return reader.found;
}

// mgc.go: the world stops twice a cycle. Beyond Go, a third time when there are finalizers, and again when the second
// pause found more to mark than it may.
TEST(GoCollectorRules, ACycleHasTwoPausesAndAThirdForFinalizers) {
  for (std::uint64_t pauses : {2, 3}) {
    MockConfig config;
    config.collector = "concurrent";
    MockWorld world(config);
    ASSERT_TRUE(world.start().ok());
    world.run([&] {
      keep(0, make_pair_node(world, 1));
      if (pauses == 3) world.set_finalizer(kept(0));
      for (int i = 0; i < 5; ++i) world.collector().collect(GcReason::kExplicit);
      const CollectorStats stats = world.collector().stats();
      EXPECT_EQ(stats.cycles, 5u);
      EXPECT_EQ(stats.pause_ns.count() - counter_of(world.collector(), "restarts"), 5 * pauses);
    });
  }
}

// malloc.go: what is allocated while marking is black, so it outlives its cycle, and no more than that one.
TEST(GoCollectorRules, WhatIsMadeWhileMarkingDiesOneCycleLater) {
  MockConfig config;
  config.collector = "none";
  MockWorld world(config);
  ASSERT_TRUE(world.start().ok());
  world.run([&] {
    world.with_world_stopped([&] {
      world.allocator().begin_mark();
      world.heap().phase = GcPhase::kMark;
    });
    void* born_black = world.allocate(&kBytesDesc, 100);
    const auto sweep = [&] {
      world.with_world_stopped([&] {
        world.allocator().begin_sweep();
        world.heap().phase = GcPhase::kSweep;
      });
      while (world.allocator().sweep(*current_p(), 100)) {
      }
      world.allocator().finish_sweep();
      world.heap().phase = GcPhase::kIdle;
    };
    sweep();
    ASSERT_EQ(world.all_objects().size(), 1u);
    EXPECT_EQ(world.all_objects()[0].payload, reinterpret_cast<std::uintptr_t>(born_black));
    world.with_world_stopped([&] {
      world.allocator().begin_mark();
      world.heap().phase = GcPhase::kMark;
    });
    sweep();
    EXPECT_TRUE(world.all_objects().empty());
  });
}

// mbitmap.go, mgcsweep.go: the mark bitmap becomes the allocation bitmap; a cell that was not marked is free at once.
TEST(GoAllocatorRules, TheMarkBitmapBecomesTheAllocationBitmap) {
  MockConfig config;
  config.collector = "stw";
  MockWorld world(config);
  ASSERT_TRUE(world.start().ok());
  world.run([&] {
    constexpr std::size_t kCells = 64;
    const void* made[kCells];
    for (std::size_t i = 0; i < kCells; ++i) made[i] = world.allocate(&kBytesDesc, 100);
    for (std::size_t i = 0; i < kCells; i += 3) keep(i, made[i]);
    world.collector().collect(GcReason::kExplicit);
    world.with_world_stopped([&] {
      for (std::size_t i = 0; i < kCells; ++i) {
        const auto word = reinterpret_cast<std::uintptr_t>(made[i]);
        EXPECT_EQ(static_cast<bool>(find_object(world.heap(), word)), i % 3 == 0) << i;
        if (i % 3 == 0) EXPECT_FALSE(find_object(world.heap(), word).marked()) << "clear for the next mark";
      }
    });
  });
}

}  // namespace
}  // namespace gearbox::testing
