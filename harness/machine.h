// Machine: what this computer is and how quiet it is, for manifests and `doctor`. Reads /proc and /sys; any thread;
// about 10 ms, plus the time over which busy processes are watched.
#pragma once

#include <string>
#include <vector>

#include "harness/json.h"

namespace gearbox::harness {

struct Machine {
  struct Busy {
    int process;
    std::string name;
    double cpu_pct;  // of one CPU, while watched
  };
  std::string host, cpu, kernel, os, virtualization, thp;
  std::string governor;  // empty: not to be seen, as in most virtual machines
  std::uint64_t cores = 0, memory_bytes = 0, max_map_count = 0;
  double quota_cpus = 0;      // 0: no control group limits the CPU time
  std::string default_procs;  // how many Ps, and which limit decided
  int aslr = -1, overcommit = -1;
  double load[3] = {0, 0, 0};
  double idle_pct = 0, steal_pct = 0;  // of all CPUs, while watched
  std::string io_uring;                // "available", or what the kernel says
  std::string guard;                   // "install" or "mprotect"
  std::vector<Busy> busy;              // other processes that used more than 5 % of a CPU while watched
  std::string verdict;                 // green, amber or red
  std::vector<std::string> reasons;
};

// Fills in verdict and reasons from the rest.
void judge(Machine& machine);
// Watches other processes for watch_ns before it judges.
Machine look_at_machine(std::int64_t watch_ns);
Json machine_json(const Machine& machine);  // the manifest's "machine"

}  // namespace gearbox::harness
