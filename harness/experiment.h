// Experiment: what a .toml file asks for, checked against the registry. docs/RECORDS.md has the outputs;
// experiments/*.toml are examples.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "harness/cell.h"
#include "harness/filter.h"

namespace gearbox::harness {

struct Experiment {
  struct Work {
    std::string name;
    OptionPairs params;  // every parameter with its value, defaults included
  };
  std::string name, question, hypothesis;
  std::array<std::vector<std::string>, 4> levels;  // per family, canonical texts; the first is the baseline's
  std::vector<std::uint64_t> procs;
  std::vector<Work> workloads;
  std::vector<Filter> forbid;
  std::string kind = "factorial";  // every combination; "ofat": the baseline, and from it one factor at a time
  std::uint64_t blocks = 3, seed = 1;
  std::uint64_t timeout_s = 120, mem_limit_mib = 0;
  std::string runtime;
  Combo baseline;
  double alpha = 0.05, rope_pct = 1.0;  // for the analysis, which reads them from the file: here they are only checked
  std::string text;                     // the file as given
};

// Reads and checks a file. Every Error begins with file:line and names the key, the value, what is allowed and the
// nearest match.
Result<Experiment> load_experiment(const std::string& path);
// The same from memory; `path` is used in errors only.
Result<Experiment> parse_experiment(const std::string& text, const std::string& path);

// "quickstart" -> <root>/experiments/quickstart.toml; a path to a file stays. Error: neither exists; names what does.
Result<std::string> find_experiment(const std::string& root, const std::string& name_or_path);
// Names in <root>/experiments, sorted.
std::vector<std::string> experiment_names(const std::string& root);

}  // namespace gearbox::harness
