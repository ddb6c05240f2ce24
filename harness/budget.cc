#include "harness/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "harness/experiment.h"
#include "harness/progress.h"

namespace gearbox::harness {

double block_cost_s(const std::vector<CellTime>& cells) {
  double cost_s = 0;
  std::vector<double> gaps_s;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const double wall_s = static_cast<double>(cells[i].wall_ns) * 1e-9;
    cost_s += wall_s;
    if (i + 1 == cells.size()) break;
    const double next_s = static_cast<double>(cells[i + 1].started_ms - cells[i].started_ms) * 1e-3;
    gaps_s.push_back(std::max(0.0, next_s - wall_s));
  }
  if (gaps_s.empty()) return cost_s;
  const auto middle = gaps_s.begin() + static_cast<std::ptrdiff_t>(gaps_s.size() / 2);
  std::nth_element(gaps_s.begin(), middle, gaps_s.end());
  return cost_s + *middle * static_cast<double>(cells.size());
}

std::uint64_t blocks_within(std::uint64_t budget_s, double block_s, std::uint64_t most) {
  const double paid = block_s > 0 ? static_cast<double>(budget_s) / block_s : static_cast<double>(most);
  const std::uint64_t blocks = paid >= static_cast<double>(most) ? most : static_cast<std::uint64_t>(paid);
  return std::min(std::max(blocks, kBudgetMinBlocks), most);
}

std::int64_t ms_of_iso_time(const std::string& text) {
  std::tm time{};
  int milliseconds = 0;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d.%3d", &time.tm_year, &time.tm_mon, &time.tm_mday,
                  &time.tm_hour, &time.tm_min, &time.tm_sec, &milliseconds) < 6)
    return 0;
  time.tm_year -= 1900;
  time.tm_mon -= 1;
  return static_cast<std::int64_t>(::timegm(&time)) * 1000 + milliseconds;
}

std::string budget_text(const Json& budget) {
  return fmt::format("the first block took {}: {} blocks for the budget of {}",
                     duration_text(budget["block_0_s"].get<double>()), budget["blocks"].get<std::uint64_t>(),
                     duration_text(static_cast<double>(budget["budget_s"].get<std::uint64_t>())));
}

}  // namespace gearbox::harness
