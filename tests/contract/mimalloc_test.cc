// What is special to the allocator mimalloc: the versions of its library, and the blocks that no arena of the library holds.
// The contract suite runs on whichever version this machine has.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "allocators/mimalloc/library.h"
#include "allocators/mimalloc/own_runs.h"
#include "allocators/mimalloc/ranges.h"
#include "base/os/memory.h"

namespace gearbox::allocators {
namespace {

TEST(MimallocVersion, ReadsEveryWayInWhichReleasesHaveWrittenTheirs) {
  const std::map<int, std::string> releases = {{188, "1.8.8"},   {200, "2.0.0"},   {209, "2.0.9"},  {227, "2.2.7"},
                                               {20300, "2.3.0"}, {20401, "2.4.1"}, {301, "3.0.1"},  {309, "3.0.9"},
                                               {3010, "3.0.10"}, {3012, "3.0.12"}, {316, "3.1.6"},  {3206, "3.2.6"},
                                               {30300, "3.3.0"}, {30403, "3.4.3"}, {40002, "4.0.2"}};
  for (const auto& [reported, name] : releases)
    EXPECT_EQ(MimallocVersion::from_reported(reported).text(), name) << reported;
  for (int nonsense : {-1, 0, 99, 1'000'000})
    EXPECT_FALSE(MimallocVersion::from_reported(nonsense).supported()) << nonsense;
  EXPECT_TRUE(MimallocVersion::from_reported(200).supported());
  EXPECT_TRUE(MimallocVersion::from_reported(39999).supported());
  EXPECT_FALSE(MimallocVersion::from_reported(188).supported());
  EXPECT_FALSE(MimallocVersion::from_reported(40000).supported());
}

TEST(MimallocLibrary, OpeningItLeavesHugePagesOfTheProcessAsTheyWere) {
  const bool before = os::huge_pages_off();
  ASSERT_TRUE(MimallocRanges::of_process().open());
  EXPECT_EQ(os::huge_pages_off(), before);
}

TEST(MimallocRanges, ARangeLargerThanAnArenaMayBeIsOfSeveral) {
  MimallocRanges& ranges = MimallocRanges::of_process();
  auto range = ranges.take(std::size_t{40} << 30);
  ASSERT_TRUE(range) << range.error().message;
  const std::size_t most = ranges.library().most_arena_bytes();
  EXPECT_EQ((*range)->arenas.size(), most == SIZE_MAX ? 1u : 3u);
  for (const auto arena : (*range)->arenas) {
    mi_heap_t* heap = ranges.library().new_heap(arena);
    ASSERT_NE(heap, nullptr);
    void* block = ranges.library().heap_zalloc(heap, 100);
    ASSERT_NE(block, nullptr);
    EXPECT_LT(reinterpret_cast<std::uintptr_t>(block) - (*range)->base, (*range)->bytes);
    EXPECT_FALSE((*range)->own.contains(reinterpret_cast<std::uintptr_t>(block)));
    ranges.library().free(block);
  }
  MimallocRange* const first = *range;
  ranges.give(*first);
  auto again = ranges.take(std::size_t{40} << 30);
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, first) << "a range that was given back is not used again";
  ranges.give(**again);
}

TEST(OwnRuns, GivesEachPageToOneBlockZeroedAndJoinsWhatIsFree) {
  constexpr std::size_t kBytes = 64 << 20;
  auto memory = os::reserve(kBytes, 0, os::kPageBytes);
  ASSERT_TRUE(memory);
  OwnRuns runs;
  runs.begin(reinterpret_cast<std::uintptr_t>(*memory), kBytes);
  std::mt19937 random(7);
  std::map<std::uintptr_t, std::size_t> held;  // start -> bytes
  for (int step = 0; step < 3000; ++step) {
    if (random() % 2 == 0 || held.empty()) {
      const std::size_t bytes = 1 + random() % (9 << 20);
      auto* block = static_cast<unsigned char*>(runs.take(bytes));
      if (block == nullptr) continue;
      const auto at = reinterpret_cast<std::uintptr_t>(block);
      ASSERT_TRUE(runs.contains(at) && runs.contains(at + bytes - 1));
      const auto after = held.lower_bound(at);
      ASSERT_TRUE(after == held.end() || at + bytes <= after->first) << "two blocks share a page";
      ASSERT_TRUE(after == held.begin() || std::prev(after)->first + std::prev(after)->second <= at)
          << "two blocks share a page";
      ASSERT_EQ(block[0] | block[bytes / 2] | block[bytes - 1], 0) << "what a former block left";
      block[0] = block[bytes / 2] = block[bytes - 1] = 0xEE;
      held[at] = bytes;
    } else {
      auto victim = std::next(held.begin(), static_cast<long>(random() % held.size()));
      runs.give(victim->first, victim->second);
      held.erase(victim);
    }
  }
  for (const auto& [at, bytes] : held) runs.give(at, bytes);
  void* all = runs.take(kBytes);
  EXPECT_NE(all, nullptr) << "runs that are free do not join";
  EXPECT_EQ(runs.take(1), nullptr);
  os::release(*memory, kBytes);
}

}  // namespace
}  // namespace gearbox::allocators
