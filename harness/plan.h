// Plan: the cells of an experiment in the order they will run. Same experiment, seed and build: the same bytes.
#pragma once

#include <string>
#include <vector>

#include "harness/experiment.h"

namespace gearbox::harness {

struct Plan {
  struct Illegal {
    Combo combo;
    std::string reason;  // the registry's sentence
  };
  std::vector<Cell> cells;       // seq is the index; each block holds every cell once, shuffled with the seed
  std::vector<Illegal> illegal;  // combinations of the levels that do not fit together; never skipped in silence
};

// `only`, when not null, keeps the cells it matches. Error: nothing is left to run.
Result<Plan> make_plan(const Experiment& experiment, const std::string& build_id, const Filter* only);

// One line of plan.jsonl per cell, each with its newline.
std::string plan_text(const Plan& plan);

}  // namespace gearbox::harness
