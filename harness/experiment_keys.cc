#include "harness/experiment_keys.h"

#include <fmt/format.h>

#include "base/check.h"
#include "harness/design.h"

namespace gearbox::harness {
namespace {

using Type = ExperimentKey::Type;

ExperimentKey text_key(std::string_view section, std::string_view name, bool mandatory, std::string_view fallback,
                       std::string_view allowed, std::string_view text) {
  return {section, name, Type::kText, mandatory, fallback, {}, 0, 0, allowed, text};
}
ExperimentKey integer_key(std::string_view section, std::string_view name, std::string_view fallback, Range range,
                          std::string_view text, bool mandatory = false) {
  return {section, name, Type::kInteger, mandatory, fallback, range, 0, 0, "", text};
}
ExperimentKey number_key(std::string_view section, std::string_view name, std::string_view fallback, double low,
                         double high, std::string_view text) {
  return {section, name, Type::kNumber, false, fallback, {}, low, high, "", text};
}
ExperimentKey key(std::string_view section, std::string_view name, Type type, std::string_view fallback,
                  std::string_view allowed, std::string_view text) {
  return {section, name, type, false, fallback, {}, 0, 0, allowed, text};
}

std::string_view type_name(Type type) {
  switch (type) {
    case Type::kText:
      return "text";
    case Type::kInteger:
      return "whole number";
    case Type::kNumber:
      return "number";
    case Type::kLevels:
      return "list of levels";
    case Type::kTexts:
      return "list of texts";
    case Type::kTable:
      return "table";
  }
  GEARBOX_PANIC("no such type");
}

// A cell of a Markdown table: a bar would end it.
std::string in_table(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.replace(at, 1, "\\|");
  return text;
}

std::string allowed_of(const ExperimentKey& one) {
  if (one.type == Type::kInteger) return fmt::format("{} to {}", one.range.low, one.range.high);
  if (one.type == Type::kNumber) return fmt::format("{} to {}", one.low, one.high);
  if (one.name == "kind") {
    std::vector<std::string> names;
    for (const auto& kind : design_kinds()) names.push_back(fmt::format("`{}`", kind.name));
    return fmt::format("{}", fmt::join(names, ", "));
  }
  return std::string(one.allowed);
}

}  // namespace

const std::vector<ExperimentSection>& experiment_sections() {
  static const std::vector<ExperimentSection> sections = {
      {"", true, "Above all sections."},
      {"experiment", true, "What is asked, before anything is run. It heads the report."},
      {"factors", false,
       "What is varied. The first level of each factor is the baseline unless `[analysis] baseline` says otherwise. A "
       "factor with one level sets it for all cells. A name with a dot stands in quotes."},
      {"workload", true, "`[[workload]]`, once for each program, or for each set of parameters of one."},
      {"constraints", false, "Which cells are left out."},
      {"design", false, "Which combinations of levels are run, how often, and in which order."},
      {"run", false, "What holds for every cell."},
      {"analysis", false, "How the answer is read from the records."}};
  return sections;
}

const std::vector<ExperimentKey>& experiment_keys() {
  static const std::vector<ExperimentKey> keys = {
      integer_key("", "schema", "", {1, 1}, "The format of the file.", true),
      text_key("experiment", "name", true, "", "letters, digits, `-` and `_`", "Names the folder in results/."),
      text_key("experiment", "question", true, "", "a sentence", "What the run is to answer."),
      text_key("experiment", "hypothesis", true, "", "a sentence", "What is expected, said before the run."),
      key("factors", "scheduler", Type::kLevels, "[\"gmp\"]", "members, as `\"gmp\"` or `\"gmp:runnext=off\"`",
          "The scheduler."),
      key("factors", "allocator", Type::kLevels, "[\"size_class\"]", "members", "The allocator."),
      key("factors", "collector", Type::kLevels, "[\"concurrent\"]", "members", "The collector."),
      key("factors", "poller", Type::kLevels, "[\"epoll\"]", "members", "The poller."),
      key("factors", "procs", Type::kLevels, "one P for each CPU", "whole numbers, 1 to 256", "How many Ps."),
      key("factors", "\"param.NAME\"", Type::kLevels, "no factor", "values of the parameter",
          "A parameter, of each workload that has it; at least one must. It is then no key of that workload's "
          "`params`."),
      key("factors", "\"runtime.OPTION\"", Type::kLevels, "no factor", "values of the option",
          "An option of the fixed part, which `[run] runtime` must not set as well."),
      key("factors", "\"GEAR.OPTION\"", Type::kLevels, "no factor", "values of the option",
          "An option of a gear, as `\"scheduler.runnext\"` or `\"collector.gogc\"`, for each level of the gear that "
          "has it; no level's own text "
          "may set it as well."),
      key("factors", "label", Type::kLevels, "no factor", "words",
          "Nothing but a name: `[\"A\", \"B\"]` runs every cell under both labels, to see what noise alone looks "
          "like."),
      text_key("workload", "name", true, "", "a workload", "Which program."),
      key("workload", "params", Type::kTable, "the workload's defaults", "parameters and values",
          "Its parameters: `{ depth = 14 }`."),
      key("constraints", "forbid", Type::kTexts, "nothing", "filters",
          "Cells that match one of the filters are not run, as `\"collector=none & param.depth >= 16\"`. A filter that "
          "matches no cell is an error."),
      text_key("design", "kind", false, "factorial", "", "Which treatments are run (see below)."),
      text_key("design", "ablate", false, "", "scheduler, allocator, collector or poller",
               "The gear whose switches an `ablation` turns, one after the other. It has one level in `[factors]`."),
      integer_key("design", "fraction", "2", {2, 65536},
                  "Of `fractional`: 2 runs half of all combinations, 4 a quarter, and so on in powers of 2."),
      integer_key("design", "blocks", "3; 100 with a budget", {1, 1000},
                  "How many blocks are run; with a budget, at most how many. A block holds each cell once, and the "
                  "baseline as often as "
                  "`baseline_runs` says, in an order of its own."),
      integer_key("design", "baseline_runs", "1; from 6 treatments on min(3, round(sqrt(treatments - 1)))", {1, 100},
                  "How often the baseline of each workload runs in a block."),
      integer_key(
          "design", "budget_s", "none", {1, 604'800},
          "Seconds for the whole run. The cost of the first block fixes the number of blocks, at least 3, before "
          "any result is looked at."),
      integer_key("design", "seed", "1", {0, INT64_MAX}, "Seed of the order inside the blocks."),
      integer_key("run", "timeout_s", "120", {1, 86'400}, "Seconds after which a cell is ended."),
      integer_key("run", "mem_limit_mb", "0", {0, 1 << 30},
                  "MiB of resident memory at which a cell is ended; 0: none."),
      text_key("run", "runtime", false, "", "`option=value,...`", "Options of the fixed part for all cells."),
      text_key("analysis", "baseline", false, "the first level of each factor", "`factor=level,...`",
               "The treatment that all others are compared with, as `\"scheduler=gmp,collector=stw,procs=2\"`; what it "
               "does not name is at its first level."),
      number_key("analysis", "alpha", "0.05", 0.0001, 0.5, "The risk of a false call in a family of comparisons."),
      number_key("analysis", "rope_pct", "1", 0, 50, "Differences up to this many per cent count as none.")};
  return keys;
}

const ExperimentKey& experiment_key(std::string_view section, std::string_view name) {
  for (const auto& one : experiment_keys())
    if (one.section == section && one.name == name) return one;
  GEARBOX_PANIC("there is no key '{}' in [{}]", name, section);
}

std::vector<std::string> key_names(std::string_view section) {
  std::vector<std::string> names;
  for (const auto& one : experiment_keys())
    if (one.section == section) names.emplace_back(one.name);
  return names;
}

std::string experiment_reference() {
  std::string page =
      "# Experiment files\n\nGenerated by `./gearbox experiment-reference > docs/EXPERIMENTS.md` from the table that "
      "the "
      "reader of these files works with; a test holds the two together.\n\nAn experiment is a TOML file: "
      "`experiments/*.toml` are examples, and `./gearbox plan quickstart` says what one of them would run. Whatever is "
      "wrong in "
      "it, "
      "a name, a value, a key that does not exist, is an error with file and line before anything starts.\n\n";
  for (const auto& section : experiment_sections()) {
    const std::string name = section.name.empty()         ? "The top of the file"
                             : section.name == "workload" ? "`[[workload]]`"
                                                          : fmt::format("`[{}]`", section.name);
    page +=
        fmt::format("## {}\n\n{}{}\n\n| key | type | without it | allowed | meaning |\n|---|---|---|---|---|\n", name,
                    section.text, section.mandatory || section.name.empty() ? "" : " The section may be left out.");
    for (const auto& one : experiment_keys()) {
      if (one.section != section.name) continue;
      const std::string fallback = one.mandatory          ? "an error"
                                   : one.fallback.empty() ? "none"
                                                          : std::string(one.fallback);
      page += fmt::format("| `{}` | {} | {} | {} | {} |\n", one.name, type_name(one.type), in_table(fallback),
                          in_table(allowed_of(one)), in_table(std::string(one.text)));
    }
    page += "\n";
  }
  page += "## Kinds of design\n\n| kind | what it runs |\n|---|---|\n";
  for (const auto& kind : design_kinds()) page += fmt::format("| `{}` | {} |\n", kind.name, kind.text);
  page +=
      "\n## Filters\n\nA filter is a list of terms joined by `&`: `workload=sieve & scheduler=gmp & procs > 1`. A term "
      "is a key, "
      "one of `=`, `!=`, `<`, `<=`, `>`, `>=`, and a value. A key is `workload` or any factor's name, also of what "
      "this experiment does not vary. `<` and its "
      "like compare whole numbers. A gear's value is its name, which then matches whatever its options are, or its "
      "whole text. A term matches no cell to "
      "which its key says nothing. `--only` takes the same filters.\n";
  return page;
}

}  // namespace gearbox::harness
