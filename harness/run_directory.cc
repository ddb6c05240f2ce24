#include "harness/run_directory.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/nearest.h"
#include "base/os/clock.h"
#include "base/os/file.h"
#include "base/os/thread.h"
#include "base/random.h"
#include "harness/budget.h"
#include "harness/sha256.h"

namespace gearbox::harness {
namespace {

namespace fs = std::filesystem;

std::string new_run_id(std::uint64_t salt) {
  const std::int64_t now = os::wall_ns();
  const std::time_t seconds = now / 1'000'000'000;
  std::uint64_t state = static_cast<std::uint64_t>(now) + salt * 7919 + static_cast<std::uint64_t>(os::process_id());
  return fmt::format("{:%Y%m%d-%H%M%S}-{:04x}", fmt::gmtime(seconds), splitmix64(state) & 0xffff);
}

Result<os::Descriptor> lock_run(const std::string& path) {
  auto lock = os::lock_file(path + "/.lock");
  if (!lock && lock.error().error_number == EWOULDBLOCK)
    return Error{fmt::format("{} is being written by another gearbox; wait for it, or end it", path), EWOULDBLOCK};
  return lock;
}

bool is_run(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path / "manifest.json", ignored);
}

std::string sha256_of(std::string_view bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.hex();
}

// As the manifest's "machine" has it.
std::string host_name() {
  auto text = os::read_file("/proc/sys/kernel/hostname");
  return text ? text->substr(0, text->find('\n')) : "";
}

// The names of the folders in a folder, sorted.
std::vector<std::string> folders_in(const std::string& path) {
  std::vector<std::string> names;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(path, failure)) {
    std::error_code ignored;
    if (!entry.is_symlink(ignored) && entry.is_directory(ignored)) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Result<RunDirectory> RunDirectory::create(const std::string& results, const std::string& experiment,
                                          const std::string& experiment_text, Json manifest,
                                          const std::string& plan_text, const std::string& dirty_diff) {
  RunDirectory run;
  std::string run_id;
  for (std::uint64_t salt = 0;; ++salt) {
    run_id = new_run_id(salt);
    run.path_ = results + "/" + experiment + "/" + run_id;
    std::error_code failure;
    fs::create_directories(fs::path(run.path_).parent_path(), failure);
    if (!failure && fs::create_directory(run.path_, failure)) break;
    if (failure || salt > 100)
      return Error{fmt::format("cannot make the folder {}: {}", run.path_, failure ? failure.message() : "it exists"),
                   failure.value()};
  }
  auto lock = lock_run(run.path_);
  if (!lock) return lock.error();
  run.lock_ = std::move(*lock);
  manifest["schema"] = kRecordSchema;
  manifest["run_id"] = run_id;
  const auto lines = static_cast<std::uint64_t>(std::count(plan_text.begin(), plan_text.end(), '\n'));
  manifest["plan"] = {{"cells", lines}, {"sha256", sha256_of(plan_text)}};
  manifest["experiment_sha256"] = sha256_of(experiment_text);
  run.manifest_ = std::move(manifest);
  run.host_ = host_name();
  std::error_code failure;
  fs::create_directory(run.path_ + "/blobs", failure);
  if (failure)
    return Error{fmt::format("cannot make the folder {}/blobs: {}", run.path_, failure.message()), failure.value()};
  if (!dirty_diff.empty())
    if (auto written = os::replace_file(run.path_ + "/dirty.diff", dirty_diff); !written) return written.error();
  // The manifest comes last: a directory that has one is complete.
  for (const auto& [name, text] : {std::pair<std::string, std::string>{"experiment.toml", experiment_text},
                                   {"plan.jsonl", plan_text},
                                   {"cells.jsonl", ""}})
    if (auto written = os::replace_file(run.path_ + "/" + name, text); !written) return written.error();
  if (auto written = run.write_manifest(); !written) return written.error();
  if (auto plan = run.read_plan(); !plan) return plan.error();
  auto cells = os::open_for_appending(run.path_ + "/cells.jsonl");
  if (!cells) return cells.error();
  run.cells_ = std::move(*cells);
  run.bytes_ = os::size_of(run.cells_);
  if (auto linked = os::replace_link(run_id, results + "/" + experiment + "/latest"); !linked) return linked.error();
  return run;
}

Result<RunDirectory> RunDirectory::open(const std::string& path) {
  if (!is_run(path)) return Error{fmt::format("{} is not a run directory: it has no manifest.json", path)};
  RunDirectory run;
  run.path_ = path;
  auto lock = lock_run(path);
  if (!lock) return lock.error();
  run.lock_ = std::move(*lock);
  auto text = os::read_file(path + "/manifest.json");
  if (!text) return text.error();
  auto manifest = parse_json(*text, path + "/manifest.json");
  if (!manifest) return manifest.error();
  const Json schema = manifest->is_object() ? manifest->value("schema", Json(0)) : Json(0);
  if (schema != kRecordSchema && schema != kOldRecordSchema)
    return Error{fmt::format("{}/manifest.json: its schema is {}; this program knows {} and {}", path, schema.dump(),
                             kOldRecordSchema, kRecordSchema)};
  run.manifest_ = *manifest;
  run.host_ = host_name();
  const Json resumed = run.manifest_.value("resumed_with", Json::array());
  if (auto plan = run.read_plan(); !plan) return plan.error();
  for (auto& cell : run.plan_)
    if (!resumed.empty()) cell.build = resumed.back().value("build_id", cell.build);
  if (const Json budget = run.manifest_.value("budget", Json()); budget.is_object() && budget.contains("blocks"))
    run.drop_blocks_from(budget["blocks"].get<std::uint64_t>());
  if (auto records = run.read_records(); !records) return records.error();
  auto cells = os::open_for_appending(path + "/cells.jsonl");
  if (!cells) return cells.error();
  run.cells_ = std::move(*cells);
  run.bytes_ = os::size_of(run.cells_);
  return run;
}

Status RunDirectory::read_plan() {
  const std::string file = path_ + "/plan.jsonl";
  auto text = os::read_file(file);
  if (!text) return text.error();
  std::size_t line = 0;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t end = std::min(text->find('\n', at), text->size());
    const std::string where = fmt::format("{}:{}", file, ++line);
    auto json = parse_json(text->substr(at, end - at), where);
    if (!json) return json.error();
    auto cell = cell_from_json(*json, where);
    if (!cell) return cell.error();
    if (cell->seq != plan_.size())
      return Error{fmt::format("{}: seq is {} and should be {}", where, cell->seq, plan_.size())};
    plan_.push_back(std::move(*cell));
    at = end + 1;
  }
  return Ok{};
}

Status RunDirectory::read_records() {
  const std::string file = path_ + "/cells.jsonl";
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return Ok{};
  auto text = os::read_file(file);
  if (!text) return text.error();
  std::size_t line = 0;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t newline = text->find('\n', at);
    const std::size_t end = std::min(newline, text->size());
    ++line;
    if (text->find_first_not_of(" \t\r", at) >= end) {  // an empty line says nothing
      at = end + 1;
      continue;
    }
    const std::string where = fmt::format("{}:{}", file, line);
    auto json = parse_json(text->substr(at, end - at), where);
    const bool whole = json && json->is_object() && json->contains("seq") && (*json)["seq"].is_number_unsigned() &&
                       json->contains("status") && (*json)["status"].is_string();
    // The power went while the last line was written: that attempt did not happen.
    if (!json && newline == std::string::npos) {
      repaired_ = true;
      return os::truncate_file(file, at);
    }
    if (!whole)
      return Error{
          fmt::format("{}: not a record: the file is damaged{}", where, json ? "" : ": " + json.error().message)};
    note((*json)["seq"].get<std::uint64_t>(), *json);
    at = end + 1;
    if (newline == std::string::npos) {
      auto records = os::open_for_appending(file);
      if (!records) return records.error();
      if (auto ended = os::append_line(*records, "", file); !ended) return ended.error();
    }
  }
  return Ok{};
}

Status RunDirectory::append(const CellOutcome& outcome) {
  Json record = outcome.record;
  record["run"] = manifest_["run_id"];
  record["host"] = host_;
  if (manifest_["schema"] == kOldRecordSchema) {  // one run, one format
    record["schema"] = kOldRecordSchema;
    record.erase("replicate");
    record.erase("levels");
  }
  const std::uint64_t seq = record["seq"].get<std::uint64_t>(), attempt = record["attempt"].get<std::uint64_t>();
  if (record["status"] != "ok") {
    const std::string blob = fmt::format("{}/blobs/{}-{}", path_, seq, attempt);
    for (const auto& [suffix, text] :
         {std::pair<std::string, const std::string&>{".stdout", outcome.output}, {".stderr", outcome.errors}})
      if (auto written = os::replace_file(blob + suffix, text); !written) return written.error();
  }
  if (auto written = os::append_line(cells_, to_line(record), path_ + "/cells.jsonl"); !written) return written.error();
  bytes_ = os::size_of(cells_);
  note(seq, record);
  return Ok{};
}

void RunDirectory::note(std::uint64_t seq, const Json& record) {
  auto& state = done_[seq];
  ++records_;
  ++state.attempts;
  state.status = record["status"].get<std::string>();
  const auto started = record.find("t_start"), wall = record.find("wall_ns");
  state.started_ms = started != record.end() && started->is_string() ? ms_of_iso_time(started->get<std::string>()) : 0;
  state.wall_ns = wall != record.end() && wall->is_number_integer() ? wall->get<std::int64_t>() : 0;
}

std::optional<std::uint64_t> RunDirectory::open_budget_s() const {
  if (manifest_.contains("budget")) return std::nullopt;
  const Json design = manifest_.value("design", Json());
  if (!design.is_object() || !design.value("budget_s", Json()).is_number_unsigned()) return std::nullopt;
  return design["budget_s"].get<std::uint64_t>();
}

void RunDirectory::drop_blocks_from(std::uint64_t blocks) {
  std::erase_if(plan_, [&](const Cell& cell) { return cell.block >= blocks; });
}

Status RunDirectory::fix_blocks() {
  const auto budget_s = open_budget_s();
  GEARBOX_REQUIRE(budget_s, "the run has no open budget");
  std::vector<CellTime> times;
  for (const auto& cell : plan_) {
    if (cell.block != 0) break;
    const auto state = done_.find(cell.seq);
    GEARBOX_REQUIRE(state != done_.end(), "seq {} of block 0 has no record", cell.seq);
    times.push_back({state->second.started_ms, state->second.wall_ns});
  }
  const double block_0_s = block_cost_s(times);
  const std::uint64_t blocks = blocks_within(*budget_s, block_0_s, plan_.back().block + 1);
  manifest_["blocks"] = blocks;
  manifest_["budget"] = {{"budget_s", *budget_s}, {"block_0_s", block_0_s}, {"blocks", blocks}};
  drop_blocks_from(blocks);
  return write_manifest();
}

Status RunDirectory::records_in_place() const { return os::is_in_place(cells_, path_ + "/cells.jsonl", bytes_); }

Status RunDirectory::set_in_manifest(const std::string& key, Json value) {
  manifest_[key] = std::move(value);
  return write_manifest();
}

// The checksum is taken of the file's own text with zeros in the place of its digits, so that whoever checks it needs
// no second way to write JSON.
Status RunDirectory::write_manifest() {
  manifest_.erase("checksum");
  const std::string zeros(64, '0');
  manifest_["checksum"] = zeros;
  std::string text = to_page(manifest_);
  const std::string sum = sha256_of(text);
  manifest_["checksum"] = sum;
  text.replace(text.rfind(zeros), zeros.size(), sum);
  return os::replace_file(path_ + "/manifest.json", text);
}

Status RunDirectory::mark(bool ended) {
  auto text = os::read_file(path_ + "/cells.jsonl");
  if (!text) return text.error();
  manifest_["records"] = {{"lines", records_}, {"bytes", text->size()}, {"sha256", sha256_of(*text)}};
  if (ended) manifest_["ended"] = iso_time(os::wall_ns(), false);
  return write_manifest();
}

Status RunDirectory::go_on_with(const std::string& build_id) {
  Json parts = manifest_.value("resumed_with", Json::array());
  parts.push_back({{"build_id", build_id}, {"host", host_}, {"records_before", records_}});
  manifest_["resumed_with"] = parts;
  for (auto& cell : plan_) cell.build = build_id;
  return write_manifest();
}

Result<std::string> find_run(const std::string& results, const std::string& name) {
  std::error_code ignored;
  if (!name.empty()) {
    if (is_run(name)) return fs::canonical(name, ignored).string();
    for (const std::string& inside : {results + "/" + name, results + "/" + name + "/latest"})
      if (is_run(inside)) return fs::canonical(inside, ignored).string();
  }
  const auto experiments = folders_in(results);
  std::string newest, newest_id;
  std::vector<std::string> candidates = experiments;
  for (const auto& experiment : experiments) {
    for (const auto& run : folders_in(results + "/" + experiment)) {
      if (!is_run(fs::path(results) / experiment / run)) continue;
      candidates.push_back(run);
      if (run == name || (name.empty() && run > newest_id)) {  // run ids begin with the time
        newest_id = run;
        newest = results + "/" + experiment + "/" + run;
      }
    }
  }
  if (!newest.empty()) return newest;
  if (name.empty()) return Error{fmt::format("there is no run in {} yet; make one: gearbox sweep quickstart", results)};
  return Error{fmt::format("there is no run '{}': not a run directory, and in {} there is {}{}", name, results,
                           experiments.empty() ? "nothing" : fmt::format("{}", fmt::join(experiments, ", ")),
                           did_you_mean(name, candidates))};
}

}  // namespace gearbox::harness
