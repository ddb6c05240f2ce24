// Which treatments a design runs: pairs that must meet, resolutions, what is refused, and that the same input gives the
// same design.
#include "harness/design.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <set>

namespace gearbox::harness {
namespace {

DesignSpace space_of(std::vector<std::size_t> levels) {
  DesignSpace space;
  space.baseline.assign(levels.size(), 0);
  space.levels = std::move(levels);
  return space;
}

Selection select(std::string_view kind, const DesignSpace& space) {
  auto selection = select_treatments(kind, space);
  GEARBOX_REQUIRE(selection.ok(), "{}", selection.error().message);
  return *selection;
}

// The pairs of levels (factor, level, factor, level) in which both factors speak.
std::set<std::array<std::size_t, 4>> pairs_in(const Selection& selection, const DesignSpace& space) {
  std::set<std::array<std::size_t, 4>> pairs;
  for (const auto& row : selection.treatments) {
    const auto speaking = space.speaking ? space.speaking(row) : std::vector<bool>(row.size(), true);
    EXPECT_TRUE(speaking);
    for (std::size_t f = 0; f < row.size(); ++f)
      for (std::size_t g = f + 1; g < row.size(); ++g)
        if ((*speaking)[f] && (*speaking)[g]) pairs.insert({f, row[f], g, row[g]});
  }
  return pairs;
}

TEST(Design, FactorialHasEachCombinationOnceAndOfatOneFactorAtATime) {
  const auto space = space_of({2, 3, 1, 4});
  const auto all = select("factorial", space).treatments;
  EXPECT_EQ(all.size(), 24u);
  EXPECT_EQ(std::set(all.begin(), all.end()).size(), 24u);
  DesignSpace moved = space;
  moved.baseline = {1, 2, 0, 3};
  const auto ofat = select("ofat", moved).treatments;
  EXPECT_EQ(ofat.size(), 1u + 1 + 2 + 0 + 3);
  EXPECT_EQ(ofat[0], moved.baseline);
  for (std::size_t i = 1; i < ofat.size(); ++i) {
    std::size_t differing = 0;
    for (std::size_t f = 0; f < 4; ++f) differing += ofat[i][f] != moved.baseline[f];
    EXPECT_EQ(differing, 1u);
  }
  EXPECT_EQ(select("ablation", moved).treatments, ofat);
}

TEST(Design, AFactorialThatNoMemoryHoldsIsRefused) {
  auto refused = select_treatments("factorial", space_of(std::vector<std::size_t>(40, 9)));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("pairwise"), std::string::npos);
}

TEST(Design, EveryPairOfLevelsMeetsInAPairwiseDesign) {
  for (const auto& levels : std::vector<std::vector<std::size_t>>{{2, 2},
                                                                  {2, 2, 2, 2},
                                                                  {3, 3, 3, 3},
                                                                  {4, 3, 2, 5, 2},
                                                                  {2, 1, 3, 1},
                                                                  std::vector<std::size_t>(12, 2),
                                                                  {7, 7, 7}}) {
    const auto space = space_of(levels);
    const auto selection = select("pairwise", space);
    std::size_t wanted = 0, product = 1, largest = 1;
    for (std::size_t f = 0; f < levels.size(); ++f) {
      product *= levels[f];
      for (std::size_t g = f + 1; g < levels.size(); ++g) {
        wanted += levels[f] * levels[g];
        largest = std::max(largest, levels[f] * levels[g]);
      }
    }
    EXPECT_EQ(pairs_in(selection, space).size(), wanted);
    EXPECT_EQ(selection.treatments[0], space.baseline);
    EXPECT_TRUE(selection.impossible.empty());
    EXPECT_LE(selection.treatments.size(), std::min(product, 2 * largest + 6));
    const std::set<Treatment> different(selection.treatments.begin(), selection.treatments.end());
    EXPECT_EQ(different.size(), selection.treatments.size());
    EXPECT_EQ(select("pairwise", space).treatments, selection.treatments);
  }
  EXPECT_EQ(select("pairwise", space_of({1, 5, 1})).treatments.size(), 5u);
  EXPECT_EQ(select("pairwise", space_of({1, 1})).treatments.size(), 1u);
}

TEST(Design, PairwiseGoesAroundWhatCannotRunAndNamesThePairsThatCannotMeet) {
  auto space = space_of({3, 3, 3, 2});
  // 0 of the first with 2 of the second never; 1 of the third only with 1 of the fourth, unless the first is 2.
  space.speaking = [](const Treatment& t) -> std::optional<std::vector<bool>> {
    if ((t[0] == 0 && t[1] == 2) || (t[2] == 1 && t[3] != 1 && t[0] != 2)) return std::nullopt;
    return std::vector<bool>(4, true);
  };
  const auto selection = select("pairwise", space);
  ASSERT_EQ(selection.impossible.size(), 1u);
  EXPECT_EQ(selection.impossible[0], (std::array<std::size_t, 4>{0, 0, 1, 2}));
  EXPECT_EQ(pairs_in(selection, space).size(), 9u + 9 + 6 + 9 + 6 + 6 - 1);
}

// The option of a scheduler says nothing to a scheduler without it: such a row does not let its level meet another.
TEST(Design, APairHasMetOnlyWhereBothFactorsSpeak) {
  auto space = space_of({2, 2, 2, 2});
  space.speaking = [](const Treatment& t) -> std::optional<std::vector<bool>> {
    return std::vector<bool>{true, true, true, t[0] == 0};
  };
  const auto selection = select("pairwise", space);
  EXPECT_TRUE(selection.impossible.empty());
  const auto pairs = pairs_in(selection, space);
  EXPECT_EQ(pairs.size(), 3u * 4 + 2 * 4 + 2);  // the fourth with the first: only where the first is 0
}

TEST(Design, AFractionHasTheGreatestResolutionThereIs) {
  struct Case {
    std::size_t factors;
    std::uint64_t fraction, resolution;
  };
  // Box, Hunter and Hunter, "Statistics for Experimenters": the table of two-level fractions.
  for (const Case& c : {Case{3, 2, 3},
                        {4, 2, 4},
                        {5, 2, 5},
                        {5, 4, 3},
                        {6, 2, 6},
                        {6, 4, 4},
                        {6, 8, 3},
                        {7, 4, 4},
                        {7, 8, 4},
                        {7, 16, 3},
                        {8, 4, 5},
                        {8, 8, 4},
                        {8, 16, 4},
                        {9, 4, 6},
                        {10, 8, 5},
                        {11, 128, 3}}) {
    auto space = space_of(std::vector<std::size_t>(c.factors, 2));
    space.fraction = c.fraction;
    space.baseline[1] = 1;
    const auto selection = select("fractional", space);
    EXPECT_EQ(selection.resolution, c.resolution) << c.factors << ", 1/" << c.fraction;
    const auto& rows = selection.treatments;
    EXPECT_EQ(rows.size(), (std::size_t{1} << c.factors) / c.fraction);
    EXPECT_EQ(std::set(rows.begin(), rows.end()).size(), rows.size());
    EXPECT_NE(std::find(rows.begin(), rows.end(), space.baseline), rows.end());
    // By itself: the products of fewer factors than the resolution are balanced, and one of as many is constant.
    std::size_t shortest = 0;
    for (std::uint64_t word = 1; word < std::uint64_t{1} << c.factors; ++word) {
      std::int64_t sum = 0;
      for (const auto& row : rows) {
        bool odd = false;
        for (std::size_t f = 0; f < c.factors; ++f) odd ^= (word >> f & 1) != 0 && row[f] != space.baseline[f];
        sum += odd ? -1 : 1;
      }
      if (sum == 0) continue;
      const auto length = static_cast<std::size_t>(std::popcount(word));
      if (shortest == 0 || length < shortest) shortest = length;
    }
    EXPECT_EQ(shortest, c.resolution) << c.factors << ", 1/" << c.fraction;
  }
  EXPECT_TRUE(resolution_text(3).starts_with("III: ") && resolution_text(4).starts_with("IV: ") &&
              resolution_text(5).starts_with("V: "));
}

TEST(Design, AFractionThatWouldMixUpMainEffectsIsRefusedWithItsReason) {
  auto space = space_of({2, 2, 3});
  auto refused = select_treatments("fractional", space);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("a factor has 3"), std::string::npos) << refused.error().message;
  for (const auto& [factors, fraction] :
       {std::pair<std::size_t, std::uint64_t>{2, 2}, {3, 4}, {4, 4}, {1, 2}, {0, 2}}) {
    space = space_of(std::vector<std::size_t>(factors, 2));
    space.fraction = fraction;
    refused = select_treatments("fractional", space);
    ASSERT_FALSE(refused) << factors;
    EXPECT_NE(refused.error().message.find("below III"), std::string::npos) << refused.error().message;
  }
  space = space_of({2, 2, 2, 2});
  space.fraction = 3;
  refused = select_treatments("fractional", space);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("power of 2"), std::string::npos) << refused.error().message;
}

TEST(Design, AbIsTheBaselineAndTheOtherEnd) {
  auto space = space_of({2, 1, 2});
  space.baseline = {1, 0, 0};
  EXPECT_EQ(select("ab", space).treatments, (std::vector<Treatment>{{1, 0, 0}, {0, 0, 1}}));
  EXPECT_FALSE(select_treatments("ab", space_of({3})));
}

}  // namespace
}  // namespace gearbox::harness
