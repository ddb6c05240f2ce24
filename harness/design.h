// Design: which treatments of a set of factors are run. Pure: indices in, indices out, the same for the same input.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace gearbox::harness {

// For each factor the index of its level.
using Treatment = std::vector<std::size_t>;

inline constexpr std::size_t kMaxTreatments = 100'000;

// The kinds of design by name: what an experiment file's `kind` may say, with what it means.
struct DesignKind {
  std::string_view name, text;
};
const std::vector<DesignKind>& design_kinds();

struct DesignSpace {
  std::vector<std::size_t> levels;  // per factor, how many it has
  Treatment baseline;               // per factor, the baseline's level
  // Asked by pairwise: nothing when the treatment cannot run; else for each factor whether it says anything to the cell. A
  // pair of levels has met only where both factors do. Without it all can run and all speak.
  std::function<std::optional<std::vector<bool>>(const Treatment&)> speaking;
  std::uint64_t fraction = 2;  // of fractional: 2 runs half of all combinations, 4 a quarter
};

struct Selection {
  std::vector<Treatment> treatments;  // none twice; the baseline first where it belongs to the design
  std::uint64_t resolution = 0;       // of fractional: the length of the shortest defining word; 0 otherwise
  // Pairs of levels (factor, level, factor, level) that pairwise found in no treatment that can run.
  std::vector<std::array<std::size_t, 4>> impossible;
};

// Error: the kind cannot be made from this space; says why and which kind can. REQUIRES: `kind` is one of design_kinds().
Result<Selection> select_treatments(std::string_view kind, const DesignSpace& space);

// "III", and what a resolution means for main effects and interactions.
std::string resolution_text(std::uint64_t resolution);

}  // namespace gearbox::harness
