// CellResult: what a cell's process says of its run, as JSON (docs/RECORDS.md, cells.jsonl: status, reason, metrics,
// hists, counters, checks, effective, guard). Made in the cell, and checked there and once more by the runner: what a
// process says is a claim, and a record that the analysis cannot read spoils a whole run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "harness/cell.h"
#include "harness/json.h"

namespace gearbox::harness {

// A cell that serves until it is told to stop: it measures nothing, so it has no headline and no time limit.
bool serves(const OptionPairs& params);

// The result of a program that came to its end. Status `check_failed`, without metrics and histograms, when a check of
// the workload failed, the workload made none, or its report cannot be believed (the two functions below).
Json measured(const RunStats& stats, const Report& report, std::string_view headline, bool serves, std::int64_t wall_ns,
              std::int64_t cpu_ns);

// The field that is not what docs/RECORDS.md says, with its value; nothing when all are. Fields that are absent are
// well-formed, except for `status`.
std::optional<std::string> why_malformed(const Json& result);

// Why the metrics of an `ok` result (well-formed) lack the headline: it is absent, not a finite number, or not above
// 0, which a ratio needs.
std::optional<std::string> why_no_headline(const Json& result, std::string_view headline);

}  // namespace gearbox::harness
