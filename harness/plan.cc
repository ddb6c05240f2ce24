#include "harness/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/random.h"

namespace gearbox::harness {
namespace {

std::vector<Combo> combos_of(const Experiment& experiment) {
  std::vector<Combo> combos;
  const auto& levels = experiment.levels;
  if (experiment.kind == "ofat") {
    combos.push_back(experiment.baseline);
    for (std::size_t family = 0; family < levels.size(); ++family) {
      for (const auto& level : levels[family]) {
        Combo combo = experiment.baseline;
        combo[family] = level;
        if (combo != experiment.baseline) combos.push_back(combo);
      }
    }
    return combos;
  }
  for (const auto& scheduler : levels[0])
    for (const auto& allocator : levels[1])
      for (const auto& collector : levels[2])
        for (const auto& poller : levels[3]) combos.push_back({scheduler, allocator, collector, poller});
  return combos;
}

}  // namespace

Result<Plan> make_plan(const Experiment& experiment, const std::string& build_id, const Filter* only) {
  Plan plan;
  std::vector<Cell> all, once;  // all: what the levels make, before anything is forbidden or filtered out
  for (const auto& combo : combos_of(experiment)) {
    bool told = false;
    for (std::uint64_t procs : experiment.procs) {
      if (auto reason = why_illegal_combo(combo, procs)) {
        if (!told) plan.illegal.push_back({combo, *reason});
        told = true;
        continue;
      }
      for (const auto& work : experiment.workloads) {
        Cell cell;
        cell.workload = work.name;
        cell.params = work.params;
        cell.combo = combo;
        cell.procs = procs;
        cell.runtime = experiment.runtime;
        cell.build = build_id;
        if (auto made = make_effective(cell); !made) return made.error();
        cell.id = cell_id(cell, build_id);
        all.push_back(std::move(cell));
      }
    }
  }
  // A filter that matches nothing is a slip, and what it was to keep out would run.
  for (const auto& filter : experiment.forbid)
    if (!all.empty() && std::none_of(all.begin(), all.end(), [&](const auto& cell) { return filter.matches(cell); }))
      return Error{fmt::format("{}: [constraints] forbid '{}' matches no cell of this experiment: {}", filter.where(),
                               filter.text(), filter.why_none(all))};
  if (only != nullptr && !all.empty() &&
      std::none_of(all.begin(), all.end(), [&](const auto& cell) { return only->matches(cell); }))
    return Error{fmt::format("{} '{}' matches no cell of this experiment: {}", only->where(), only->text(),
                             only->why_none(all))};
  for (auto& cell : all) {
    const bool forbidden = std::any_of(experiment.forbid.begin(), experiment.forbid.end(),
                                       [&](const auto& filter) { return filter.matches(cell); });
    if (!forbidden && (only == nullptr || only->matches(cell))) once.push_back(std::move(cell));
  }
  if (once.empty())
    return Error{fmt::format(
        "experiment {} has no cell to run: {} combinations are illegal, and the rest is forbidden or filtered out{}",
        experiment.name, plan.illegal.size(), plan.illegal.empty() ? "" : "; the first: " + plan.illegal[0].reason)};
  for (std::uint64_t block = 0; block < experiment.blocks; ++block) {
    std::vector<Cell> order = once;
    // A generator of its own per block: raising the number of blocks keeps the order of those there were.
    Random random(experiment.seed * 0x9e3779b97f4a7c15ULL + block);
    for (std::size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
    for (auto& cell : order) {
      cell.block = block;
      cell.seq = plan.cells.size();
      plan.cells.push_back(std::move(cell));
    }
  }
  return plan;
}

std::string plan_text(const Plan& plan) {
  std::string text;
  for (const auto& cell : plan.cells) text += to_line(plan_json(cell)) + "\n";
  return text;
}

}  // namespace gearbox::harness
