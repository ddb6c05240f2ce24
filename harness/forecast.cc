#include "harness/forecast.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/os/file.h"
#include "harness/build_facts.h"

namespace gearbox::harness {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostRuns = 50;  // the newest that are looked at

struct RunPath {
  std::string id, name, path;
};
// Newest first: a run-id begins with the time.
std::vector<RunPath> runs_below(const std::string& results) {
  std::vector<RunPath> out;
  std::error_code failure, ignored;
  for (const auto& experiment : fs::directory_iterator(results, failure)) {
    if (!experiment.is_directory(ignored)) continue;
    for (const auto& run : fs::directory_iterator(experiment.path(), ignored))
      if (!run.is_symlink(ignored) && fs::is_regular_file(run.path() / "manifest.json", ignored))
        out.push_back({run.path().filename().string(),
                       experiment.path().filename().string() + "/" + run.path().filename().string(),
                       run.path().string()});
  }
  std::sort(out.begin(), out.end(),
            [](const auto& a, const auto& b) { return std::tie(b.id, b.name) < std::tie(a.id, a.name); });
  if (out.size() > kMostRuns) out.resize(kMostRuns);
  return out;
}

// A cell's identity without the build: times of yesterday's build are a good guess for today's.
std::string key_of(const Cell& cell) { return cell_id(cell, ""); }

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double headline_of(const Json& record, const std::string& name) {
  for (const auto& metric : record.value("metrics", Json::array()))
    if (metric.value("name", "") == name && metric.contains("value") && metric["value"].is_number())
      return metric["value"].get<double>();
  return 0;
}

}  // namespace

std::pair<double, std::uint64_t> residual_squares(const std::vector<LogValue>& values) {
  std::map<std::string, double> cells;
  std::map<std::uint64_t, double> blocks;
  for (const auto& value : values) cells[value.cell] = blocks[value.block] = 0;
  if (values.empty() || values.size() + 1 <= cells.size() + blocks.size()) return {0, 0};
  // Means of cells and of blocks in turn, until both fit: in a balanced run the first turn does.
  constexpr int kTurns = 50;
  for (int turn = 0; turn < kTurns; ++turn) {
    const auto fit = [&](auto& effects, auto key, auto other) {
      auto sums = effects;
      std::map<std::decay_t<decltype(effects.begin()->first)>, double> counts;
      for (auto& [label, sum] : sums) sum = 0;
      for (const auto& value : values) {
        sums[key(value)] += value.log - other(value);
        ++counts[key(value)];
      }
      for (auto& [label, effect] : effects) effect = sums[label] / counts[label];
    };
    const auto cell = [](const LogValue& value) { return value.cell; };
    const auto block = [](const LogValue& value) { return value.block; };
    fit(cells, cell, [&](const LogValue& value) { return blocks[value.block]; });
    fit(blocks, block, [&](const LogValue& value) { return cells[value.cell]; });
  }
  double squares = 0;
  for (const auto& value : values) squares += std::pow(value.log - cells[value.cell] - blocks[value.block], 2);
  return {squares, values.size() + 1 - cells.size() - blocks.size()};
}

History History::read(const std::string& results, const std::vector<Cell>& cells) {
  History out;
  std::set<std::string> wanted;
  for (const auto& cell : cells) wanted.insert(key_of(cell));
  for (const auto& run : runs_below(results)) {
    auto text = os::read_file(run.path + "/manifest.json");
    auto manifest = text ? parse_json(*text, run.path) : Result<Json>(Error{"no manifest"});
    if (!manifest || !manifest->is_object()) continue;
    const Json build = manifest->value("build", Json::object());
    if (!build.is_object() || build.value("preset", "") != kBuildFacts.preset) continue;
    std::map<std::string, std::string> headlines;
    for (const auto& workload : manifest->value("workloads", Json::array()))
      if (workload.is_object()) headlines[workload.value("name", "")] = workload.value("headline", "");
    std::map<std::string, std::vector<LogValue>> values;  // by workload
    bool any = false;
    std::ifstream file(run.path + "/cells.jsonl");
    for (std::string line; std::getline(file, line);) {
      auto record = parse_json(line, run.path);
      if (!record || !record->is_object()) continue;
      try {
        auto cell = cell_from_json(*record, run.path);
        if (!cell || record->value("status", "infra") == "infra") continue;
        const std::string key = key_of(*cell);
        if (!wanted.contains(key)) continue;
        any = true;
        out.walls_s_[key].push_back(record->at("wall_ns").get<double>() * 1e-9);
        const double headline = headline_of(*record, headlines[cell->workload]);
        if (record->at("status") == "ok" && headline > 0)
          values[cell->workload].push_back({key, cell->block, std::log(headline)});
      } catch (const Json::exception&) {  // a record that no run wrote
      }
    }
    if (!any) continue;
    if (out.runs_++ == 0) out.newest_ = run.name;
    for (const auto& [workload, list] : values) {
      const auto [squares, degrees] = residual_squares(list);
      out.squares_[workload].first += squares;
      out.squares_[workload].second += degrees;
    }
  }
  return out;
}

std::optional<History::Time> History::block_time(const std::vector<Cell>& block) const {
  Time out;
  std::set<std::string> seen;
  std::map<std::string, std::vector<double>> of_workload;
  std::vector<double> all;
  for (const auto& cell : block) {
    const std::string key = key_of(cell);
    if (!seen.insert(key).second) continue;
    const auto known = walls_s_.find(key);
    if (known == walls_s_.end()) continue;
    ++out.known;
    of_workload[cell.workload].push_back(median(known->second));
    all.push_back(median(known->second));
  }
  out.cells = seen.size();
  if (all.empty()) return std::nullopt;
  const auto mean = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  };
  for (const auto& cell : block) {
    const auto known = walls_s_.find(key_of(cell));
    const auto alike = of_workload.find(cell.workload);
    out.block_s +=
        known != walls_s_.end() ? median(known->second) : mean(alike != of_workload.end() ? alike->second : all);
  }
  return out;
}

std::optional<History::Noise> History::noise(const std::string& workload) const {
  const auto found = squares_.find(workload);
  if (found == squares_.end() || found->second.second == 0) return std::nullopt;
  const auto& [squares, degrees] = found->second;
  return Noise{std::sqrt(squares / static_cast<double>(degrees)), degrees};
}

std::optional<double> detectable_log(std::uint64_t blocks, std::uint64_t baseline_runs) {
  struct Row {
    double blocks, thrice, once;
  };
  static constexpr std::array<Row, 9> kTable = {{{3, 3.13, 4.34},
                                                 {4, 2.61, 3.42},
                                                 {5, 2.27, 2.85},
                                                 {6, 2.04, 2.49},
                                                 {8, 1.72, 2.06},
                                                 {10, 1.53, 1.81},
                                                 {15, 1.20, 1.42},
                                                 {20, 1.02, 1.22},
                                                 {30, 0.82, 0.97}}};
  if (blocks < 3 || baseline_runs == 0) return std::nullopt;
  const auto n = static_cast<double>(blocks);
  double thrice = kTable.back().thrice, once = kTable.back().once;
  if (n >= kTable.back().blocks) {
    const double shrunk = std::sqrt(kTable.back().blocks / n);
    thrice *= shrunk;
    once *= shrunk;
  } else {
    std::size_t at = 0;
    while (kTable[at + 1].blocks < n) ++at;
    const auto &low = kTable[at], &high = kTable[at + 1];
    const auto root = [](double x) { return 1 / std::sqrt(x); };
    const double part = (root(low.blocks) - root(n)) / (root(low.blocks) - root(high.blocks));
    thrice = low.thrice + part * (high.thrice - low.thrice);
    once = low.once + part * (high.once - low.once);
  }
  // A difference of two means varies as 1 + 1/r0; more than three runs of the baseline were not simulated.
  const auto spread = [](double r0) { return std::sqrt(1 + 1 / r0); };
  const double r0 = static_cast<double>(std::min<std::uint64_t>(baseline_runs, 3));
  return thrice + (once - thrice) * (spread(r0) - spread(3)) / (spread(1) - spread(3));
}

}  // namespace gearbox::harness
