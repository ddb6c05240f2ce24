// Experiment: what a .toml file asks for, checked against the registry. docs/EXPERIMENTS.md is the reference of these
// files, docs/RECORDS.md has the outputs; experiments/*.toml are examples.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "harness/cell.h"
#include "harness/factor.h"
#include "harness/filter.h"

namespace gearbox::harness {

struct Experiment {
  struct Work {
    std::string name;
    OptionPairs params;  // every parameter with its value, defaults included; a factor's at the default
  };
  std::string name, question, hypothesis;
  std::vector<Factor> factors;  // the four gears, procs, then the others in the order of the file
  std::vector<Work> workloads;
  std::vector<Filter> forbid;
  std::string kind = "factorial";              // one of design_kinds()
  std::uint64_t fraction = 2;                  // of kind fractional
  std::uint64_t blocks = 3, seed = 1;          // blocks: at most, with a budget
  std::optional<std::uint64_t> baseline_runs;  // nothing: the rule
  std::optional<std::uint64_t> budget_s;
  std::uint64_t timeout_s = 120, mem_limit_mib = 0;
  std::string runtime;
  double alpha = 0.05, rope_pct = 1.0;  // for the analysis, which reads them from the file: here they are only checked
  std::string text;                     // the file as given

  // REQUIRES: there is a factor of that name, as there is for each gear and procs.
  const Factor& factor(std::string_view name) const;
  Factor& factor(std::string_view name);
};

inline constexpr std::uint64_t kBudgetBlocks = 100;   // at most, unless a file or --blocks says otherwise
inline constexpr std::uint64_t kBudgetMinBlocks = 3;  // fewer give no verdict

// Reads and checks a file. Every Error begins with file:line and names the key, the value, what is allowed and the
// nearest match.
Result<Experiment> load_experiment(const std::string& path);
// The same from memory; `path` is used in errors only.
Result<Experiment> parse_experiment(const std::string& text, const std::string& path);

// Moves baselines to what a text such as "scheduler=gmp:runnext=off,steal=one,procs=2" says. A gear's bare name may stand
// for the one level that has it. Error: a level that the experiment does not have.
Status set_baseline(Experiment& experiment, std::string_view text);

// "quickstart" -> <root>/experiments/quickstart.toml; a path to a file stays. Error: neither exists; names what does.
Result<std::string> find_experiment(const std::string& root, const std::string& name_or_path);
// Names in <root>/experiments, sorted.
std::vector<std::string> experiment_names(const std::string& root);

}  // namespace gearbox::harness
