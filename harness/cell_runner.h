// CellRunner: runs a cell in a process of its own and turns whatever happens to it into one record (docs/RECORDS.md,
// cells.jsonl). One cell at a time; the calling thread waits. A crash, a hang, a flood of output or a full memory ends
// the cell, never the runner.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "harness/cell.h"

namespace gearbox::harness {

struct CellLimits {
  std::uint64_t timeout_s = 120;        // 0: none
  std::uint64_t mem_limit_mib = 0;      // resident memory of the cell's process; 0: none
  std::uint64_t output_limit_mib = 64;  // what it may print and leave as its result
};

struct CellOutcome {
  Json record;                 // complete, one line of cells.jsonl
  std::string output, errors;  // what it printed (the last 64 KiB); empty when passed through
  bool interrupted = false;    // ended because the user asked: not a measurement, not to be recorded
};

class CellRunner {
 public:
  // command: the program and leading arguments of a cell process (own_cells(); tests give a script). The process gets
  // the spec on standard input and writes its result to descriptor 3. program: the file to start, when it is not the one
  // at command[0].
  explicit CellRunner(std::vector<std::string> command, std::string program = "")
      : command_(std::move(command)), program_(std::move(program)) {}

  CellLimits limits;
  bool pass_through = false;  // the cell prints to our own output, runs in our folder, and gets our interrupts (`run`)
  bool output_to_errors = false;  // with pass_through: what the cell prints goes to our standard error
  bool boot_trace = false;

  // seed decides the padding of the environment: one layout of the stack is one sample, so each attempt gets another.
  CellOutcome run(const Cell& cell, std::uint64_t attempt, std::uint64_t seed) const;

 private:
  std::vector<std::string> command_;
  std::string program_;
};

// Cells of this very program: of the file that this process was started from and that build ids are made of. A build
// that ends in the middle of a sweep puts another file at the same path; its cells would carry this build's label.
CellRunner own_cells();

std::string iso_time(std::int64_t wall_ns, bool milliseconds);  // "2026-11-23T22:15:31.123Z"

}  // namespace gearbox::harness
