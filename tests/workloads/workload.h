// Runs a workload by name with a few parameters changed, as a cell does, and returns its report.
#pragma once

#include "interfaces/workload.h"
#include "tests/pollers/poller_harness.h"

namespace gearbox::testing {

inline Report run_workload(const std::string& name, const PollerCase& poller,
                           const std::vector<std::pair<std::string, std::uint64_t>>& changes, std::uint64_t procs = 2) {
  Report report;
  for (const auto& entry : all_workloads()) {
    if (entry.name != name) continue;
    auto params = entry.make_params();
    for (const auto& [option, value] : changes) {
      SetOption set(option, value);
      params->visit(set);
      EXPECT_TRUE(set.found) << option;
    }
    run_on(
        poller, [&] { entry.run(*params, report); }, procs);
    return report;
  }
  ADD_FAILURE() << "there is no workload " << name;
  return report;
}

inline std::string failures_of(const Report& report) {
  std::string out = report.checks.empty() ? "no check was made" : "";
  for (const auto& check : report.checks)
    if (!check.ok) out += check.name + ": " + check.detail + "; ";
  return out;
}

}  // namespace gearbox::testing
