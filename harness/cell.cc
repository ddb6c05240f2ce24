#include "harness/cell.h"

#include "harness/sha256.h"

namespace gearbox::harness {
namespace {

Json combo_json(const Combo& combo) {
  Json out = Json::object();
  for (std::size_t i = 0; i < combo.size(); ++i) out[std::string(kFamilies[i])] = combo[i];
  return out;
}

}  // namespace

std::string cell_id(const Cell& cell, const std::string& build_id) {
  Json identity = {{"workload", cell.workload}, {"params", json_of(cell.params)}, {"combo", combo_json(cell.combo)},
                   {"procs", cell.procs},       {"runtime", cell.runtime},        {"build", build_id}};
  return short_hash(to_line(identity));
}

Json plan_json(const Cell& cell) {
  Json out = {{"seq", cell.seq},
              {"block", cell.block},
              {"cell", cell.id},
              {"workload", cell.workload},
              {"params", json_of(cell.params)},
              {"combo", combo_json(cell.combo)},
              {"procs", cell.procs}};
  if (!cell.runtime.empty()) out["runtime"] = cell.runtime;
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
    return cell;
  } catch (const Json::exception& failure) {
    return Error{fmt::format("{}: not a planned cell: {}", where, failure.what())};
  }
}

}  // namespace gearbox::harness
