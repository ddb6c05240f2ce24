// RunDirectory: results/<experiment>/<run-id>/ on disk (docs/RECORDS.md). One writer at a time, kept out by a lock that
// dies with its process.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/os/disk.h"
#include "base/result.h"
#include "harness/cell_runner.h"
#include "harness/json.h"

namespace gearbox::harness {

// What cells.jsonl holds for one seq.
struct SeqState {
  std::uint64_t attempts = 0;
  std::string status;           // of the last complete line, as the times are
  std::int64_t started_ms = 0;  // since the epoch
  std::int64_t wall_ns = 0;
};

class RunDirectory {
 public:
  // Makes a new directory below `results`/<experiment>, locked, with the experiment's text, the manifest, the plan and,
  // unless it is empty, the difference of the sources to their commit in it, and points `latest` at it. manifest gets
  // its "schema", "run_id", what identifies plan and experiment file, and a checksum of itself.
  static Result<RunDirectory> create(const std::string& results, const std::string& experiment,
                                     const std::string& experiment_text, Json manifest, const std::string& plan_text,
                                     const std::string& dirty_diff = "");
  // Opens and locks an existing one, cuts a half-written last line off cells.jsonl, and reads plan and records. A last
  // line that lacks nothing but its newline counts, here as in the analysis, and gets it.
  // The rules that a run directory must keep are harness/analysis/check.py's, for all verbs; a caller that goes on with
  // a run asks it first (check_run). What is refused here is only what cannot be read at all.
  // Error: not a run directory, another runner holds it, or a file is damaged beyond its last line.
  static Result<RunDirectory> open(const std::string& path);

  const std::string& path() const { return path_; }
  const Json& manifest() const { return manifest_; }
  const std::vector<Cell>& plan() const { return plan_; }  // what is part of the run
  const std::map<std::uint64_t, SeqState>& done() const { return done_; }
  const std::string& host() const { return host_; }  // this computer's name
  bool repaired() const { return repaired_; }        // open() cut a half-written line off

  std::uint64_t records() const { return records_; }  // lines of cells.jsonl, repeated attempts included

  // Writes the outcome: the blobs first when it is not ok, then the line, with the run's id and this computer's name.
  // An "ok" that lacks what every ok record must have becomes check_failed: one record that cannot be read would take
  // the whole run with it. After an Error (a full disk) the file holds whole lines only, and this attempt is not in it.
  Status append(const CellOutcome& outcome);
  // Says in the manifest how many records there are, and their hash, so that a line that is lost later is missed; with
  // `ended` also that nothing is left to run. To be called whenever a runner stops in an orderly way.
  Status mark(bool ended);
  // From here on cells are run by another build or on another computer than those before: written into the manifest,
  // and each record carries its own.
  Status go_on_with(const std::string& build_id);
  // Error: another program has removed, replaced or changed cells.jsonl since it was opened.
  Status records_in_place() const;
  // What decides how many blocks are run: nothing when the number is fixed, by the plan or by fix_blocks().
  std::optional<std::uint64_t> open_budget_s() const;
  // From here on the run has as many blocks as the budget pays for (blocks_within), said in the manifest; later blocks of
  // plan.jsonl are no part of the run, and plan() does not have them. REQUIRES: block 0 is done; the budget is open.
  Status fix_blocks();
  // Replaces the manifest with one that has the key set.
  Status set_in_manifest(const std::string& key, Json value);

 private:
  void note(std::uint64_t seq, const Json& record);
  void drop_blocks_from(std::uint64_t blocks);
  Status read_plan();
  Status read_records();
  Status write_manifest();

  std::string path_, host_;
  os::Descriptor lock_, cells_;
  std::uint64_t bytes_ = 0;  // of cells.jsonl
  Json manifest_;
  std::vector<Cell> plan_;
  std::map<std::uint64_t, SeqState> done_;
  std::uint64_t records_ = 0;
  bool repaired_ = false;
};

// A run as users name it: a path to a run directory, an experiment's name (its latest run), <experiment>/<run-id>, a
// run-id, or "" for the newest run of all. Error: says what there is.
Result<std::string> find_run(const std::string& results, const std::string& name);

}  // namespace gearbox::harness
