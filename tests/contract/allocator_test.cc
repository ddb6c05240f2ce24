// The contract of interfaces/allocator.h, over every allocator and both ends of each of its options.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/os/memory.h"
#include "base/random.h"
#include "tests/contract/mock_heap.h"
#include "tests/contract/option_ends.h"
#include "tests/sanitized.h"

namespace gearbox::testing {
namespace {

class AllocatorContract : public ::testing::TestWithParam<OptionEnd> {
 protected:
  // A world with the allocator under test and a collector that never runs by itself, or stw if it can free.
  std::unique_ptr<MockWorld> world(std::size_t heap_mib = 64, const char* collector = nullptr) {
    MockConfig config;
    config.heap_mib = heap_mib;
    config.allocator = GetParam().gear;
    config.allocator_options = setter(GetParam());
    config.collector = collector != nullptr ? collector : can_free() ? "stw" : "none";
    auto made = std::make_unique<MockWorld>(config);
    Status ok = made->start();
    EXPECT_TRUE(ok.ok()) << (ok.ok() ? "" : ok.error().message);
    return made;
  }
  static bool can_free() {
    for (const AllocatorEntry& entry : all_allocators())
      if (entry.name == GetParam().gear) return entry.traits.can_free;
    return false;
  }
};

TEST_P(AllocatorContract, ObjectsAreZeroedAlignedApartAndInRange) {
  auto w = world(256, "none");  // every object stays, so that all can be compared
  w->run([&] {
    std::map<std::uintptr_t, std::size_t> taken;
    std::size_t slot = 0;
    for (std::size_t bytes : {1,    7,    8,    16,   17,   24,    40,    64,    100,   129,    500,    1000,
                              1024, 1280, 4000, 5000, 9000, 20000, 32700, 32768, 32769, 100000, 3000000}) {
      for (int i = 0; i < 70; ++i) {
        if (bytes > 50000 && i > 3) break;
        const TypeDesc* type = i % 2 == 0 ? &kBytesDesc : &kSlotArrayDesc;
        auto* at = static_cast<unsigned char*>(w->allocate(type, bytes));
        ASSERT_NE(at, nullptr);
        const auto address = reinterpret_cast<std::uintptr_t>(at);
        ASSERT_EQ(address % 16, 0u) << bytes;
        ASSERT_NE(address, w->heap().base) << "a number that is on many stacks";
        ASSERT_TRUE(w->heap().contains(address) && w->heap().contains(address + bytes - 1));
        for (std::size_t b = 0; b < bytes; ++b) ASSERT_EQ(at[b], 0) << bytes << " byte " << b;
        auto after = taken.lower_bound(address);
        ASSERT_TRUE(after == taken.end() || after->first >= address + bytes) << "overlap";
        ASSERT_TRUE(after == taken.begin() || std::prev(after)->first + std::prev(after)->second <= address)
            << "overlap";
        taken[address] = bytes;
        if (type == &kBytesDesc) std::fill(at, at + bytes, 0xAA);
        keep(slot++ % kStackSlots, at);
      }
    }
  });
}

TEST_P(AllocatorContract, FindsObjectsFromInteriorWordsOnly) {
  auto w = world(128);
  w->run([&] {
    struct Made {
      std::uintptr_t at;
      std::size_t bytes;
      const TypeDesc* type;
    };
    std::vector<Made> made;
    for (int round = 0; round < 40; ++round) {
      for (std::size_t bytes : {8, 48, 160, 2000, 31000, 40000, 70000, 200000}) {
        const TypeDesc* type = round % 2 == 0 ? &kBytesDesc : &kSlotArrayDesc;
        if (bytes > 32000 && round > 3) continue;
        made.push_back({reinterpret_cast<std::uintptr_t>(w->allocate(type, bytes)), bytes, type});
      }
      auto* pair = make_pair_node(*w, 1);
      made.push_back({reinterpret_cast<std::uintptr_t>(pair), sizeof(Pair), &kPairDesc});
    }
    w->with_world_stopped([&] {
      for (const Made& m : made) {
        // One past the end of an array is inside, because of the pad.
        for (std::size_t offset : {std::size_t{0}, m.bytes / 2, m.bytes - 1, m.type->array ? m.bytes : m.bytes - 1}) {
          const Object object = find_object(w->heap(), m.at + offset);
          ASSERT_TRUE(object) << m.bytes << " at +" << offset;
          ASSERT_EQ(object.payload, m.at) << m.bytes << " at +" << offset;
          ASSERT_GE(object.payload_bytes, m.bytes);
          ASSERT_TRUE(object.type == m.type || (m.type->ref_count == 0 && object.type == nullptr));
        }
      }
      for (std::uintptr_t word : {std::uintptr_t{0}, std::uintptr_t{1}, w->heap().base - 1,
                                  w->heap().base + w->heap().bytes, ~std::uintptr_t{0}})
        ASSERT_FALSE(find_object(w->heap(), word));
      Random random(7);
      for (int i = 0; i < 100000; ++i)
        (void)find_object(w->heap(), w->heap().base + random() % w->heap().bytes);  // any word is safe
    });
  });
}

TEST_P(AllocatorContract, EnumeratesExactlyWhatWasHandedOut) {
  auto w = world();
  w->run([&] {
    std::set<std::uintptr_t> made;
    for (int i = 0; i < 300; ++i) {
      made.insert(reinterpret_cast<std::uintptr_t>(make_pair_node(*w, 1)));
      made.insert(reinterpret_cast<std::uintptr_t>(w->allocate(&kBytesDesc, static_cast<std::size_t>(i * 7 + 1))));
      if (i % 50 == 0) made.insert(reinterpret_cast<std::uintptr_t>(w->allocate(&kSlotArrayDesc, 50000)));
    }
    std::set<std::uintptr_t> found;
    std::uintptr_t last = 0;
    for (const Object& object : w->all_objects()) {
      EXPECT_GT(object.cell, last) << "not in address order";
      last = object.cell;
      found.insert(object.payload);
    }
    EXPECT_EQ(found, made);
  });
}

TEST_P(AllocatorContract, SaysNullWhenTheRangeIsFullAndRecovers) {
  auto w = world(64);
  w->run([&] {
    // All of it held by one list: the mock's collection cannot help.
    Pair* list = nullptr;
    std::size_t count = 0;
    for (;;) {
      auto* blob = static_cast<unsigned char*>(w->allocate(&kBytesDesc, 20000));
      if (blob == nullptr) break;
      keep(1, blob);
      auto* node = make_node<Wide>(*w, kWideDesc, count);
      if (node == nullptr) break;
      node->refs[0].store(list);
      node->refs[1].store(blob);
      list = reinterpret_cast<Pair*>(node);
      keep(0, list);
      ASSERT_LT(++count, 10000u) << "more than the range";
    }
    EXPECT_GT(count, 64u * 1024 * 1024 / 20400 / 2) << "most of the range should be usable";
    if (!can_free()) return;
    keep(0, nullptr);
    keep(1, nullptr);
    w->collector().collect(GcReason::kExplicit);
    for (int i = 0; i < 100; ++i) ASSERT_NE(w->allocate(&kBytesDesc, 20000), nullptr);
    ASSERT_NE(w->allocate(&kBytesDesc, 8 << 20), nullptr) << "freed pages do not join";
  });
}

TEST_P(AllocatorContract, GivesObjectsOfTensOfMegabytes) {
  auto w = world(512);
  w->run([&] {
    for (const std::size_t bytes : {std::size_t{15} << 20, std::size_t{33} << 20, std::size_t{100} << 20}) {
      auto* object = static_cast<unsigned char*>(w->allocate(&kBytesDesc, bytes));
      ASSERT_NE(object, nullptr) << bytes;
      keep(0, object);
      for (const std::size_t at : {std::size_t{0}, bytes / 3, bytes - 1}) {
        ASSERT_EQ(object[at], 0) << bytes;
        object[at] = 0xAB;
        w->with_world_stopped([&] {
          const Object found = find_object(w->heap(), reinterpret_cast<std::uintptr_t>(object + at));
          ASSERT_TRUE(found) << bytes << " at " << at;
          ASSERT_EQ(found.payload, reinterpret_cast<std::uintptr_t>(object));
        });
      }
      w->collector().collect(GcReason::kExplicit);
      ASSERT_EQ(object[bytes - 1], 0xAB) << "a live object was taken";
      keep(0, nullptr);
      w->collector().collect(GcReason::kExplicit);
    }
  });
}

TEST_P(AllocatorContract, FreesWhatIsUnmarkedAndKeepsTheRest) {
  if (!can_free()) GTEST_SKIP() << "never frees";
  auto w = world();
  w->run([&] {
    for (int round = 0; round < 5; ++round) {
      std::vector<Pair*> kept_nodes;
      Pair* head = nullptr;
      for (std::uint64_t i = 0; i < 5000; ++i) {
        Pair* node = make_pair_node(*w, i);
        if (i % 3 != 0) continue;
        node->refs[0].store(head);
        head = node;
        keep(0, head);
        kept_nodes.push_back(node);
      }
      keep(1, w->allocate(&kSlotArrayDesc, 100000));
      w->collector().collect(GcReason::kExplicit);
      std::set<std::uintptr_t> found;
      for (const Object& o : w->all_objects()) found.insert(o.payload);
      EXPECT_EQ(found.size(), kept_nodes.size() + 1);
      for (std::size_t i = 0; i < kept_nodes.size(); ++i) {
        ASSERT_TRUE(found.contains(reinterpret_cast<std::uintptr_t>(kept_nodes[i])));
        ASSERT_TRUE(sane(kept_nodes[i], i * 3));
      }
      keep(0, nullptr);
      keep(1, nullptr);
      w->with_world_stopped([&] { w->allocator().check(); });
    }
    w->collector().collect(GcReason::kExplicit);
    EXPECT_TRUE(w->all_objects().empty());
    EXPECT_GT(w->allocator().stats().freed_objects, 5u * 5000);
    EXPECT_EQ(w->heap().live_bytes.load(), 0u);
  });
}

TEST_P(AllocatorContract, GivesMemoryBackAndZeroesItAgain) {
  if (!can_free()) GTEST_SKIP() << "never frees";
  auto w = world();
  w->run([&] {
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 200; ++i) {
        const std::size_t bytes = 50000 + static_cast<std::size_t>(i * 977 % 30000);  // runs join and are cut
        auto* at = static_cast<unsigned char*>(w->allocate(&kBytesDesc, bytes));
        for (std::size_t b = 0; b < bytes; ++b) ASSERT_EQ(at[b], 0);
        std::fill(at, at + bytes, 0xCC);
        if (i % 20 == 0) w->allocator().release_free_memory(0);
      }
      w->collector().collect(GcReason::kExplicit);
      while (w->allocator().release_free_memory(0)) {
      }
      w->with_world_stopped([&] { w->allocator().check(); });
    }
  });
}

// Small objects that filled a heap, dropped: most of their pages are not resident any more after some cycles.
TEST_P(AllocatorContract, PagesOfDroppedSmallObjectsLeaveTheProcess) {
  if (!can_free() || kSanitized) GTEST_SKIP() << "never frees, or a sanitizer keeps books of its own";
  constexpr std::size_t kObjects = 100'000, kBytes = 1000;
  auto w = world(256);
  w->run([&] {
    const std::uint64_t before = os::resident_bytes();
    auto* table = static_cast<Slot*>(w->allocate(&kSlotArrayDesc, kObjects * sizeof(Slot)));
    keep(0, table);
    for (std::size_t i = 0; i < kObjects; ++i) {
      auto* bytes = static_cast<unsigned char*>(w->allocate(&kBytesDesc, kBytes));
      ASSERT_NE(bytes, nullptr);
      std::fill(bytes, bytes + kBytes, 0xCC);
      table[i].store(bytes);
    }
    const std::uint64_t full = os::resident_bytes();
    ASSERT_GT(full, before + kObjects * kBytes * 9 / 10);
    keep(0, nullptr);
    for (int i = 0; i < 4; ++i) {
      w->collector().collect(GcReason::kExplicit);
      while (w->allocator().release_free_memory(0)) {
      }
    }
    EXPECT_LT(os::resident_bytes(), before + (full - before) / 4);
    // And they serve again.
    for (std::size_t i = 0; i < kObjects / 10; ++i) {
      auto* bytes = static_cast<unsigned char*>(w->allocate(&kBytesDesc, kBytes));
      ASSERT_NE(bytes, nullptr);
      ASSERT_EQ(std::count(bytes, bytes + kBytes, 0), static_cast<std::ptrdiff_t>(kBytes));
    }
  });
}

// A small heap whose life has phases of different sizes, each filling most of it: nothing that one phase has used up is
// missed by the next.
TEST_P(AllocatorContract, PhasesOfDifferentSizesFillASmallHeap) {
  if (!can_free()) GTEST_SKIP() << "never frees";
  constexpr std::size_t kHeapMib = 16;
  auto w = world(kHeapMib);
  struct Link {
    Slot next;
    std::uint64_t id;
  };
  static const TypeDesc descs[] = {
      {"Link16", 16, 1, kEightOffsets, false}, {"Link32", 32, 1, kEightOffsets, false},
      {"Link48", 48, 1, kEightOffsets, false}, {"Link64", 64, 1, kEightOffsets, false},
      {"Link96", 96, 1, kEightOffsets, false}, {"Link144", 144, 1, kEightOffsets, false},
      {"Link16", 16, 1, kEightOffsets, false}, {"Link1000", 1000, 1, kEightOffsets, false}};
  w->run([&] {
    for (const TypeDesc& desc : descs) {
      // A header and its waste at most double the smallest; native heaps hold more than half of the range.
      const std::size_t cell = w->heap().find == FindKind::kStartBits ? desc.bytes + 32 : desc.bytes;
      const std::uint64_t count = (kHeapMib << 20) * 5 / 8 / cell;
      for (std::uint64_t i = 0; i < count; ++i) {
        auto* link = static_cast<Link*>(w->allocate(&desc, 0));
        ASSERT_NE(link, nullptr) << desc.name << " " << i << " of " << count;
        link->id = i;
        link->next.store(kept(0));
        keep(0, link);
      }
      std::uint64_t id = count;
      for (auto* link = static_cast<Link*>(kept(0)); link != nullptr; link = static_cast<Link*>(link->next.load()))
        ASSERT_EQ(link->id, --id) << desc.name;
      ASSERT_EQ(id, 0u);
      keep(0, nullptr);
      w->collector().collect(GcReason::kExplicit);
      w->with_world_stopped([&] { w->allocator().check(); });
    }
  });
}

TEST_P(AllocatorContract, APThatLeavesKeepsNoCells) {
  auto w = world();
  w->run([&] {
    w->with_world_stopped([&] {
      P& p = *current_p();
      auto extra = std::make_unique<P>();
      extra->m = p.m;
      w->allocator().p_added(*extra);
      void* cell = w->allocator().refill(*extra, kNoscanWindow, nullptr, 16);
      ASSERT_NE(cell, nullptr);
      extra->cache.tiny = reinterpret_cast<std::uintptr_t>(cell) + 8;
      extra->cache.tiny_left = 8;
      w->allocator().p_removed(*extra);
      EXPECT_EQ(extra->cache.tiny_left, 0u);
      for (const Window& window : extra->cache.windows) EXPECT_EQ(window.free, 0u);
    });
  });
}

TEST_P(AllocatorContract, ManyInOneProcess) {
  for (int i = 0; i < 30; ++i) {
    auto w = world(64);
    w->run([&] {
      for (std::uint64_t n = 0; n < 100; ++n) keep(n, make_pair_node(*w, n));
      for (std::uint64_t n = 0; n < 100; ++n) ASSERT_TRUE(sane(static_cast<Pair*>(kept(n)), n));
    });
  }
}

// Several Ps refill, link and drop at once; every object belongs to the one that made it.
TEST_P(AllocatorContract, PsAllocateAtTheSameTime) {
  auto w = world(can_free() ? 128 : 512);
  std::vector<std::function<void()>> bodies;
  for (std::uint64_t t = 0; t < 3; ++t) {
    bodies.push_back([&w, t] {
      Random random(t);
      std::array<std::uint64_t, 200> ids{};
      for (std::uint64_t i = 0; i < 20000; ++i) {
        const std::size_t slot = random.below(200);
        auto* old = static_cast<Pair*>(kept(slot));
        ASSERT_TRUE(old == nullptr || sane(old, ids[slot]));
        ids[slot] = t << 32 | i;
        Pair* node = make_pair_node(*w, ids[slot]);
        ASSERT_NE(node, nullptr);
        keep(slot, node);
        if (i % 64 == 0) {
          auto* blob = static_cast<unsigned char*>(w->allocate(&kBytesDesc, random.below(60000)));
          ASSERT_NE(blob, nullptr);
          ASSERT_EQ(blob[0], 0);
          blob[0] = 1;
        }
      }
    });
  }
  w->run(bodies);
}

// golang/go#80147: a stale word is looked up while the span it once pointed into is taken back and cut anew.
TEST_P(AllocatorContract, ConservativeLookupRacesWithNewSpans) {
  if (!can_free()) GTEST_SKIP() << "never recycles a span";
  auto w = world(64, "concurrent");
  std::atomic<bool> done{false};
  std::vector<std::function<void()>> bodies;
  bodies.push_back([&] {
    Random random(3);
    for (int cycle = 0; cycle < (kSanitized ? 4 : 15); ++cycle) {
      for (int i = 0; i < 60; ++i)
        keep(random.below(20), w->allocate(random.below(2) == 0 ? &kBytesDesc : &kSlotArrayDesc, random.below(300000)));
      w->collector().collect(GcReason::kExplicit);
    }
    done = true;
  });
  bodies.push_back([&] {
    Random random(4);
    while (!done.load()) {
      std::uintptr_t words[64];
      for (auto& word : words) word = w->heap().base + random() % (w->heap().bytes / 2);
      w->safepoint();
      if (current_p()->marking) w->collector().shade_words(*current_p(), words, 64);
    }
  });
  w->run(bodies);
}

INSTANTIATE_TEST_SUITE_P(Every, AllocatorContract, ::testing::ValuesIn(all_ends(all_allocators())),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace gearbox::testing
