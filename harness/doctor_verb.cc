// doctor: may measurements on this machine, now, be believed?
#include <fmt/format.h>

#include "harness/command_line.h"
#include "harness/machine.h"

namespace gearbox::harness {

int doctor_verb(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("json", po::bool_switch(), "one JSON object")("help,h", po::bool_switch(), "this text");
  auto line = CommandLine::parse(arguments, options, {});
  if (!line) return usage_error("doctor", line.error());
  if (line->flag("help")) {
    print_out(
        "gearbox doctor [--json]\n\nLooks at this machine for a second: hardware, kernel, what the kernel refuses, and "
        "who else uses the CPUs.\n"
        "green: measure. amber: differences of a few per cent may be noise. red: something else is running; times mean "
        "little now.\n"
        "The same look is stored with every run (manifest.json).\n");
    return kExitOk;
  }
  const Machine m = look_at_machine(1'000'000'000);
  if (line->flag("json")) {
    print_out("{}\n", to_line(machine_json(m)));
    return kExitOk;
  }
  const auto row = [](const char* name, const std::string& value) {
    print_out("  {:<20} {}\n", name, value.empty() ? "not visible" : value);
  };
  print_out("machine\n");
  row("host", m.host);
  row("cpu", fmt::format("{}, {} cores for this process", m.cpu, m.cores));
  row("default procs", m.default_procs);
  row("memory", fmt::format("{:.1f} GiB", static_cast<double>(m.memory_bytes) / (1024.0 * 1024 * 1024)));
  row("kernel", m.kernel);
  row("system", m.os);
  row("virtualization", m.virtualization);
  print_out("settings\n");
  row("cpu governor", m.governor);
  row("huge pages", m.thp);
  row("address randomisation", m.aslr < 0 ? "" : std::to_string(m.aslr));
  row("overcommit", m.overcommit < 0 ? "" : std::to_string(m.overcommit));
  row("max_map_count", std::to_string(m.max_map_count));
  print_out("what the kernel lets us do\n");
  row("io_uring", m.io_uring);
  row("stack guards", m.guard);
  print_out("now\n");
  row("load", fmt::format("{:.2f} {:.2f} {:.2f}", m.load[0], m.load[1], m.load[2]));
  row("stolen CPU time", fmt::format("{:.1f} %", m.steal_pct));
  for (const auto& b : m.busy) row("busy", fmt::format("{:.0f} % {} ({})", b.cpu_pct, b.name, b.process));
  print_out("verdict: {}\n", m.verdict);
  for (const auto& reason : m.reasons) print_out("  {}\n", reason);
  return kExitOk;
}

}  // namespace gearbox::harness
