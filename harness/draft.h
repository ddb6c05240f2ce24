// Draft: an experiment that a command line asks for, written as an experiment file. It is read back by the reader of all
// such files, so that nothing is checked twice, and the run keeps the file: it can be changed and run again with sweep.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "harness/experiment.h"

namespace gearbox::harness {

struct Draft {
  std::string name, question, hypothesis;
  std::vector<std::pair<std::string, std::vector<std::string>>> factors;  // in the order in which they are written
  std::vector<Experiment::Work> workloads;
  std::vector<std::string> forbid;
  std::string kind, ablate;
  std::uint64_t blocks = 10, seed = 1;
  std::uint64_t timeout_s = 120, mem_limit_mib = 0;
  std::string runtime;
};

std::string draft_text(const Draft& draft);

// Every gear at the level that a list of settings gives it or at its default, procs likewise, then the other settings.
Result<std::vector<std::pair<std::string, std::vector<std::string>>>> settled(const std::vector<Setting>& settings);

// The workloads of "skynet,echo", each once, with those parameters of `set` ("leaves=100") that it has. Error: a parameter
// that none of them has.
Result<std::vector<Experiment::Work>> works_of(const std::string& names, const OptionPairs& set);

// A against B. Each side is a level of any gear ("gmp:runnext=off") or settings ("scheduler=gmp,procs=2"). Sides that are the
// same are compared under two labels. Error: a level that no gear or more than one has; a setting of one side that is
// neither a gear nor procs, since what the other side's would be is not said.
Result<Draft> draft_ab(const std::string& a, const std::string& b, std::vector<Experiment::Work> works);

// Every switch of one gear, the others as in `with`.
Result<Draft> draft_ablation(std::size_t family, const std::string& member, const std::vector<Setting>& with,
                             std::vector<Experiment::Work> works);

// The baseline of an experiment against itself, over its workloads.
Result<Draft> draft_aa(const Experiment& experiment);

}  // namespace gearbox::harness
