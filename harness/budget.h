// Budget: how many blocks a run may have, from the seconds that the whole of it may take and what its first block cost.
// Everything comes from records, so that a run which was killed and resumed has the same number as one that was not. No
// result is looked at: a number of blocks that depends on results makes noise a discovery.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "harness/json.h"

namespace gearbox::harness {

struct CellTime {
  std::int64_t started_ms, wall_ns;
};

// What a block costs: the time of its cells, and between two of them the usual time. The median, since one gap may have a
// pause in it in which the runner was stopped.
double block_cost_s(const std::vector<CellTime>& cells);

// floor(budget / block), not below kBudgetMinBlocks and not above `most`.
std::uint64_t blocks_within(std::uint64_t budget_s, double block_s, std::uint64_t most);

// Milliseconds since the epoch of a record's t_start; 0 for what is no such time.
std::int64_t ms_of_iso_time(const std::string& text);

// The manifest's "budget" as a sentence.
std::string budget_text(const Json& budget);

}  // namespace gearbox::harness
