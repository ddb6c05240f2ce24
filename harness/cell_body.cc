// What happens inside a cell's process: boot, workload, result. A process that dies on the way leaves no result, and
// the parent says how it died.
#include <fmt/format.h>

#include <cerrno>

#include "base/os/clock.h"
#include "base/os/file.h"
#include "base/os/interrupt.h"
#include "base/os/process.h"
#include "harness/cell.h"
#include "harness/cell_result.h"
#include "harness/output.h"

namespace gearbox::harness {
namespace {

// What a kernel or container says to a gear that it will not have. Every other error at the start is a failure of the
// cell: a word for it that sounds like an excuse would hide a fault of ours.
bool is_refusal(int error_number) {
  return error_number == EPERM || error_number == EACCES || error_number == ENOSYS || error_number == EOPNOTSUPP;
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
    out = measured(*stats, report, setup->workload.headline, serves(cell->params), wall_ns, cpu_ns);
  } else {
    out["status"] = is_refusal(stats.error().error_number) ? "unsupported" : "exit";
    out["reason"] = stats.error().message;
  }
  out["effective"] = effective_json(*cell);
  out["libraries"] = Json::object();
  for (std::size_t i = 0; i < kFamilies.size(); ++i)
    for (const auto& [name, version] : foreign_libraries(i, {cell->combo[i]}))
      out["libraries"][name] = version ? Json(*version) : Json(nullptr);
  return out;
}

}  // namespace

int run_cell_body(const std::string& spec_text, int result_fd) {
  os::raise_descriptor_limit();  // each connection of a cell may need two
  // Before any thread: a server in this cell can wait for a signal then, whichever thread the kernel would have chosen.
  if (auto taken = os::take_interrupts(); !taken) {
    print_err("gearbox cell: signals: {}\n", taken.error().message);
    return 1;
  }
  auto result = run_spec(spec_text);
  if (!result) {  // the parent has checked all this; a spec written by hand gets the same sentence
    print_err("gearbox cell: {}\n", result.error().message);
    return 2;
  }
  const std::string line = to_line(*result) + "\n";
  if (int error = os::write_all(result_fd, line.data(), line.size()); error != 0) {
    print_err("gearbox cell: {}\n", os_error("writing the result", error).message);
    return 1;
  }
  return (*result)["status"] == "exit" ? 1 : 0;
}

}  // namespace gearbox::harness
