// The slot before a ring, under a thief that comes all the time: what the contract suite would need luck to hit.
#include "schedulers/gmp/run_next.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace gearbox::schedulers::gmp_parts {
namespace {

class RunNextTest : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Fences, RunNextTest, ::testing::Values(true, false),
                         [](const auto& info) { return info.param ? "asymmetric" : "symmetric"; });

TEST_P(RunNextTest, PutGivesBackWhatWasThere) {
  ASSERT_TRUE(os::has_heavy_fence());
  RunNext slot;
  slot.configure(GetParam());
  G a, b;
  EXPECT_EQ(slot.take(), nullptr);
  EXPECT_EQ(slot.steal(), nullptr);
  EXPECT_EQ(slot.put(&a), nullptr);
  EXPECT_EQ(slot.put(&b), &a);
  EXPECT_EQ(slot.look(), &b);
  EXPECT_EQ(slot.take(), &b);
  EXPECT_EQ(slot.put(&a), nullptr);
  EXPECT_EQ(slot.steal(), &a);
  EXPECT_EQ(slot.take(), nullptr);
}

// N1: every G that is put is taken exactly once, whoever takes it.
TEST_P(RunNextTest, OwnerAndThievesTakeEachGOnce) {
  constexpr int kRounds = 200'000, kGs = 64, kThieves = 2;
  RunNext slot;
  slot.configure(GetParam());
  std::vector<G> gs(kGs);
  std::vector<std::atomic<int>> held(kGs);  // 1: somebody's; 0: in the slot
  for (auto& each : held) each.store(1);
  std::atomic<int> stolen{0}, twice{0};
  std::atomic<bool> done{false};
  // A thief gives what it took back to the owner through this word.
  std::atomic<G*> returned[kThieves] = {};
  const auto take_over = [&](G* g) {
    if (held[static_cast<std::size_t>(g - gs.data())].fetch_add(1) != 0) twice.fetch_add(1);
  };
  std::vector<std::thread> thieves;
  for (int t = 0; t < kThieves; ++t)
    thieves.emplace_back([&, t] {
      while (!done.load(std::memory_order_relaxed)) {
        if (returned[t].load(std::memory_order_acquire) != nullptr) continue;
        if (G* g = slot.steal()) {
          take_over(g);
          stolen.fetch_add(1);
          returned[t].store(g, std::memory_order_release);
        }
      }
    });
  std::vector<G*> mine;
  for (G& g : gs) mine.push_back(&g);
  for (int round = 0; round < kRounds; ++round) {
    for (auto& word : returned)
      if (G* g = word.exchange(nullptr, std::memory_order_acquire)) mine.push_back(g);
    if (!mine.empty()) {
      G* g = mine.back();
      mine.pop_back();
      held[static_cast<std::size_t>(g - gs.data())].fetch_sub(1);
      if (G* before = slot.put(g)) {
        take_over(before);
        mine.insert(mine.begin(), before);
      }
    }
    if (round % 3 != 0)
      if (G* g = slot.take()) {
        take_over(g);
        mine.insert(mine.begin(), g);
      }
  }
  done.store(true);
  for (auto& thief : thieves) thief.join();
  for (auto& word : returned)
    if (G* g = word.load()) mine.push_back(g);
  if (G* g = slot.take()) mine.push_back(g);
  EXPECT_EQ(twice.load(), 0);
  EXPECT_EQ(mine.size(), gs.size()) << "of which " << stolen.load() << " were stolen on the way";
}

}  // namespace
}  // namespace gearbox::schedulers::gmp_parts
