// Plan: the cells of an experiment in the order they will run. Same experiment, seed and build: the same bytes.
#pragma once

#include <string>
#include <vector>

#include "harness/experiment.h"

namespace gearbox::harness {

inline constexpr std::uint64_t kMaxPlannedCells = 200'000;

struct Plan {
  struct Illegal {
    Combo combo;
    std::string reason;  // the registry's sentence
  };
  // seq is the index; each block holds every cell once, and the baseline's as often as the design says, shuffled with the
  // seed. Within a block, a cell and a label are told apart by their replicate.
  std::vector<Cell> cells;
  std::vector<Illegal> illegal;      // combinations of the levels that do not fit together; never skipped in silence
  std::vector<std::string> remarks;  // what else a reader of the plan should know, each a sentence

  // Of one work item: a workload with everything that is no factor.
  struct Family {
    std::string work;              // its name, with its parameters where the experiment has the workload twice
    std::string workload;          // its name alone
    std::uint64_t treatments = 0;  // that are run
    std::uint64_t baseline_runs = 1;
    bool has_baseline = true;      // it was not forbidden or filtered out
    std::uint64_t resolution = 0;  // of a fraction
  };
  std::vector<Family> families;

  std::uint64_t per_block = 0;  // cells, replicates included
};

// `only`, when not null, keeps the cells it matches. Error: nothing is left to run, or the design cannot be made.
Result<Plan> make_plan(const Experiment& experiment, const std::string& build_id, const Filter* only);

// How often the baseline runs in each block by the rule, for a family of this many treatments (itself included).
std::uint64_t baseline_runs_of(std::uint64_t treatments);

// One line of plan.jsonl per cell, each with its newline.
std::string plan_text(const Plan& plan);

}  // namespace gearbox::harness
