// Cell: one workload with one combination, to be run once in a process of its own. A line of plan.jsonl, and what the
// cell process is told.
#pragma once

#include <cstdint>
#include <string>

#include "harness/choice.h"
#include "harness/json.h"

namespace gearbox::harness {

struct Cell {
  std::uint64_t seq = 0, block = 0;
  std::string id;  // 16 hex digits; the same for the same work in every block
  std::string workload;
  OptionPairs params;  // what differs from the defaults, in the order of declaration
  Combo combo = default_combo();
  std::uint64_t procs = 1;
  std::string runtime;  // text form of the runtime options, canonical
};

// The id: a hash over workload, params, combo, procs, runtime options and the build. seq and block do not enter.
std::string cell_id(const Cell& cell, const std::string& build_id);

Json plan_json(const Cell& cell);
Result<Cell> cell_from_json(const Json& json, const std::string& where);

// The cell's process: reads the spec (plan_json, optionally with "boot_trace", and with "runner", the process that must
// outlive this one), runs the program here and writes one JSON result to the file. Blocks until the workload has ended.
// Returns the process's exit code; a panic or deadlock of the workload exits by itself.
int run_cell_body(const std::string& spec_text, int result_fd);

}  // namespace gearbox::harness
