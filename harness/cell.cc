#include "harness/cell.h"

#include <algorithm>

#include "harness/sha256.h"

namespace gearbox::harness {
namespace {

Json combo_json(const Combo& combo) {
  Json out = Json::object();
  for (std::size_t i = 0; i < combo.size(); ++i) out[std::string(kFamilies[i])] = combo[i];
  return out;
}

}  // namespace

Result<CellSetup> set_up(const Cell& cell) {
  auto workload = find_workload(cell.workload);
  if (!workload) return workload.error();
  auto params = make_params(*workload, cell.params);
  if (!params) return params.error();
  auto gears = make_gear_set(cell.combo);
  if (!gears) return gears.error();
  OptionSet* const sets[] = {gears->scheduler_options.get(), gears->allocator_options.get(),
                             gears->collector_options.get(), gears->poller_options.get()};
  for (std::size_t i = 0; i < kFamilies.size(); ++i) {
    const std::string owner = fmt::format("{} {}", kFamilies[i], gear_name(cell.combo[i]));
    if (auto set = set_options(*sets[i], cell.gear_options[i], owner); !set) return set.error();
  }
  auto runtime = make_runtime_options(cell.runtime);
  if (!runtime) return runtime.error();
  OptionView view(*runtime);
  if (auto set = set_options(view, cell.runtime_options, "the runtime"); !set) return set.error();
  runtime->procs = cell.procs;
  return CellSetup{*workload, std::move(*params), std::move(*gears), *runtime};
}

Status make_effective(Cell& cell) {
  auto setup = set_up(cell);
  if (!setup) return setup.error();
  OptionView runtime(setup->runtime);
  cell.params = all_options(*setup->params);
  cell.gear_options = {all_options(*setup->gears.scheduler_options), all_options(*setup->gears.allocator_options),
                       all_options(*setup->gears.collector_options), all_options(*setup->gears.poller_options)};
  cell.runtime_options = all_options(runtime);
  return Ok{};
}

Status fits_this_build(const Cell& cell) {
  Cell here = cell;
  if (auto made = make_effective(here); !made) return made.error();
  const auto look = [](const std::string& owner, const OptionPairs& planned, const OptionPairs& now) -> Status {
    for (const auto& option : now)
      if (std::none_of(planned.begin(), planned.end(), [&](const auto& pair) { return pair.first == option.first; }))
        return Error{fmt::format("{} has an option {} in this build, {}, that the plan does not name", owner,
                                 option.first, option.second)};
    return Ok{};
  };
  if (auto same = look("workload " + cell.workload, cell.params, here.params); !same) return same;
  for (std::size_t i = 0; i < kFamilies.size(); ++i) {
    const std::string owner = fmt::format("{} {}", kFamilies[i], gear_name(cell.combo[i]));
    if (auto same = look(owner, cell.gear_options[i], here.gear_options[i]); !same) return same;
  }
  return look("the runtime", cell.runtime_options, here.runtime_options);
}

Json effective_json(const Cell& cell) {
  const auto texts = [](const OptionPairs& pairs) {
    Json out = Json::object();
    for (const auto& [name, value] : pairs) out[name] = value;
    return out;
  };
  Json out = Json::object();
  for (std::size_t i = 0; i < kFamilies.size(); ++i) out[std::string(kFamilies[i])] = texts(cell.gear_options[i]);
  out["runtime"] = texts(cell.runtime_options);
  out["params"] = texts(cell.params);
  return out;
}

std::string cell_id(const Cell& cell, const std::string& build_id) {
  Json gears = Json::array();
  for (const auto& text : cell.combo) gears.push_back(gear_name(text));
  Json identity = {{"workload", cell.workload},
                   {"gears", gears},
                   {"effective", effective_json(cell)},
                   {"procs", cell.procs},
                   {"build", build_id}};
  return short_hash(to_line(identity));
}

Json plan_json(const Cell& cell) {
  Json levels = Json::object();
  for (const auto& [factor, level] : cell.levels) levels[factor] = level;
  Json out = {{"seq", cell.seq},
              {"block", cell.block},
              {"replicate", cell.replicate},
              {"cell", cell.id},
              {"workload", cell.workload},
              {"params", json_of(cell.params)},
              {"combo", combo_json(cell.combo)},
              {"procs", cell.procs},
              {"runtime", cell.runtime},
              {"build", cell.build},
              {"levels", levels},
              {"effective", effective_json(cell)}};
  return out;
}

Result<Cell> cell_from_json(const Json& json, const std::string& where) {
  try {
    Cell cell;
    cell.seq = json.at("seq").get<std::uint64_t>();
    cell.block = json.at("block").get<std::uint64_t>();
    cell.id = json.at("cell").get<std::string>();
    cell.workload = json.at("workload").get<std::string>();
    auto params = pairs_of(json.at("params"), where);
    if (!params) return params.error();
    cell.params = *params;
    for (std::size_t i = 0; i < kFamilies.size(); ++i)
      cell.combo[i] = json.at("combo").at(std::string(kFamilies[i])).get<std::string>();
    cell.procs = json.at("procs").get<std::uint64_t>();
    cell.runtime = json.value("runtime", "");
    cell.build = json.value("build", "");
    cell.replicate = json.value("replicate", std::uint64_t{0});
    if (json.contains("levels")) {
      auto levels = pairs_of(json["levels"], where);
      if (!levels) return levels.error();
      cell.levels = *levels;
    }
    if (!json.contains("effective")) return cell;  // a cell's spec that was written by hand
    const Json& effective = json["effective"];
    for (std::size_t i = 0; i < kFamilies.size(); ++i) {
      auto options = pairs_of(effective.at(std::string(kFamilies[i])), where);
      if (!options) return options.error();
      cell.gear_options[i] = *options;
    }
    auto options = pairs_of(effective.at("runtime"), where);
    if (!options) return options.error();
    cell.runtime_options = *options;
    return cell;
  } catch (const Json::exception& failure) {
    return Error{fmt::format("{}: not a planned cell: {}", where, failure.what())};
  }
}

}  // namespace gearbox::harness
