#include "harness/design.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>

namespace gearbox::harness {
namespace {

Error too_many() {
  return Error{
      fmt::format("the design has more than {} treatments; list fewer levels, or take kind = \"pairwise\" or "
                  "\"ofat\"",
                  kMaxTreatments)};
}

Result<Selection> factorial(const DesignSpace& space) {
  std::size_t count = 1;
  for (const std::size_t levels : space.levels) {
    count *= levels;
    if (count > kMaxTreatments) return too_many();
  }
  Selection out;
  Treatment next(space.levels.size(), 0);
  for (std::size_t i = 0; i < count; ++i) {
    out.treatments.push_back(next);
    for (std::size_t f = next.size(); f-- > 0;) {
      if (++next[f] < space.levels[f]) break;
      next[f] = 0;
    }
  }
  return out;
}

Selection one_at_a_time(const DesignSpace& space) {
  Selection out;
  out.treatments.push_back(space.baseline);
  for (std::size_t f = 0; f < space.levels.size(); ++f)
    for (std::size_t level = 0; level < space.levels[f]; ++level) {
      if (level == space.baseline[f]) continue;
      out.treatments.push_back(space.baseline);
      out.treatments.back()[f] = level;
    }
  return out;
}

Result<Selection> two_ends(const DesignSpace& space) {
  Selection out;
  Treatment other = space.baseline;
  for (std::size_t f = 0; f < space.levels.size(); ++f) {
    if (space.levels[f] > 2)
      return Error{"kind = \"ab\" compares two treatments, so that a factor has two levels or one"};
    if (space.levels[f] == 2) other[f] = 1 - space.baseline[f];
  }
  out.treatments.push_back(space.baseline);
  if (other != space.baseline) out.treatments.push_back(other);
  return out;
}

// Pairwise: a greedy cover. Each row is grown from a pair that no row has yet: factor by factor, the level that covers
// most pairs that are still open, the first of equals. Several open pairs are tried as the seed of each row, and the row
// that covers most is kept. Where a row cannot run, or one of the pair's factors says nothing to it, the search goes on to
// the next best levels.
class Cover {
 public:
  explicit Cover(const DesignSpace& space) : space_(space) {
    for (std::size_t f = 0; f < space.levels.size(); ++f) {
      first_.push_back(columns_);
      columns_ += space.levels[f];
      if (space.levels[f] > 1) varied_.push_back(f);
    }
    open_.assign(columns_ * columns_, false);
    for (std::size_t a = 0; a < varied_.size(); ++a)
      for (std::size_t b = a + 1; b < varied_.size(); ++b)
        for (std::size_t i = 0; i < space.levels[varied_[a]]; ++i)
          for (std::size_t j = 0; j < space.levels[varied_[b]]; ++j) open_[place(varied_[a], i, varied_[b], j)] = true;
  }

  Result<Selection> run() {
    if (ask(space_.baseline)) take(space_.baseline);
    if (varied_.size() == 1) {  // one factor has no pairs: all its levels
      for (auto& treatment : one_at_a_time(space_).treatments)
        if (treatment != space_.baseline && ask(treatment)) take(treatment);
      return std::move(out_);
    }
    for (;;) {
      std::optional<Treatment> best;
      std::size_t best_gain = 0, seeds = 0;
      for (std::size_t a = 0; a < varied_.size() && seeds < kSeeds; ++a)
        for (std::size_t b = a + 1; b < varied_.size() && seeds < kSeeds; ++b)
          for (std::size_t i = 0; i < space_.levels[varied_[a]] && seeds < kSeeds; ++i)
            for (std::size_t j = 0; j < space_.levels[varied_[b]] && seeds < kSeeds; ++j) {
              if (!open_[place(varied_[a], i, varied_[b], j)]) continue;
              ++seeds;
              bool some_can_run = false;
              auto row = grow(varied_[a], i, varied_[b], j, some_can_run);
              if (!row) {
                open_[place(varied_[a], i, varied_[b], j)] = false;
                if (!some_can_run) out_.impossible.push_back({varied_[a], i, varied_[b], j});
                continue;
              }
              if (const std::size_t gain = gain_of(*row); gain > best_gain) {
                best_gain = gain;
                best = std::move(row);
              }
            }
      if (seeds == 0) return std::move(out_);
      if (best) take(*best);
      if (out_.treatments.size() > kMaxTreatments) return too_many();
    }
  }

 private:
  static constexpr std::size_t kSeeds = 40;
  static constexpr std::size_t kLeaves = 500;  // rows that are tried before a pair counts as impossible

  std::size_t place(std::size_t f, std::size_t i, std::size_t g, std::size_t j) const {
    return f < g ? (first_[f] + i) * columns_ + first_[g] + j : (first_[g] + j) * columns_ + first_[f] + i;
  }
  using Speaking = std::optional<std::vector<bool>>;
  const Speaking& ask(const Treatment& treatment) {
    const auto [known, fresh] = asked_.try_emplace(treatment);
    if (fresh) known->second = space_.speaking ? space_.speaking(treatment) : std::vector<bool>(treatment.size(), true);
    return known->second;
  }
  // Calls `look` with the place of each pair of levels that meets in the row.
  template <class Look>
  void pairs_of(const Treatment& row, Look look) {
    const Speaking& speaking = ask(row);
    for (std::size_t a = 0; a < varied_.size(); ++a)
      for (std::size_t b = a + 1; b < varied_.size(); ++b)
        if ((*speaking)[varied_[a]] && (*speaking)[varied_[b]])
          look(place(varied_[a], row[varied_[a]], varied_[b], row[varied_[b]]));
  }
  std::size_t gain_of(const Treatment& row) {
    std::size_t gain = 0;
    pairs_of(row, [&](std::size_t pair) { gain += open_[pair]; });
    return gain;
  }
  void take(const Treatment& row) {
    out_.treatments.push_back(row);
    pairs_of(row, [&](std::size_t pair) { open_[pair] = false; });
  }
  std::optional<Treatment> grow(std::size_t f, std::size_t i, std::size_t g, std::size_t j, bool& some_can_run) {
    Treatment row = space_.baseline;
    row[f] = i;
    row[g] = j;
    std::vector<std::size_t> set = {f, g}, rest;
    for (const std::size_t other : varied_)
      if (other != f && other != g) rest.push_back(other);
    std::size_t leaves = 0;
    return complete(row, set, rest, leaves, some_can_run) ? std::optional(row) : std::nullopt;
  }
  bool complete(Treatment& row, std::vector<std::size_t>& set, const std::vector<std::size_t>& rest,
                std::size_t& leaves, bool& some_can_run) {
    if (set.size() == rest.size() + 2) {
      if (++leaves > kLeaves) return false;
      const Speaking& speaking = ask(row);
      some_can_run = some_can_run || speaking;
      return speaking && (*speaking)[set[0]] && (*speaking)[set[1]];
    }
    const std::size_t f = rest[set.size() - 2];
    std::vector<std::pair<std::size_t, std::size_t>> levels;  // open pairs that the level covers, the level
    for (std::size_t level = 0; level < space_.levels[f]; ++level) {
      std::size_t gain = 0;
      for (const std::size_t other : set) gain += open_[place(f, level, other, row[other])];
      levels.emplace_back(gain, level);
    }
    std::stable_sort(levels.begin(), levels.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    set.push_back(f);
    for (const auto& [gain, level] : levels) {
      row[f] = level;
      if (complete(row, set, rest, leaves, some_can_run)) return true;
      if (leaves > kLeaves) break;
    }
    set.pop_back();
    return false;
  }

  const DesignSpace& space_;
  std::vector<std::size_t> first_, varied_;
  std::size_t columns_ = 0;
  std::vector<bool> open_;  // by place(): pairs of levels that no row has yet
  std::map<Treatment, Speaking> asked_;
  Selection out_;
};

// Generators of a regular 2^(k-p) fraction with the greatest resolution: each of the p added factors is the product of
// some of the m base factors. A word is a set of factors, as bits, whose product is constant; all products of the p words
// must be at least as long as the resolution that is tried.
class Generators {
 public:
  Generators(std::size_t base, std::size_t added) : base_(base), added_(added) {}

  bool find(std::size_t resolution) {
    resolution_ = resolution;
    masks.clear();
    steps_ = 0;
    return extend({0}, 1);
  }
  std::vector<std::uint64_t> masks;  // per added factor: its base factors

 private:
  static constexpr std::size_t kSteps = 2'000'000;

  bool extend(const std::vector<std::uint64_t>& group, std::uint64_t from) {
    if (masks.size() == added_) return true;
    for (std::uint64_t mask = from; mask < std::uint64_t{1} << base_; ++mask) {
      if (static_cast<std::size_t>(std::popcount(mask)) + 1 < resolution_) continue;
      const std::uint64_t word = mask | std::uint64_t{1} << (base_ + masks.size());
      std::vector<std::uint64_t> next = group;
      bool long_enough = true;
      for (const std::uint64_t known : group) {
        next.push_back(known ^ word);
        long_enough = long_enough && static_cast<std::size_t>(std::popcount(known ^ word)) >= resolution_;
        if (!long_enough || ++steps_ > kSteps) break;
      }
      if (steps_ > kSteps) return false;
      if (!long_enough) continue;
      masks.push_back(mask);
      if (extend(next, mask + 1)) return true;
      masks.pop_back();
    }
    return false;
  }

  const std::size_t base_, added_;
  std::size_t resolution_ = 3, steps_ = 0;
};

Result<Selection> fractional(const DesignSpace& space) {
  std::vector<std::size_t> varied;
  for (std::size_t f = 0; f < space.levels.size(); ++f) {
    if (space.levels[f] > 2)
      return Error{
          fmt::format("kind = \"fractional\" halves combinations of two levels, and a factor has {}; take two of "
                      "them, or kind = \"pairwise\"",
                      space.levels[f])};
    if (space.levels[f] == 2) varied.push_back(f);
  }
  if (!std::has_single_bit(space.fraction) || space.fraction < 2)
    return Error{fmt::format("fraction is 2, 4, 8, ...: what part of all combinations is run; {} is no power of 2",
                             space.fraction)};
  const auto added = static_cast<std::size_t>(std::bit_width(space.fraction)) - 1, k = varied.size();
  const std::size_t base = k > added ? k - added : 0;
  if (base < 2 || k >= std::size_t{1} << std::min<std::size_t>(base, 30))
    return Error{
        fmt::format("fraction = {} of {} factors with two levels has a resolution below III: some main effects "
                    "would be the same as others; take a smaller fraction, or kind = \"ofat\"",
                    space.fraction, k)};
  if (base > 16) return too_many();
  Generators generators(base, added);
  std::size_t resolution = base + 1;
  while (!generators.find(resolution)) --resolution;
  Selection out;
  out.resolution = resolution;
  for (std::uint64_t run = 0; run < std::uint64_t{1} << base; ++run) {
    Treatment row = space.baseline;  // bit 0 is the baseline's level, so that the first row is the baseline
    const auto other = [&](std::size_t which, bool away) {
      if (away) row[varied[which]] = 1 - space.baseline[varied[which]];
    };
    for (std::size_t i = 0; i < base; ++i) other(i, run >> i & 1);
    for (std::size_t i = 0; i < added; ++i) other(base + i, std::popcount(run & generators.masks[i]) % 2 == 1);
    out.treatments.push_back(row);
  }
  return out;
}

}  // namespace

const std::vector<DesignKind>& design_kinds() {
  static const std::vector<DesignKind> kinds = {
      {"factorial", "every combination of levels"},
      {"ofat", "the baseline, and from it one factor at a time"},
      {"ablation", "the baseline, and from it every switch of one gear (`ablate`) at each other level it has"},
      {"pairwise", "few treatments in which every two levels of two factors meet"},
      {"fractional", "a regular part (`fraction`) of all combinations of factors with two levels"},
      {"ab", "two treatments: every factor at its baseline, every factor at its other level"}};
  return kinds;
}

Result<Selection> select_treatments(std::string_view kind, const DesignSpace& space) {
  if (kind == "factorial") return factorial(space);
  if (kind == "ofat" || kind == "ablation") return one_at_a_time(space);
  if (kind == "pairwise") return Cover(space).run();
  if (kind == "fractional") return fractional(space);
  if (kind == "ab") return two_ends(space);
  GEARBOX_PANIC("there is no design '{}'", kind);
}

std::string resolution_text(std::uint64_t resolution) {
  static constexpr std::array<std::string_view, 11> kRoman = {"",   "I",   "II",   "III", "IV", "V",
                                                              "VI", "VII", "VIII", "IX",  "X"};
  const std::string roman = resolution < kRoman.size() ? std::string(kRoman[resolution]) : std::to_string(resolution);
  if (resolution <= 3) return roman + ": main effects are mixed up with interactions of two factors";
  if (resolution == 4)
    return roman + ": main effects are clear of interactions of two factors, which are mixed up with one another";
  return roman + ": main effects and interactions of two factors are clear of one another";
}

}  // namespace gearbox::harness
