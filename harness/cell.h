// Cell: one workload with one combination, to be run once in a process of its own. A line of plan.jsonl, and what the
// cell process is told.
#pragma once

#include <cstdint>
#include <string>

#include "harness/choice.h"
#include "harness/json.h"

namespace gearbox::harness {

// The format of manifest.json, plan.jsonl and cells.jsonl (docs/RECORDS.md) that is written. The one before it, which has
// no replicates and no levels, is still read, and a run that was begun in it is ended in it.
inline constexpr int kRecordSchema = 3, kOldRecordSchema = 2;

struct Cell {
  std::uint64_t seq = 0, block = 0;
  std::uint64_t replicate = 0;  // which of the runs of the same cell and label in the same block
  std::string id;               // 16 hex digits; the same for the same work in every block
  std::string workload;
  // Every option with its effective value, defaults included, in the order of declaration (make_effective). One that is
  // left out because it equals its default does not say which value was used: two sets of parameters, or the same one
  // under a default that another build changed, would pass for one cell.
  OptionPairs params;
  std::array<OptionPairs, 4> gear_options;
  OptionPairs runtime_options;
  Combo combo = default_combo();  // names of levels, for people: canonical texts, what equals a default left out
  std::uint64_t procs = 1;
  std::string runtime;  // text form of the runtime options, canonical in the same way
  std::string build;    // id of the build that the plan was made with
  OptionPairs levels;  // factor -> level of the experiment's factors that say something to this cell (harness/factor.h)
};

// Fills in the effective options: what workload, params (any of them), combo and runtime mean in this build. Options that
// the cell has already stay as they are. Error: this build does not know one of them.
Status make_effective(Cell& cell);

// What a cell asks for, as objects that can be run: every option set as the cell has it.
struct CellSetup {
  WorkloadEntry workload;
  std::unique_ptr<OptionSet> params;
  GearSet gears;
  RuntimeOptions runtime;  // with procs
};
Result<CellSetup> set_up(const Cell& cell);

// Error when this build would give a planned cell other options than the plan says: it has one that the plan does not
// name, or lacks one. Defaults that differ do no harm, since a plan names every value.
Status fits_this_build(const Cell& cell);

// The id: a hash over workload, procs, build, the gears and every effective option. seq, block, replicate and levels do not
// enter.
std::string cell_id(const Cell& cell, const std::string& build_id);

// {"scheduler": {"runnext": "on"}, ..., "runtime": {...}, "params": {...}}: as in plan.jsonl and in records.
Json effective_json(const Cell& cell);

Json plan_json(const Cell& cell);
Result<Cell> cell_from_json(const Json& json, const std::string& where);

// The cell's process: reads the spec (plan_json, optionally with "boot_trace", and with "runner", the process that must
// outlive this one), runs the program here and writes one JSON result to the file. Blocks until the workload has ended.
// Returns the process's exit code; a panic or deadlock of the workload exits by itself.
int run_cell_body(const std::string& spec_text, int result_fd);

}  // namespace gearbox::harness
