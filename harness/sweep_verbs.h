// What the verbs that run an experiment share: sweep reads it from a file, ablate, ab and aa write it themselves.
#pragma once

#include <string>

#include "harness/command_line.h"
#include "harness/experiment.h"
#include "harness/plan.h"

namespace gearbox::harness {

// --blocks, --budget, --seed, --only, --dry-run, --out, --fail-unsupported, --json, --help.
void add_sweep_options(po::options_description& options);

// Puts --blocks, --budget and --seed into the experiment and notes them in `overrides`. A number of blocks replaces a
// budget of the file, unless --budget is there as well; then it is the most that there may be.
Status apply_overrides(const CommandLine& line, Experiment& experiment, Json& overrides);

// Runs the experiment into a new run directory, then the analysis, as the options say. Returns the exit code.
int run_experiment(const std::string& verb, const CommandLine& line, Experiment experiment);

// What would run, for people.
void print_plan(const Experiment& experiment, const Plan& plan);

}  // namespace gearbox::harness
