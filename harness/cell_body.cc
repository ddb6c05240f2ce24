// What happens inside a cell's process: boot, workload, result. A process that dies on the way leaves no result, and
// the parent says how it died.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "base/os/clock.h"
#include "base/os/file.h"
#include "base/os/interrupt.h"
#include "base/os/memory.h"
#include "base/os/process.h"
#include "harness/cell.h"

namespace gearbox::harness {
namespace {

Json metric_json(const std::string& name, const std::string& unit, const std::string& better, double value) {
  Json out = {{"name", name}, {"unit", unit}, {"better", better}};
  out["value"] = std::isfinite(value) ? Json(value) : Json(nullptr);
  return out;
}

Json hist_json(const std::string& name, const std::string& unit, const Histogram& h) {
  Json percentiles = Json::array(), buckets = Json::array();
  for (double p : {50.0, 90.0, 99.0, 99.9, 99.99, 99.999}) percentiles.push_back(Json::array({p, h.percentile(p)}));
  for (const auto& b : h.buckets()) buckets.push_back(Json::array({b.lower, b.upper, b.count}));
  return {{"name", name},   {"unit", unit},   {"count", h.count()},         {"sum", h.sum()},
          {"min", h.min()}, {"max", h.max()}, {"percentiles", percentiles}, {"buckets", buckets}};
}

// What a kernel or container says to a gear that it will not have. Every other error at the start is a failure of the
// cell: a word for it that sounds like an excuse would hide a fault of ours.
bool is_refusal(int error_number) {
  return error_number == EPERM || error_number == EACCES || error_number == ENOSYS || error_number == EOPNOTSUPP;
}

Json measure(const RunStats& stats, const Report& report, std::string_view headline, std::int64_t wall_ns,
             std::int64_t cpu_ns) {
  Json out = Json::object();
  std::string failed;
  Json checks = Json::array(), metrics = Json::array(), hists = Json::array(), counters = Json::object();
  for (const auto& check : report.checks) {
    checks.push_back({{"name", check.name}, {"ok", check.ok}, {"detail", check.detail}});
    if (!check.ok) failed += fmt::format("{}{}: {}", failed.empty() ? "" : "; ", check.name, check.detail);
  }
  if (report.checks.empty()) failed = "the workload made no check of its answer";
  const bool leads =
      std::any_of(report.metrics.begin(), report.metrics.end(), [&](const auto& m) { return m.name == headline; });
  if (failed.empty() && !leads && !report.metrics.empty())  // one without any is a server: there was nothing to measure
    failed = fmt::format("the workload names '{}' as its headline and reported no such metric", headline);
  for (const auto& counter : stats.counters) counters[counter.name] = counter.value;
  // A wrong answer has no time: metrics and histograms of such a cell must not reach a plot.
  if (failed.empty()) {
    for (const auto& m : report.metrics) metrics.push_back(metric_json(m.name, m.unit, m.better, m.value));
    metrics.push_back(metric_json("wall", "s", "lower", static_cast<double>(wall_ns) * 1e-9));
    metrics.push_back(metric_json("cpu", "s", "lower", static_cast<double>(cpu_ns) * 1e-9));
    metrics.push_back(metric_json("peak_rss", "bytes", "lower", static_cast<double>(os::peak_resident_bytes())));
    metrics.push_back(metric_json("gc_cycles", "cycles", "lower", static_cast<double>(stats.gc_cycles)));
    metrics.push_back(metric_json("gc_cpu", "s", "lower", static_cast<double>(stats.gc_cpu_ns) * 1e-9));
    metrics.push_back(metric_json("allocated", "bytes", "lower", static_cast<double>(stats.allocated_bytes)));
    for (const auto& h : report.hists) hists.push_back(hist_json(h.name, h.unit, h.histogram));
    if (stats.gc_pause_ns.count() > 0) hists.push_back(hist_json("gc_pause", "ns", stats.gc_pause_ns));
    if (stats.pause_seen_ns.count() > 0) hists.push_back(hist_json("pause_seen", "ns", stats.pause_seen_ns));
    if (stats.time_to_stop_ns.count() > 0) hists.push_back(hist_json("time_to_stop", "ns", stats.time_to_stop_ns));
  }
  out["status"] = failed.empty() ? "ok" : "check_failed";
  out["reason"] = failed.empty() ? Json(nullptr) : Json(failed);
  out["metrics"] = metrics;
  out["hists"] = hists;
  out["counters"] = counters;
  out["checks"] = checks;
  out["guard"] = stats.guard_kind;
  return out;
}

Result<Json> run_spec(const std::string& spec_text) {
  auto json = parse_json(spec_text, "the cell's spec");
  if (!json) return json.error();
  // A cell outlives nobody: when its runner is killed it must not go on and disturb the run that resumes.
  if (json->contains("runner") && (*json)["runner"].is_number_integer()) {
    const auto runner = (*json)["runner"].get<pid_t>();
    if (!os::die_with_parent(runner))
      return Error{fmt::format("the process that started this cell ({}) is gone, so the cell does not begin", runner)};
  }
  auto cell = cell_from_json(*json, "the cell's spec");
  if (!cell) return cell.error();
  if (auto made = make_effective(*cell); !made) return made.error();
  auto setup = set_up(*cell);
  if (!setup) return setup.error();
  setup->runtime.trace = json->contains("boot_trace") && (*json)["boot_trace"] == true;

  Report report;
  const std::int64_t wall_before = os::monotonic_ns(), cpu_before = os::process_cpu_ns();
  auto stats = run_program(setup->runtime, setup->gears, [&] { setup->workload.run(*setup->params, report); });
  const std::int64_t wall_ns = os::monotonic_ns() - wall_before, cpu_ns = os::process_cpu_ns() - cpu_before;
  Json out;
  if (stats) {
    out = measure(*stats, report, setup->workload.headline, wall_ns, cpu_ns);
  } else {
    out["status"] = is_refusal(stats.error().error_number) ? "unsupported" : "exit";
    out["reason"] = stats.error().message;
  }
  out["effective"] = effective_json(*cell);
  return out;
}

}  // namespace

int run_cell_body(const std::string& spec_text, int result_fd) {
  os::raise_descriptor_limit();  // each connection of a cell may need two
  // Before any thread: a server in this cell can wait for a signal then, whichever thread the kernel would have chosen.
  if (auto taken = os::take_interrupts(); !taken) {
    fmt::print(stderr, "gearbox cell: signals: {}\n", taken.error().message);
    return 1;
  }
  auto result = run_spec(spec_text);
  if (!result) {  // the parent has checked all this; a spec written by hand gets the same sentence
    fmt::print(stderr, "gearbox cell: {}\n", result.error().message);
    return 2;
  }
  const std::string line = to_line(*result) + "\n";
  if (int error = os::write_all(result_fd, line.data(), line.size()); error != 0) {
    fmt::print(stderr, "gearbox cell: {}\n", os_error("writing the result", error).message);
    return 1;
  }
  return (*result)["status"] == "exit" ? 1 : 0;
}

}  // namespace gearbox::harness
