// RunDirectory: results/<experiment>/<run-id>/ on disk (docs/RECORDS.md). One writer at a time, kept out by a lock that
// dies with its process.
#pragma once

#include <cstdint>
#include <map>
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
  std::string status;  // of the last complete line
};

class RunDirectory {
 public:
  // Makes a new directory below `results`/<experiment>, locked, with the experiment's text, the manifest, the plan and,
  // unless it is empty, the difference of the sources to their commit in it, and points `latest` at it. manifest gets
  // its "run_id".
  static Result<RunDirectory> create(const std::string& results, const std::string& experiment,
                                     const std::string& experiment_text, Json manifest, const std::string& plan_text,
                                     const std::string& dirty_diff = "");
  // Opens and locks an existing one, cuts a half-written last line off cells.jsonl, and reads plan and records. A last
  // line that lacks nothing but its newline counts, here as in the analysis, and gets it.
  // Error: not a run directory, another runner holds it, or a file is damaged beyond its last line.
  static Result<RunDirectory> open(const std::string& path);

  const std::string& path() const { return path_; }
  const Json& manifest() const { return manifest_; }
  const std::vector<Cell>& plan() const { return plan_; }
  const std::map<std::uint64_t, SeqState>& done() const { return done_; }
  bool repaired() const { return repaired_; }  // open() cut a half-written line off

  // Writes the outcome: the blobs first when it is not ok, then the line. After an Error (a full disk) the file holds
  // whole lines only, and this attempt is not in it.
  Status append(const CellOutcome& outcome);
  // Replaces the manifest with one that has the key set.
  Status set_in_manifest(const std::string& key, Json value);

 private:
  Status read_plan();
  Status read_records();

  std::string path_;
  os::Descriptor lock_, cells_;
  Json manifest_;
  std::vector<Cell> plan_;
  std::map<std::uint64_t, SeqState> done_;
  bool repaired_ = false;
};

// A run as users name it: a path to a run directory, an experiment's name (its latest run), <experiment>/<run-id>, a
// run-id, or "" for the newest run of all. Error: says what there is.
Result<std::string> find_run(const std::string& results, const std::string& name);

}  // namespace gearbox::harness
