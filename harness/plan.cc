#include "harness/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "base/random.h"
#include "harness/design.h"

namespace gearbox::harness {
namespace {

// A cell of one block, before it is repeated and shuffled.
struct Candidate {
  Cell cell;
  bool baseline;
  std::size_t work;  // index of the experiment's workload
};

class Maker {
 public:
  Maker(const Experiment& experiment, const std::string& build_id, const Filter* only)
      : experiment_(experiment), build_id_(build_id), only_(only) {}

  Result<Plan> make() {
    for (std::size_t i = 0; i < experiment_.workloads.size(); ++i)
      if (auto added = add_work(i); !added) return added.error();
    // A filter that matches nothing is a slip, and what it was to keep out would run.
    const auto none_of = [&](const Filter& filter) { return !all_.empty() && !matching_.contains(&filter); };
    const auto cells = [&] {
      std::vector<Cell> out;
      for (const auto& one : all_) out.push_back(one.cell);
      return out;
    };
    for (const auto& filter : experiment_.forbid)
      if (none_of(filter))
        return Error{fmt::format("{}: [constraints] forbid '{}' matches no cell of this experiment: {}", filter.where(),
                                 filter.text(), filter.why_none(cells()))};
    if (only_ != nullptr && none_of(*only_))
      return Error{fmt::format("{} '{}' matches no cell of this experiment: {}", only_->where(), only_->text(),
                               only_->why_none(cells()))};
    std::vector<Candidate> once;
    for (auto& one : all_)
      if (!forbidden(one.cell) && (only_ == nullptr || only_->matches(one.cell))) once.push_back(std::move(one));
    if (once.empty())
      return Error{fmt::format(
          "experiment {} has no cell to run: {} combinations are illegal, and the rest is forbidden or filtered out{}",
          experiment_.name, plan_.illegal.size(),
          plan_.illegal.empty() ? "" : "; the first: " + plan_.illegal[0].reason)};
    if (auto placed = place(once); !placed) return placed.error();
    return std::move(plan_);
  }

 private:
  bool speaks_to(const Factor& factor, const Experiment::Work& work) const {
    return factor.kind != Factor::Kind::kParam ||
           std::any_of(work.params.begin(), work.params.end(),
                       [&](const auto& pair) { return pair.first == factor.option; });
  }

  Result<Cell> cell_of(const Experiment::Work& work, const std::vector<const Factor*>& factors,
                       const Treatment& treatment) const {
    Cell cell;
    cell.workload = work.name;
    cell.params = work.params;
    cell.runtime = experiment_.runtime;
    cell.build = build_id_;
    for (std::size_t i = 0; i < factors.size(); ++i)
      if (auto applied = apply_level(*factors[i], factors[i]->levels[treatment[i]], cell); !applied)
        return applied.error();
    return cell;
  }

  // Why the combination cannot run; notes each combination once.
  bool legal(const Cell& cell) {
    const auto key = std::pair(cell.combo, cell.procs);
    auto known = legal_.find(key);
    if (known == legal_.end()) {
      auto reason = why_illegal_combo(cell.combo, cell.procs);
      const auto same = [&](const auto& one) { return one.combo == cell.combo; };
      if (reason && std::none_of(plan_.illegal.begin(), plan_.illegal.end(), same))
        plan_.illegal.push_back({cell.combo, *reason});
      known = legal_.emplace(key, !reason).first;
    }
    return known->second;
  }

  static std::string reason_of(const Cell& cell) { return why_illegal_combo(cell.combo, cell.procs).value_or(""); }

  bool forbidden(const Cell& cell) {
    bool any = false;
    for (const auto& filter : experiment_.forbid)
      if (filter.matches(cell)) {
        matching_.insert(&filter);
        any = true;
      }
    return any;
  }

  Status add_work(std::size_t index) {
    const Experiment::Work& work = experiment_.workloads[index];
    std::vector<const Factor*> factors;
    DesignSpace space;
    space.fraction = experiment_.fraction;
    for (const auto& factor : experiment_.factors) {
      if (!speaks_to(factor, work)) continue;
      factors.push_back(&factor);
      space.levels.push_back(factor.levels.size());
      space.baseline.push_back(factor.baseline);
    }
    std::optional<Error> broken;
    space.speaking = [&](const Treatment& treatment) -> std::optional<std::vector<bool>> {
      auto cell = cell_of(work, factors, treatment);
      if (cell && !legal(*cell)) return std::nullopt;
      auto made = cell ? make_effective(*cell) : Status(cell.error());
      if (!made) broken = made.error();
      if (!made || forbidden(*cell)) return std::nullopt;
      std::vector<bool> speaking;
      for (const auto* factor : factors) speaking.push_back(level_of(*cell, factor->name).has_value());
      return speaking;
    };
    auto selection = select_treatments(experiment_.kind, space);
    if (broken) return *broken;
    if (!selection)
      return Error{
          fmt::format("experiment {}, workload {}: {}", experiment_.name, work.name, selection.error().message)};
    for (const auto& [f, i, g, j] : selection->impossible)
      remark(fmt::format("{}={} and {}={} cannot run together{}", factors[f]->name, factors[f]->levels[i],
                         factors[g]->name, factors[g]->levels[j],
                         experiment_.workloads.size() > 1 ? fmt::format(" on {}", work.name) : ""));
    if (experiment_.kind == "pairwise") look_for_matches(work, factors, space);
    resolution_.push_back(selection->resolution);
    std::set<std::string> seen;  // an option that says nothing to a gear makes the same cell twice
    for (const auto& treatment : selection->treatments) {
      auto cell = cell_of(work, factors, treatment);
      if (!cell) return cell.error();
      const bool runs = legal(*cell);
      if (runs) {
        if (auto made = make_effective(*cell); !made) return made.error();
        cell->id = cell_id(*cell, build_id_);
      }
      if (selection->resolution > 0)
        if (auto whole = in_fraction(*cell, factors, runs); !whole) return whole.error();
      if (experiment_.kind == "ab" && (!runs || forbidden(*cell)))
        return Error{fmt::format("experiment {}: {} on {} cannot run, so that there is nothing to compare: {}",
                                 experiment_.name, join_pairs(cell->levels), work.name,
                                 runs ? "[constraints] forbids it" : reason_of(*cell))};
      if (!runs || !seen.insert(cell->id + " " + label_of(*cell)).second) continue;
      if (only_ != nullptr && only_->matches(*cell)) matching_.insert(only_);
      (void)forbidden(*cell);
      const bool baseline = at_baseline(*cell);
      all_.push_back({std::move(*cell), baseline, index});
      if (all_.size() > kMaxPlannedCells) return too_many(all_.size());
    }
    return Ok{};
  }

  // A cover need not have tried the cells that a filter forbids. Where they are too many to look at, the filter counts as
  // one that matches.
  void look_for_matches(const Experiment::Work& work, const std::vector<const Factor*>& factors,
                        const DesignSpace& space) {
    constexpr std::size_t kLooked = 2'000;
    const auto unmatched = [&](const Filter& filter) { return !matching_.contains(&filter); };
    if (std::none_of(experiment_.forbid.begin(), experiment_.forbid.end(), unmatched)) return;
    auto every = select_treatments("factorial", space);
    if (!every || every->treatments.size() > kLooked) {
      for (const auto& filter : experiment_.forbid) matching_.insert(&filter);
      return;
    }
    for (const auto& treatment : every->treatments)
      if (auto cell = cell_of(work, factors, treatment); cell && make_effective(*cell)) (void)forbidden(*cell);
  }

  // A regular fraction has its resolution only when all of it is run.
  Status in_fraction(const Cell& cell, const std::vector<const Factor*>& factors, bool runs) {
    std::string why;
    if (!runs) {
      why = fmt::format("{} cannot run: {}", fmt::join(cell.combo, "/"), reason_of(cell));
    } else if (forbidden(cell)) {
      why = fmt::format("[constraints] forbids {} on {}", join_pairs(cell.levels), cell.workload);
    } else if (cell.levels.size() < factors.size()) {
      for (const auto* factor : factors)
        if (!level_of(cell, factor->name))
          why = fmt::format("{} says nothing to {}", factor->name, fmt::join(cell.combo, "/"));
    }
    if (why.empty()) return Ok{};
    return Error{
        fmt::format("experiment {}: {}, and a fraction with holes has no resolution; take kind = \"pairwise\", "
                    "which works around what cannot run",
                    experiment_.name, why)};
  }

  // Whether each factor that says something to the cell is at its baseline.
  bool at_baseline(const Cell& cell) const {
    return std::all_of(cell.levels.begin(), cell.levels.end(), [&](const auto& pair) {
      return experiment_.factor(pair.first).baseline_level() == pair.second;
    });
  }

  static std::optional<std::string> level_of(const Cell& cell, const std::string& factor) {
    for (const auto& [name, level] : cell.levels)
      if (name == factor) return level;
    return std::nullopt;
  }
  static std::string label_of(const Cell& cell) { return level_of(cell, "label").value_or(""); }

  Error too_many(std::uint64_t cells) const {
    return Error{
        fmt::format("experiment {} would plan {} cells, and more than {} cannot be; take fewer blocks, fewer "
                    "levels or a smaller design (kind = \"ofat\", \"pairwise\")",
                    experiment_.name, cells, kMaxPlannedCells)};
  }

  void remark(std::string sentence) {
    if (std::find(plan_.remarks.begin(), plan_.remarks.end(), sentence) == plan_.remarks.end())
      plan_.remarks.push_back(std::move(sentence));
  }

  // Repeats the baselines, counts the replicates, and shuffles each block.
  Status place(const std::vector<Candidate>& once) {
    std::vector<Cell> block;
    std::map<std::string, std::uint64_t> replicates;  // cell and label -> how often they are in the block so far
    const auto add = [&](const Cell& cell) {
      block.push_back(cell);
      block.back().replicate = replicates[cell.id + " " + label_of(cell)]++;
    };
    for (std::size_t index = 0; index < experiment_.workloads.size(); ++index) {
      const auto of_work = [&](const Candidate& one) { return one.work == index; };
      const auto treatments = static_cast<std::uint64_t>(std::count_if(once.begin(), once.end(), of_work));
      if (treatments == 0) continue;
      Plan::Family family{work_name(index),  experiment_.workloads[index].name, treatments, 1, false,
                          resolution_[index]};
      for (const auto& one : once) {
        if (one.work != index) continue;
        add(one.cell);
        if (!one.baseline) continue;
        family.has_baseline = true;
        family.baseline_runs = experiment_.baseline_runs.value_or(baseline_runs_of(treatments));
        for (std::uint64_t run = 1; run < family.baseline_runs; ++run) add(one.cell);
      }
      plan_.families.push_back(std::move(family));
    }
    plan_.per_block = block.size();
    if (block.size() * experiment_.blocks > kMaxPlannedCells) return too_many(block.size() * experiment_.blocks);
    for (std::uint64_t number = 0; number < experiment_.blocks; ++number) {
      std::vector<Cell> order = block;
      // A generator of its own per block: raising the number of blocks keeps the order of those there were.
      Random random(experiment_.seed * 0x9e3779b97f4a7c15ULL + number);
      for (std::size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
      for (auto& cell : order) {
        cell.block = number;
        cell.seq = plan_.cells.size();
        plan_.cells.push_back(std::move(cell));
      }
    }
    return Ok{};
  }

  std::string work_name(std::size_t index) const {
    const auto& work = experiment_.workloads[index];
    const auto same = [&](const auto& other) { return other.name == work.name; };
    if (std::count_if(experiment_.workloads.begin(), experiment_.workloads.end(), same) == 1) return work.name;
    return fmt::format("{} {}", work.name, join_pairs(work.params));
  }

  const Experiment& experiment_;
  const std::string& build_id_;
  const Filter* only_;
  Plan plan_;
  std::vector<Candidate> all_;             // what the levels make, before anything is forbidden or filtered out
  std::vector<std::uint64_t> resolution_;  // by workload
  std::set<const Filter*> matching_;       // filters that match a cell
  std::map<std::pair<Combo, std::uint64_t>, bool> legal_;
};

}  // namespace

std::uint64_t baseline_runs_of(std::uint64_t treatments) {
  if (treatments < 6) return 1;
  const auto root = static_cast<std::uint64_t>(std::lround(std::sqrt(static_cast<double>(treatments - 1))));
  return std::min<std::uint64_t>(3, root);
}

Result<Plan> make_plan(const Experiment& experiment, const std::string& build_id, const Filter* only) {
  return Maker(experiment, build_id, only).make();
}

std::string plan_text(const Plan& plan) {
  std::string text;
  for (const auto& cell : plan.cells) text += to_line(plan_json(cell)) + "\n";
  return text;
}

}  // namespace gearbox::harness
