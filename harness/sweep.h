// Sweep: runs what a run directory's plan still lacks, one cell after the other, and writes each down before the next
// begins.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "harness/cell_runner.h"
#include "harness/experiment.h"
#include "harness/plan.h"
#include "harness/run_directory.h"
#include "harness/source_state.h"

namespace gearbox::harness {

struct SweepEnd {
  std::uint64_t ran = 0, ok = 0, unsupported = 0,
                failed = 0;  // over the whole run, earlier sessions included (`ran`: this session)
  bool interrupted = false;
};

// The manifest of a new run: everything but run_id. `overrides`: the options of the command line that replaced what the
// experiment's file says, {"blocks": 10, "only": "..."}.
Json make_manifest(const Experiment& experiment, const Plan& plan, const std::string& build_id,
                   const SourceState& sources, const Json& overrides);

// Runs every planned cell that has no record yet, or whose last record is `infra` (the harness's own failure, which
// says nothing about the cell). Stops between two cells after an interrupt (os::interrupts()). Error: a record could
// not be written; the run can be resumed.
Result<SweepEnd> run_plan(RunDirectory& run, const CellRunner& runner, std::uint64_t seed, bool quiet);

// SHA-256 of the file this process was started from, 16 hex digits: the one that own_cells() starts, too.
Result<std::string> own_build_id();

}  // namespace gearbox::harness
