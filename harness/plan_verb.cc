// plan: what an experiment would run, how long it would take, what it could find, and what smaller designs would cost.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "harness/budget.h"
#include "harness/design.h"
#include "harness/forecast.h"
#include "harness/progress.h"
#include "harness/sweep.h"
#include "harness/sweep_verbs.h"

namespace gearbox::harness {
namespace {

constexpr const char* kPlanHelp = R"(gearbox plan <experiment> [options]

What an experiment would run, without running anything: cells and blocks; the time, from records of the same cells in the results folder; the power,
which is the smallest effect that this design finds four times out of five, from the noise of those records or for a quiet, a usual and
a noisy workload; and what smaller designs of the same factors would cost. The same records, the same answer.

  gearbox plan quickstart
  gearbox plan quickstart --blocks 10
  gearbox plan quickstart --json

)";

constexpr double kTypicalNoise[] = {.05, .15, .40};  // residual sds of logs: a quiet workload, a usual one, a noisy one

std::vector<Cell> first_block(const Plan& plan) {
  return {plan.cells.begin(), plan.cells.begin() + static_cast<std::ptrdiff_t>(plan.per_block)};
}

// How many blocks are run: as planned, or with a budget as many as the known cost of one allows; nothing when that is not
// known.
std::optional<std::uint64_t> blocks_of(const Experiment& experiment, const std::optional<History::Time>& time) {
  if (!experiment.budget_s) return experiment.blocks;
  if (!time) return std::nullopt;
  return blocks_within(*experiment.budget_s, time->block_s, experiment.blocks);
}

Json design_json(const Experiment& experiment, const Plan& plan, const History& history) {
  const auto time = history.block_time(first_block(plan));
  const auto blocks = blocks_of(experiment, time);
  std::uint64_t treatments = 0, resolution = 0;
  for (const auto& family : plan.families) {
    treatments += family.treatments;
    if (family.resolution > 0)
      resolution = resolution == 0 ? family.resolution : std::min(resolution, family.resolution);
  }
  Json out = {{"kind", experiment.kind},
              {"treatments", treatments},
              {"cells_in_a_block", plan.per_block},
              {"blocks", blocks ? Json(*blocks) : Json(nullptr)},
              {"cells", blocks ? Json(*blocks * plan.per_block) : Json(nullptr)},
              {"block_s", time ? Json(time->block_s) : Json(nullptr)},
              {"total_s", time && blocks ? Json(time->block_s * static_cast<double>(*blocks)) : Json(nullptr)}};
  if (resolution > 0) out["resolution"] = resolution;
  return out;
}

Json power_json(const Experiment& experiment, const Plan& plan, const History& history) {
  const auto blocks = blocks_of(experiment, history.block_time(first_block(plan)));
  Json out = Json::array();
  for (const auto& family : plan.families) {
    if (family.treatments < 2) continue;
    Json one = {{"work", family.work}, {"treatments", family.treatments}, {"baseline_runs", family.baseline_runs}};
    const auto noise = history.noise(family.workload);
    one["noise_sd"] = noise ? Json(noise->sd) : Json(nullptr);
    one["noise_degrees"] = noise ? noise->degrees : 0;
    const auto m = blocks ? detectable_log(*blocks, family.baseline_runs) : std::nullopt;
    Json found = Json::array();
    for (const double sd : noise ? std::vector<double>{noise->sd}
                                 : std::vector<double>(std::begin(kTypicalNoise), std::end(kTypicalNoise)))
      found.push_back({{"sd", sd}, {"factor", m ? Json(std::exp(*m * sd)) : Json(nullptr)}});
    one["smallest_effect"] = found;
    out.push_back(std::move(one));
  }
  return out;
}

// The designs of the same factors with fewer cells. A fraction that cannot be made is left out.
Json smaller_designs(const Experiment& experiment, const Plan& plan, const History& history, const Filter* only) {
  Json out = Json::array();
  if (experiment.kind == "ablation" || experiment.kind == "ab") return out;
  for (const auto& [kind, fraction] :
       {std::pair<const char*, std::uint64_t>{"fractional", 2}, {"fractional", 4}, {"pairwise", 2}, {"ofat", 2}}) {
    Experiment other = experiment;
    other.kind = kind;
    other.fraction = fraction;
    auto smaller = make_plan(other, "", only);
    if (!smaller || smaller->per_block >= plan.per_block) continue;
    Json json = design_json(other, *smaller, history);
    if (other.kind == "fractional") json["fraction"] = fraction;
    out.push_back(std::move(json));
  }
  return out;
}

Json facts_of(const Experiment& experiment, const Plan& plan, const History& history, const Filter* only) {
  Json factors = Json::object(), illegal = Json::array();
  for (const auto& factor : experiment.factors)
    factors[factor.name] = {{"levels", factor.levels}, {"baseline", factor.baseline_level()}};
  for (const auto& one : plan.illegal) illegal.push_back({{"combo", one.combo}, {"reason", one.reason}});
  const auto time = history.block_time(first_block(plan));
  Json known = {{"runs", history.runs()},
                {"newest", history.newest().empty() ? Json(nullptr) : Json(history.newest())},
                {"cells_with_a_time", time ? time->known : 0},
                {"different_cells", time ? time->cells : [&] {
                   std::set<std::string> ids;
                   for (const auto& cell : first_block(plan)) ids.insert(cell.id);
                   return ids.size();
                 }()}};
  return {{"experiment", experiment.name},
          {"question", experiment.question},
          {"hypothesis", experiment.hypothesis},
          {"seed", experiment.seed},
          {"budget_s", experiment.budget_s ? Json(*experiment.budget_s) : Json(nullptr)},
          {"most_blocks", experiment.blocks},
          {"factors", factors},
          {"design", design_json(experiment, plan, history)},
          {"earlier_records", known},
          {"power", power_json(experiment, plan, history)},
          {"smaller_designs", smaller_designs(experiment, plan, history, only)},
          {"illegal", illegal},
          {"remarks", plan.remarks}};
}

std::string seconds_text(const Json& seconds) {
  if (!seconds.is_number()) return "time not known";
  const double s = seconds.get<double>();
  return s < 10 ? fmt::format("{:.1f} s", s) : duration_text(s);
}

// What a family can find -> the work items of which that is true: where no noise is known many share one line.
std::vector<std::pair<std::string, std::vector<std::string>>> power_lines(const Json& power) {
  std::vector<std::pair<std::string, std::vector<std::string>>> lines;
  for (const auto& family : power) {
    std::string text;
    for (const auto& one : family["smallest_effect"])
      text += fmt::format("{}x/÷{:.2f} at noise {:.2f}", text.empty() ? "" : ", ", one["factor"].get<double>(),
                          one["sd"].get<double>());
    if (family["noise_sd"].is_null()) text += " (no noise known)";
    text += fmt::format(
        "; {} treatments, the baseline {} a block", family["treatments"].get<std::uint64_t>(),
        family["baseline_runs"] == 1 ? "once" : fmt::format("{} times", family["baseline_runs"].get<std::uint64_t>()));
    const auto same = std::find_if(lines.begin(), lines.end(), [&](const auto& line) { return line.first == text; });
    if (same == lines.end()) {
      lines.push_back({text, {family["work"].get<std::string>()}});
    } else {
      same->second.push_back(family["work"].get<std::string>());
    }
  }
  return lines;
}

void print_facts(const Json& facts, const std::string& file) {
  const Json &design = facts["design"], &known = facts["earlier_records"];
  const Json& blocks = design["blocks"];
  if (design.contains("resolution"))
    print_out("  resolution  {}\n", resolution_text(design["resolution"].get<std::uint64_t>()));
  if (design["block_s"].is_null()) {
    print_out(
        "time          not known: no record of these cells by this preset in the results folder. One block tells: "
        "gearbox sweep {} --blocks 1\n",
        file);
  } else {
    print_out("time          {}: {} blocks of {}\n", seconds_text(design["total_s"]), blocks.get<std::uint64_t>(),
              seconds_text(design["block_s"]));
    print_out("              from {} of {} cells in {} earlier run{}, the newest {}\n",
              known["cells_with_a_time"].get<std::uint64_t>(), known["different_cells"].get<std::uint64_t>(),
              known["runs"].get<std::uint64_t>(), known["runs"] == 1 ? "" : "s", known["newest"].get<std::string>());
  }
  if (blocks.is_null())
    print_out("power         not known: the budget fixes the blocks after the first one\n");
  else if (blocks.get<std::uint64_t>() < kBudgetMinBlocks)
    print_out("power         none: fewer than {} blocks give no verdict\n", kBudgetMinBlocks);
  else if (facts["power"].empty())
    print_out("power         nothing is compared: every factor has one level\n");
  else
    print_out(
        "power         the smallest effect that {} blocks find in 4 runs of 5, as a factor (families of 16; in smaller "
        "ones less)\n",
        blocks.get<std::uint64_t>());
  if (!blocks.is_null() && blocks.get<std::uint64_t>() >= kBudgetMinBlocks)
    for (const auto& [text, works] : power_lines(facts["power"])) print_out("  {}: {}\n", text, fmt::join(works, ", "));
  for (const auto& other : facts["smaller_designs"])
    print_out("smaller       {:<22} {} cells a block, {}{}\n",
              other.contains("fraction")
                  ? fmt::format("fractional, fraction={}", other["fraction"].get<std::uint64_t>())
                  : other["kind"].get<std::string>(),
              other["cells_in_a_block"].get<std::uint64_t>(),
              other["total_s"].is_number() ? seconds_text(other["total_s"]) : seconds_text(other["block_s"]),
              other.contains("resolution")
                  ? fmt::format("; resolution {}", resolution_text(other["resolution"].get<std::uint64_t>()))
                  : "");
}

}  // namespace

int plan_verb(const Arguments& arguments) {
  po::options_description options("Options");
  auto add = options.add_options();
  for (const char* name : {"blocks", "budget", "seed"})
    add(name, po::value<std::string>()->value_name("N"), "as for gearbox sweep");
  add("only", po::value<std::string>()->value_name("FILTER"), "as for gearbox sweep");
  add("out", po::value<std::string>()->value_name("DIR"),
      "results folder in which to look for earlier records (default: results/ in the repository)");
  add("json", po::bool_switch(), "one JSON object; the planned cells themselves are in sweep --dry-run --json");
  add("help,h", po::bool_switch(), "this text");
  auto line = CommandLine::parse(arguments, options, {"one experiment"});
  if (!line) return usage_error("plan", line.error());
  if (line->flag("help")) {
    print_help(kPlanHelp, options);
    return kExitOk;
  }
  if (line->operands().empty()) return usage_error("plan", {"which experiment? See: gearbox list experiments"});
  auto path = find_experiment(root_folder(), line->operands()[0]);
  if (!path) return usage_error("plan", path.error());
  auto experiment = load_experiment(*path);
  if (!experiment) return usage_error("plan", experiment.error());
  Json overrides = Json::object();
  if (auto applied = apply_overrides(*line, *experiment, overrides); !applied)
    return usage_error("plan", applied.error());
  std::optional<Filter> only;
  if (line->has("only")) {
    auto parsed = Filter::parse(line->text("only"), "--only");
    if (!parsed) return usage_error("plan", parsed.error());
    only = *parsed;
  }
  auto build_id = own_build_id();
  if (!build_id) return usage_error("plan", build_id.error());
  auto plan = make_plan(*experiment, *build_id, only ? &*only : nullptr);
  if (!plan) return usage_error("plan", plan.error());
  const History history = History::read(line->text("out", results_folder()), first_block(*plan));
  const Json facts = facts_of(*experiment, *plan, history, only ? &*only : nullptr);
  if (line->flag("json")) {
    print_out("{}\n", to_line(facts));
  } else {
    print_plan(*experiment, *plan);
    print_facts(facts, line->operands()[0]);
  }
  return kExitOk;
}

}  // namespace gearbox::harness
