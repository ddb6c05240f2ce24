// sweep, resume: a whole experiment.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/os/process.h"
#include "harness/command_line.h"
#include "harness/experiment.h"
#include "harness/experiment_keys.h"
#include "harness/progress.h"
#include "harness/sweep.h"
#include "harness/sweep_verbs.h"

namespace gearbox::harness {
namespace {

constexpr const char* kSweepHelp = R"(gearbox sweep <experiment> [options]

Runs an experiment: the combinations of levels that its design asks for, over its workloads, in blocks. A block holds every cell, the baseline's
several times when there are many, in an order of its own; each cell is a process of its own. Then come the answer, the plots and the report.

An experiment is a name from `gearbox list experiments` or a path to a .toml file. Results go to results/<experiment>/<run-id>/, one line per
cell as it ends. Ctrl-C lets the running cell end and stops; `gearbox resume` goes on. A second Ctrl-C kills the running cell.

  gearbox sweep quickstart
  gearbox sweep quickstart --dry-run
  gearbox sweep quickstart --blocks 10 --only 'workload=gc_latency & poller=epoll'

Exit code: 0 every cell ended ok or unsupported; 1 some failed, or the analysis did, or with --fail-unsupported some were unsupported;
or what it prints at the end could not be written; 2 the command line or the file was wrong; 130 stopped by Ctrl-C, a kill or a closed terminal.
Progress that could not be shown (a full disk, a terminal that is gone) stops nothing; the manifest then says so as progress_lost.

)";
constexpr const char* kResumeHelp = R"(gearbox resume [run] [options]

Goes on with a run that was stopped: by Ctrl-C, a crash, a full disk, a power cut. A run is a path, an experiment's name (its latest run) or a
run-id; without one it is the newest. Cells that have a record are not run again, except those that the harness itself could not start.

The run keeps its plan. It is refused when this binary is not the one that began it, or this computer, since their cells cannot be compared;
--force goes on all the same. The manifest and each record then say which build and which computer it was, and the analysis keeps the builds apart.

)";

constexpr const char* kFailUnsupported = "a cell whose gear the kernel refuses makes the exit code 1";

// Runs what is left, then the analysis; the end of sweep and of resume.
int finish(RunDirectory run, const CellLimits& limits, std::uint64_t seed, const CommandLine& line,
           const std::string& verb) {
  const bool json = line.flag("json");
  os::count_interrupts();
  CellRunner runner = own_cells();
  runner.limits = limits;
  auto end = run_plan(run, runner, seed, json);
  if (!end) {
    print_err("gearbox {}: {}\n", verb, end.error().message);
    return kExitFailed;
  }
  const std::string path = run.path();
  const auto lost = lost_errors();
  if (lost)
    if (auto written = run.set_in_manifest("progress_lost", lost->message); !written)
      print_err("gearbox {}: {}\n", verb, written.error().message);
  const auto stopped = [&](const std::string& how_far) {
    print_err("Stopped: {}. Go on with: gearbox resume {}\n", how_far, path);
    return kExitInterrupted;
  };
  Json facts = {{"run", path},           {"cells", run.plan().size()},
                {"ok", end->ok},         {"unsupported", end->unsupported},
                {"failed", end->failed}, {"interrupted", end->interrupted}};
  if (end->interrupted) {
    if (json) print_out("{}\n", to_line(facts));
    return stopped(fmt::format("{} of {} cells are done", run.done().size(), run.plan().size()));
  }
  if (!json) {
    print_err("{} cells: {} ok, {} unsupported, {} failed\n", run.plan().size(), end->ok, end->unsupported,
              end->failed);
    if (end->failed > 0) print_err("What the failed cells printed is in {}/blobs\n", path);
  }
  const int analysis = os::interrupts() > 0 ? kExitInterrupted : analyse_finished_run(path, json);
  if (analysis == kExitInterrupted) {
    facts["interrupted"] = true;
    if (json) print_out("{}\n", to_line(facts));
    return stopped("every cell is done, and the analysis is not");
  }
  if (lost && !json) print_out("The progress of the sweep was not shown: {}\n", lost->message);
  facts["analysis_exit"] = analysis;
  facts["report"] = path + "/report.html";
  if (json) print_out("{}\n", to_line(facts));
  const bool refused = line.flag("fail-unsupported") && end->unsupported > 0;
  return end->failed == 0 && !refused && analysis == 0 ? kExitOk : kExitFailed;
}

}  // namespace

void add_sweep_options(po::options_description& options) {
  auto add = options.add_options();
  add("blocks", po::value<std::string>()->value_name("N"), "blocks to run, in place of the file's number or budget");
  add("budget", po::value<std::string>()->value_name("S"),
      "seconds for the whole run: the first block's cost fixes the number of blocks");
  add("seed", po::value<std::string>()->value_name("N"), "seed of the order inside the blocks, in place of the file's");
  add("only", po::value<std::string>()->value_name("FILTER"),
      "only cells that match: key=value joined by &, e.g. 'workload=sieve & procs > 1'");
  add("dry-run", po::bool_switch(), "show what would run, with --json the plan itself, and stop");
  add("out", po::value<std::string>()->value_name("DIR"), "results folder (default: results/ in the repository)");
  add("fail-unsupported", po::bool_switch(), kFailUnsupported);
  add("json", po::bool_switch(), "no progress; at the end one JSON object");
  add("help,h", po::bool_switch(), "this text");
}

Status apply_overrides(const CommandLine& line, Experiment& experiment, Json& overrides) {
  for (const char* name : {"only", "out"})
    if (line.has(name)) overrides[name] = line.text(name);
  std::optional<std::uint64_t> blocks, budget_s, seed;
  for (const auto& [option, key, into] :
       {std::tuple<const char*, const char*, std::optional<std::uint64_t>*>{"blocks", "blocks", &blocks},
        {"budget", "budget_s", &budget_s},
        {"seed", "seed", &seed}}) {
    if (!line.has(option)) continue;
    auto number = parse_integer(line.text(option), experiment_key("design", key).range, std::string("--") + option);
    if (!number) return number.error();
    *into = *number;
    overrides[option] = *number;
  }
  if (seed) experiment.seed = *seed;
  if (budget_s) {
    if (!blocks && !experiment.budget_s) blocks = kBudgetBlocks;
    if (blocks && *blocks < kBudgetMinBlocks)
      return Error{fmt::format("--blocks is {}, and a budget needs room for {}, since fewer give no verdict", *blocks,
                               kBudgetMinBlocks)};
    experiment.budget_s = budget_s;
  } else if (blocks) {
    experiment.budget_s.reset();
  }
  if (blocks) experiment.blocks = *blocks;
  return Ok{};
}

void print_plan(const Experiment& experiment, const Plan& plan) {
  const std::string blocks =
      experiment.budget_s
          ? fmt::format("up to {} blocks of {}, as many as {} allow", experiment.blocks, plan.per_block,
                        duration_text(static_cast<double>(*experiment.budget_s)))
          : fmt::format("{} cells = {} blocks of {}", plan.cells.size(), experiment.blocks, plan.per_block);
  print_out("{}: {}\n", experiment.name, blocks);
  print_out("  question    {}\n  hypothesis  {}\n  design      {}\n", experiment.question, experiment.hypothesis,
            experiment.kind);
  for (const auto& factor : experiment.factors) {
    std::string levels;
    for (const auto& level : factor.levels)
      levels += fmt::format("{}{}{}", levels.empty() ? "" : ", ", level,
                            factor.levels.size() > 1 && level == factor.baseline_level() ? " (baseline)" : "");
    print_out("  {:<11} {}\n", factor.name, levels);
  }
  for (const auto& work : experiment.workloads) print_out("  workload    {} {}\n", work.name, join_pairs(work.params));
  for (const auto& one : plan.illegal) print_out("  not run     {}: {}\n", fmt::join(one.combo, "/"), one.reason);
  for (const auto& sentence : plan.remarks) print_out("  note        {}\n", sentence);
}

int run_experiment(const std::string& verb, const CommandLine& line, Experiment experiment) {
  const bool json = line.flag("json");
  Json overrides = Json::object();
  if (auto applied = apply_overrides(line, experiment, overrides); !applied) return usage_error(verb, applied.error());
  Filter filter;
  if (line.has("only")) {
    auto parsed = Filter::parse(line.text("only"), "--only");
    if (!parsed) return usage_error(verb, parsed.error());
    filter = *parsed;
  }
  auto build_id = own_build_id();
  if (!build_id) return usage_error(verb, build_id.error());
  auto plan = make_plan(experiment, *build_id, line.has("only") ? &filter : nullptr);
  if (!plan) return usage_error(verb, plan.error());
  if (line.flag("dry-run")) {
    if (json) {
      write_out(plan_text(*plan));
    } else {
      print_plan(experiment, *plan);
    }
    return kExitOk;
  }
  const std::string results = line.text("out", results_folder());
  if (results.empty()) return usage_error(verb, {"--out is empty; name a folder"});
  const SourceState sources = look_at_sources(root_folder());
  auto run = RunDirectory::create(std::filesystem::absolute(results).string(), experiment.name, experiment.text,
                                  make_manifest(experiment, *plan, *build_id, sources, overrides), plan_text(*plan),
                                  sources.diff);
  if (!run) {
    print_err("gearbox {}: {}\n", verb, run.error().message);
    return kExitFailed;
  }
  if (!json) {
    const std::string cells = experiment.budget_s
                                  ? fmt::format("blocks of {} cells for {}", plan->per_block,
                                                duration_text(static_cast<double>(*experiment.budget_s)))
                                  : fmt::format("{} cells", plan->cells.size());
    print_err("{}: {} into {}\n", experiment.name, cells, run->path());
    for (const auto& one : plan->illegal) print_err("not run: {}: {}\n", fmt::join(one.combo, "/"), one.reason);
    for (const auto& sentence : plan->remarks) print_err("note: {}\n", sentence);
    const Json& machine = run->manifest()["machine"];
    print_err("machine: {}\n", machine["verdict"].get<std::string>());
    for (const auto& reason : machine["verdict_reasons"]) print_err("  {}\n", reason.get<std::string>());
  }
  CellLimits limits;
  limits.timeout_s = experiment.timeout_s;
  limits.mem_limit_mib = experiment.mem_limit_mib;
  return finish(std::move(*run), limits, experiment.seed, line, verb);
}

int sweep_verb(const Arguments& arguments) {
  po::options_description options("Options");
  add_sweep_options(options);
  auto line = CommandLine::parse(arguments, options, {"one experiment"});
  if (!line) return usage_error("sweep", line.error());
  if (line->flag("help")) {
    print_help(kSweepHelp, options);
    return kExitOk;
  }
  if (line->operands().empty()) return usage_error("sweep", {"which experiment? See: gearbox list experiments"});
  auto path = find_experiment(root_folder(), line->operands()[0]);
  if (!path) return usage_error("sweep", path.error());
  auto experiment = load_experiment(*path);
  if (!experiment) return usage_error("sweep", experiment.error());
  return run_experiment("sweep", *line, std::move(*experiment));
}

int resume_verb(const Arguments& arguments) {
  po::options_description options("Options");
  auto add = options.add_options();
  add("force", po::bool_switch(), "go on although the binary or the computer has changed");
  add("out", po::value<std::string>()->value_name("DIR"),
      "results folder in which to look for the run (default: results/ in the repository)");
  add("fail-unsupported", po::bool_switch(), kFailUnsupported);
  add("json", po::bool_switch(), "no progress; at the end one JSON object");
  add("help,h", po::bool_switch(), "this text");
  auto line = CommandLine::parse(arguments, options, {"one run"});
  if (!line) return usage_error("resume", line.error());
  if (line->flag("help")) {
    print_help(kResumeHelp, options);
    return kExitOk;
  }
  auto path = find_run(line->text("out", results_folder()), line->operands().empty() ? "" : line->operands()[0]);
  if (!path) return usage_error("resume", path.error());
  if (const int refused = check_run("resume", *path); refused != 0) return refused;
  auto run = RunDirectory::open(*path);
  if (!run) {
    print_err("gearbox resume: {}\n", run.error().message);
    return kExitFailed;
  }
  if (run->repaired()) print_err("The last line of cells.jsonl was cut short; that cell runs again.\n");
  auto build_id = own_build_id();
  if (!build_id) return usage_error("resume", build_id.error());
  const Json& manifest = run->manifest();
  CellLimits limits;
  std::uint64_t seed = 0;
  std::string begun_with;
  try {
    begun_with = manifest.at("build").at("build_id").get<std::string>();
    limits.timeout_s = manifest.at("limits").at("timeout_s").get<std::uint64_t>();
    limits.mem_limit_mib = manifest.at("limits").at("mem_limit_mb").get<std::uint64_t>();
    seed = manifest.at("seed").get<std::uint64_t>();
  } catch (const Json::exception& failure) {
    print_err("gearbox resume: {}/manifest.json: {}\n", *path, failure.what());
    return kExitFailed;
  }
  // What runs the rest: the build and the computer of the last part of the run, or others, which need --force.
  const Json parts = manifest.value("resumed_with", Json::array());
  std::string host = manifest["machine"].value("host", "");
  for (const auto& part : parts) {
    begun_with = part.value("build_id", begun_with);
    host = part.value("host", host);
  }
  if (begun_with != *build_id || host != run->host()) {
    if (!line->flag("force")) {
      const std::string what = begun_with != *build_id
                                   ? fmt::format("with build {}, and this is build {}", begun_with, *build_id)
                                   : fmt::format("on the computer '{}', and this is '{}'", host, run->host());
      print_err(
          "gearbox resume: {} was begun {}. Begin anew with `gearbox sweep`, check the old state out, or go on "
          "with --force\n",
          *path, what);
      return kExitFailed;
    }
    for (const Cell& cell : run->plan()) {
      if (auto fits = fits_this_build(cell); !fits) {
        print_err(
            "gearbox resume: {} cannot be gone on with by this build: {} (plan.jsonl:{}). Begin anew with `gearbox "
            "sweep`\n",
            *path, fits.error().message, cell.seq + 1);
        return kExitFailed;
      }
    }
    if (auto written = run->go_on_with(*build_id); !written) {
      print_err("gearbox resume: {}\n", written.error().message);
      return kExitFailed;
    }
  }
  return finish(std::move(*run), limits, seed, *line, "resume");
}

}  // namespace gearbox::harness
