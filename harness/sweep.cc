#include "harness/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/os/clock.h"
#include "base/os/disk.h"
#include "base/os/process.h"
#include "harness/budget.h"
#include "harness/build_facts.h"
#include "harness/machine.h"
#include "harness/progress.h"
#include "harness/sha256.h"

namespace gearbox::harness {

Result<std::string> own_build_id() {
  auto file = os::open_for_reading(os::kOwnProgram);
  if (!file) return file.error();
  Sha256 hash;  // piece by piece: what the runner holds in memory, each cell's peak in rusage begins with
  std::uint64_t at = 0;
  for (std::string piece; !(piece = os::read_part(*file, at, 64 * 1024)).empty(); at += piece.size()) hash.add(piece);
  if (at != os::size_of(*file)) return Error{fmt::format("{} could not be read to its end", os::own_executable())};
  return hash.hex().substr(0, 16);
}

Json make_manifest(const Experiment& experiment, const Plan& plan, const std::string& build_id,
                   const SourceState& sources, const Json& overrides) {
  Json workloads = Json::array(), illegal = Json::array(), factors = Json::object(), baseline = Json::object();
  for (const auto& work : experiment.workloads) {
    auto entry = find_workload(work.name);
    GEARBOX_REQUIRE(entry.ok(), "{}", entry.error().message);
    OptionPairs params = work.params;  // what a factor sets is no part of a work item
    std::erase_if(params, [&](const auto& pair) {
      return std::any_of(experiment.factors.begin(), experiment.factors.end(), [&](const Factor& factor) {
        return factor.kind == Factor::Kind::kParam && factor.option == pair.first;
      });
    });
    workloads.push_back(
        {{"name", work.name}, {"params", json_of(params)}, {"headline", entry->headline}, {"summary", entry->summary}});
  }
  for (const auto& factor : experiment.factors) {
    std::vector<std::string> levels = factor.levels;  // the baseline's first
    std::rotate(levels.begin(), levels.begin() + static_cast<std::ptrdiff_t>(factor.baseline),
                levels.begin() + static_cast<std::ptrdiff_t>(factor.baseline) + 1);
    factors[factor.name] = levels;
    baseline[factor.name] = factor.baseline_level();
  }
  std::vector<std::uint64_t> procs;
  for (const auto& level : experiment.factor("procs").levels) procs.push_back(parse_procs(level).value());
  Json libraries = Json::object();
  for (std::size_t i = 0; i < kFamilies.size(); ++i)
    for (const auto& [name, version] : foreign_libraries(i, experiment.factor(kFamilies[i]).levels))
      libraries[name] = version ? Json(*version) : Json(nullptr);
  const Json design = {{"kind", experiment.kind},
                       {"blocks", experiment.blocks},
                       {"baseline_runs", experiment.baseline_runs ? Json(*experiment.baseline_runs) : Json("rule")},
                       {"budget_s", experiment.budget_s ? Json(*experiment.budget_s) : Json(nullptr)}};
  for (const auto& one : plan.illegal) {
    Json combo = Json::object();
    for (std::size_t i = 0; i < kFamilies.size(); ++i) combo[std::string(kFamilies[i])] = one.combo[i];
    illegal.push_back({{"combo", combo}, {"reason", one.reason}});
  }
  return {{"schema", kRecordSchema},
          {"experiment", experiment.name},
          {"question", experiment.question},
          {"hypothesis", experiment.hypothesis},
          {"run_id", nullptr},
          {"seed", experiment.seed},
          {"started", iso_time(os::wall_ns(), false)},
          {"blocks", experiment.blocks},
          {"cells_planned", plan.cells.size()},
          {"machine", machine_json(look_at_machine(300'000'000))},
          {"build",
           {{"compiler", kBuildFacts.compiler},
            {"flags", kBuildFacts.flags},
            {"preset", kBuildFacts.preset},
            {"git_commit", sources.commit},
            {"git_dirty", sources.dirty},
            {"dirty_diff", sources.diff.empty() ? Json(nullptr) : Json("dirty.diff")},
            {"build_id", build_id}}},
          {"libraries", libraries},
          {"baseline", baseline},
          {"factors", factors},
          {"procs", procs},
          {"design", design},
          {"overrides", overrides},
          {"limits", {{"timeout_s", experiment.timeout_s}, {"mem_limit_mb", experiment.mem_limit_mib}}},
          {"illegal", illegal},
          {"workloads", workloads},
          {"primary_unit", "process invocation"}};
}

Result<SweepEnd> run_plan(RunDirectory& run, const CellRunner& runner, std::uint64_t seed, bool quiet) {
  SweepEnd end;
  const auto finished = [&](std::uint64_t seq) {
    const auto state = run.done().find(seq);
    return state != run.done().end() && state->second.status != "infra";
  };
  const auto without_records = [](const Error& error) {
    return Error{error.message + ". The sweep ends here: what its cells say has no safe place any more",
                 error.error_number};
  };
  const auto& plan = run.plan();
  // What is known to be part of the run: all of the plan, or its first block as long as a budget is open.
  const auto known_end = [&] {
    std::size_t cells = plan.size();
    if (run.open_budget_s())
      cells = static_cast<std::size_t>(
          std::find_if(plan.begin(), plan.end(), [](const Cell& c) { return c.block > 0; }) - plan.begin());
    return cells;
  };
  const auto begin_progress = [&](std::optional<Progress>& progress) {
    const auto end_of_known = plan.begin() + static_cast<std::ptrdiff_t>(known_end());
    const auto already = static_cast<std::uint64_t>(
        std::count_if(plan.begin(), end_of_known, [&](const Cell& c) { return finished(c.seq); }));
    progress.emplace(known_end(), already, quiet);
  };
  {
    std::optional<Progress> progress;
    begin_progress(progress);
    bool told = false;
    for (std::size_t at = 0;; ++at) {
      if (run.open_budget_s() && at == known_end()) {
        if (auto fixed = run.fix_blocks(); !fixed) return fixed.error();
        begin_progress(progress);
        if (!quiet) progress->note(budget_text(run.manifest()["budget"]));
      }
      if (at == plan.size()) break;
      const Cell& cell = plan[at];
      if (finished(cell.seq)) continue;
      if (os::interrupts() > 0) {
        end.interrupted = true;
        break;
      }
      const auto state = run.done().find(cell.seq);
      const std::uint64_t attempt = state == run.done().end() ? 1 : state->second.attempts + 1;
      progress->show(fmt::format("{} {}", cell.workload, fmt::join(cell.combo, "/")));
      const CellOutcome outcome = runner.run(cell, attempt, seed ^ (cell.seq << 20) ^ attempt);
      if (outcome.interrupted) {
        end.interrupted = true;
        break;
      }
      if (auto there = run.records_in_place(); !there) return without_records(there.error());
      if (auto written = run.append(outcome); !written) {
        return Error{fmt::format("{}. The run keeps its {} finished cells; make room and go on with: gearbox resume {}",
                                 written.error().message, run.done().size(), run.path()),
                     written.error().error_number};
      }
      ++end.ran;
      const std::string status = outcome.record["status"].get<std::string>();
      const bool failed = status != "ok" && status != "unsupported";
      progress->one_done(failed);
      if (failed || (status == "unsupported" && !told)) {
        told =
            told || status == "unsupported";  // a refused poller is refused in a quarter of the cells; once is enough
        progress->note(fmt::format("{} {}: {}: {}", cell.workload, fmt::join(cell.combo, "/"), status,
                                   outcome.record["reason"].get<std::string>()));
      }
    }
  }
  if (auto there = run.records_in_place(); !there) return without_records(there.error());
  for (const auto& [seq, state] : run.done()) {
    if (state.status == "ok") {
      ++end.ok;
    } else if (state.status == "unsupported") {
      ++end.unsupported;
    } else {
      ++end.failed;
    }
  }
  if (auto written = run.mark(!end.interrupted); !written) return written.error();
  return end;
}

}  // namespace gearbox::harness
