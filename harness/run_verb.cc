// run, cell: one workload on one combination, in a process of its own.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <iterator>

#include "base/os/clock.h"
#include "base/os/file.h"
#include "base/os/process.h"
#include "harness/cell_result.h"
#include "harness/cell_runner.h"
#include "harness/command_line.h"
#include "harness/sweep.h"

namespace gearbox::harness {
namespace {

std::string time_text(double ns) {
  if (ns < 1e3) return fmt::format("{:.0f} ns", ns);
  if (ns < 1e6) return fmt::format("{:.2f} us", ns * 1e-3);
  if (ns < 1e9) return fmt::format("{:.2f} ms", ns * 1e-6);
  return fmt::format("{:.3f} s", ns * 1e-9);
}

std::string amount_text(double value, const std::string& unit) {
  if (unit == "ns") return time_text(value);
  if (unit == "s") return time_text(value * 1e9);
  if (unit == "bytes") {
    if (value < 1024) return fmt::format("{:.0f} bytes", value);
    if (value < 1024 * 1024) return fmt::format("{:.1f} KiB", value / 1024);
    if (value < 1024.0 * 1024 * 1024) return fmt::format("{:.1f} MiB", value / (1024 * 1024));
    return fmt::format("{:.2f} GiB", value / (1024.0 * 1024 * 1024));
  }
  if (std::fabs(value) >= 1e9) return fmt::format("{:.3f} G {}", value * 1e-9, unit);
  if (std::fabs(value) >= 1e6) return fmt::format("{:.3f} M {}", value * 1e-6, unit);
  if (std::fabs(value) >= 1e4) return fmt::format("{:.1f} k {}", value * 1e-3, unit);
  if (value == std::floor(value)) return fmt::format("{:.0f} {}", value, unit);
  return fmt::format("{:.3f} {}", value, unit);
}

void print_record(const Json& r, const Cell& cell) {
  print_out("{} on {}, {} P: {}\n", cell.workload, fmt::join(cell.combo, " / "), cell.procs,
            r["status"].get<std::string>());
  if (r["reason"].is_string()) print_out("  reason      {}\n", r["reason"].get<std::string>());
  for (const auto& c : r["checks"])
    print_out("  check       {}: {} ({})\n", c["name"].get<std::string>(), c["ok"] == true ? "ok" : "WRONG",
              c["detail"].get<std::string>());
  for (const auto& m : r["metrics"]) {
    const std::string value =
        m["value"].is_number() ? amount_text(m["value"].get<double>(), m["unit"].get<std::string>()) : "not a number";
    print_out("  {:<11} {}\n", m["name"].get<std::string>(), value);
  }
  for (const auto& h : r["hists"]) {
    const std::string unit = h["unit"].get<std::string>();
    const auto count = h["count"].get<std::uint64_t>();
    std::string line = fmt::format("{} values", count);
    for (const auto& p : h["percentiles"]) {
      // The 99.9th percentile of fifty values is their maximum under another name.
      if (static_cast<double>(count) * (1 - p[0].get<double>() / 100) < 1) continue;
      line += fmt::format(", p{} {}", p[0].get<double>(), amount_text(p[1].get<double>(), unit));
    }
    print_out("  {:<11} {}, max {}\n", h["name"].get<std::string>(), line, amount_text(h["max"].get<double>(), unit));
  }
}

struct RunRequest {
  Cell cell;
  CellLimits limits;
  std::uint64_t repeat = 1;
};

Result<RunRequest> read_request(const CommandLine& line) {
  RunRequest request;
  Cell& cell = request.cell;
  if (line.operands().empty()) return Error{"which workload? See: gearbox list workloads"};
  auto workload = find_workload(line.operands()[0]);
  if (!workload) return workload.error();
  OptionPairs pairs;
  const std::string owner = "workload " + std::string(workload->name);
  for (const auto& text : line.texts("set")) {
    auto one = split_pairs(text, owner, text);
    if (!one) return Error{"--set " + one.error().message};
    for (const auto& pair : *one) {
      if (std::any_of(pairs.begin(), pairs.end(), [&](const auto& p) { return p.first == pair.first; }))
        return Error{fmt::format("--set {} is given twice", pair.first)};
      pairs.push_back(pair);
    }
  }
  auto params = make_params(*workload, pairs);
  if (!params) return params.error();
  auto defaults = workload->make_params();
  cell.workload = workload->name;
  cell.params = changed_options(**params, *defaults);
  auto gears = gear_choice(line);
  if (!gears) return gears.error();
  cell.combo = gears->combo;
  cell.procs = gears->procs;
  cell.runtime = gears->runtime;
  if (auto made = make_effective(cell); !made) return made.error();
  if (serves(cell.params)) request.limits.timeout_s = 0;  // a server runs until it is told to stop
  for (const auto& [name, into, range] :
       {std::tuple<const char*, std::uint64_t*, Range>{"timeout", &request.limits.timeout_s, {0, 86400}},
        {"mem-limit", &request.limits.mem_limit_mib, {0, 1 << 30}},
        {"repeat", &request.repeat, {1, 10000}}}) {
    if (!line.has(name)) continue;
    auto number = parse_integer(line.text(name), range, std::string("--") + name);
    if (!number) return number.error();
    *into = *number;
  }
  return request;
}

constexpr const char* kRunHelp = R"(gearbox run <workload> [options]

Runs one workload on one combination of gears, in a process of its own, and shows what it measured. The workload checks its own answer.

  gearbox run binary_trees
  gearbox run ping_pong --scheduler gmp:runnext=off --procs 2
  gearbox run skynet --collector stw --set leaves=100000 --repeat 5
  gearbox run echo --json | python3 -m json.tool

A cell at its time limit is sent SIGQUIT first, so that it prints the traces of its goroutines, and is killed five seconds later.

Exit code: 0 ok; 1 the cell failed (wrong answer, panic, crash, time-out, ...), or the result could not be written; 2 the command line was
wrong, and nothing was run; 130 ended by Ctrl-C.

)";

}  // namespace

int run_verb(const Arguments& arguments) {
  po::options_description options("Options");
  add_gear_options(options);
  auto add = options.add_options();
  add("set", po::value<std::vector<std::string>>()->value_name("name=value"),
      "a parameter of the workload, see: gearbox describe workload=NAME; may be repeated");
  add("repeat", po::value<std::string>()->value_name("N"), "run it N times, each in a new process (default 1)");
  add("timeout", po::value<std::string>()->value_name("S"),
      "end it after S seconds; 0: never (default 120; never for a server with serve=on)");
  add("mem-limit", po::value<std::string>()->value_name("MIB"),
      "end it when it uses more memory than this; 0: no limit (default)");
  add("dry-run", po::bool_switch(),
      "check the command line, show what would run, with --json as in plan.jsonl, and stop");
  add("boot-trace", po::bool_switch(), "print each step of the boot with its time");
  add("json", po::bool_switch(), "one line of JSON per run, as in cells.jsonl (docs/RECORDS.md)");
  add("help,h", po::bool_switch(), "this text");
  auto line = CommandLine::parse(arguments, options, {"one workload"});
  if (!line) return usage_error("run", line.error());
  if (line->flag("help")) {
    print_help(kRunHelp, options);
    return kExitOk;
  }
  auto request = read_request(*line);
  if (!request) return usage_error("run", request.error());
  auto build_id = own_build_id();
  request->cell.build = build_id ? *build_id : "unknown";
  request->cell.id = cell_id(request->cell, request->cell.build);

  if (line->flag("dry-run")) {
    const Cell& cell = request->cell;
    if (line->flag("json")) {
      print_out("{}\n", to_line(plan_json(cell)));
    } else {
      print_out("{} {} on {}, {} P: would run {} times\n", cell.workload, join_pairs(cell.params),
                fmt::join(cell.combo, " / "), cell.procs, request->repeat);
    }
    return kExitOk;
  }

  os::count_interrupts(true);  // Ctrl-\ is the cell's, too: it asks for the traces of all goroutines
  CellRunner runner = own_cells();
  runner.limits = request->limits;
  runner.pass_through = true;
  runner.output_to_errors = line->flag("json");  // standard output belongs to the JSON
  runner.boot_trace = line->flag("boot-trace");
  int exit_code = kExitOk;
  for (std::uint64_t i = 0; i < request->repeat; ++i) {
    request->cell.seq = i;
    flush_output();
    const CellOutcome outcome = runner.run(request->cell, 1, static_cast<std::uint64_t>(os::wall_ns()));
    if (line->flag("json")) {
      if (!outcome.interrupted) print_out("{}\n", to_line(outcome.record));
    } else if (!outcome.interrupted) {
      print_record(outcome.record, request->cell);
    }
    flush_output();
    if (outcome.interrupted) {
      print_err("gearbox run: ended by Ctrl-C\n");
      return kExitInterrupted;
    }
    if (outcome.record["status"] != "ok") exit_code = kExitFailed;
    if (os::interrupts() > 0) break;  // a server that ended well because it was told to
  }
  return exit_code;
}

int cell_verb(const Arguments& arguments) {
  os::name_process("gearbox-cell");
  constexpr int kResult = 3;
  struct stat facts {};
  if (::fstat(kResult, &facts) != 0) {
    print_err("gearbox cell: descriptor 3 is not open; `cell` is what `run` and `sweep` start, use those\n");
    return kExitUsage;
  }
  std::string spec;
  if (arguments.empty()) {
    spec.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  } else {
    auto text = os::read_file(arguments[0]);
    if (!text) return usage_error("cell", text.error());
    spec = *text;
  }
  return run_cell_body(spec, kResult);
}

}  // namespace gearbox::harness
