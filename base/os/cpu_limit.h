// How many CPUs' worth of time this process may use: what the scheduling affinity allows, and what the CPU quota of its
// control group pays for.
#pragma once

#include <string>

#include "base/os/thread.h"

namespace gearbox::os {

struct CpuLimit {
  int procs = 1;           // how many Ps there are unless somebody says how many: Go's rule since 1.25
  int affinity_cpus = 1;   // CPUs the affinity allows
  double quota_cpus = 0;   // the tightest quota of the control group and those above it, in CPUs; 0: there is none
  std::string quota_file;  // where it stands

  std::string why() const;  // "2: ..." in one line: which of the limits decided
};

// procs is the affinity's number, or the quota rounded up when that is less, and the quota counts as 2 at least: with one
// P, a collection or a busy goroutine holds up everything else, which a throttled second one does not. Unlike Go's the search
// goes on to the groups above the process's own. Reads a few files; about 0.1 ms. `root` goes before each path.
CpuLimit cpu_limit(const std::string& root = "", int affinity_cpus = online_cpus());

}  // namespace gearbox::os
