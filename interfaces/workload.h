// Workload: a program to run on a combination of gears. It checks its own answer: a cell whose answer is wrong is
// `check_failed` and never a time. Workloads include only base/, this header and runtime/api.h.
//
// Each file workloads/<name>.cc defines `WorkloadEntry <name>()` in namespace gearbox::workloads and is found by its
// name.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/histogram.h"
#include "interfaces/option.h"

namespace gearbox {

// Which direction of a metric is good: made from the literal "higher" or "lower", and from nothing else, which the
// compiler sees to.
class Better {
 public:
  consteval Better(const char* word) : higher_(std::string_view(word) == "higher") {  // NOLINT: implicit by design
    if (!higher_ && std::string_view(word) != "lower") throw "a metric is better when it is \"higher\" or \"lower\"";
  }
  constexpr std::string_view word() const { return higher_ ? "higher" : "lower"; }

 private:
  bool higher_;
};

// What a workload reports. Filled in by the main goroutine.
class Report {
 public:
  struct Metric {
    std::string name, unit;
    Better better;
    double value;  // of the headline: finite and above 0, else the cell is `check_failed`
  };
  struct Check {
    std::string name;
    bool ok;
    std::string detail;  // what was found, and what was expected when it was wrong
  };
  struct Hist {
    std::string name, unit;
    Histogram histogram;
  };
  // Operations a second, the headline unless the entry names another metric. unit: "round trips/s".
  void throughput(double operations, std::int64_t elapsed_ns, std::string unit) {
    metric("throughput", std::move(unit), "higher",
           elapsed_ns > 0 ? operations * 1e9 / static_cast<double>(elapsed_ns) : 0.0);
  }
  void metric(std::string name, std::string unit, Better better, double value) {
    metrics.push_back({std::move(name), std::move(unit), better, value});
  }
  void histogram(std::string name, std::string unit, Histogram h) {
    hists.push_back({std::move(name), std::move(unit), std::move(h)});
  }
  // Records whether an answer was right. Every workload makes at least one check.
  void check(std::string name, bool ok, std::string detail) {
    checks.push_back({std::move(name), ok, std::move(detail)});
  }
  template <class T>
  void check_equal(const std::string& name, const T& found, const T& expected) {
    check(name, found == expected,
          found == expected ? fmt::format("{}", found) : fmt::format("found {}, expected {}", found, expected));
  }

  std::vector<Metric> metrics;
  std::vector<Hist> hists;
  std::vector<Check> checks;
};

struct WorkloadEntry {
  std::string_view name, summary;
  std::string_view headline;  // the metric the tables and plots lead with: one that every run of it reports
  std::function<std::unique_ptr<OptionSet>()> make_params;
  std::function<void(const OptionSet&, Report&)> run;  // on the main goroutine, after the init functions
};

struct WorkloadFacts {
  std::string_view name, summary;
  std::string_view headline = "throughput";
};
template <class Params>
WorkloadEntry make_workload(WorkloadFacts facts, void (*run)(const Params&, Report&)) {
  return {facts.name, facts.summary, facts.headline,
          [] { return std::unique_ptr<OptionSet>(std::make_unique<TypedOptions<Params>>()); },
          [run](const OptionSet& set, Report& report) {
            run(static_cast<const TypedOptions<Params>&>(set).options, report);
          }};
}

std::vector<WorkloadEntry> all_workloads();  // generated, sorted by name

}  // namespace gearbox
