// answer, table, plot, report, analyze, export, compare: the Python in harness/analysis, over runs named the way users name them.
#include <fmt/format.h>

#include <cstdlib>

#include "base/os/process.h"
#include "harness/command_line.h"
#include "harness/helper_program.h"
#include "harness/run_directory.h"

namespace gearbox::harness {
namespace {

// The distribution's Python has the packages; the first python3 on PATH may be another.
std::string python() {
  const char* given = std::getenv("GEARBOX_PYTHON");
  return given != nullptr && *given != '\0' ? given : "/usr/bin/python3";
}

int run_module(const char* module, const Arguments& arguments, bool discard_output = false) {
  Arguments command = {python(), "-m", module};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const int code =
      run_to_end(command, {"PYTHONPATH=" + root_folder() + "/harness", "PYTHONDONTWRITEBYTECODE=1"}, discard_output);
  return code != 0 && os::interrupts() > 0 ? kExitInterrupted : code;
}

int run_analysis(const Arguments& arguments, bool discard_output = false) {
  return run_module("analysis", arguments, discard_output);
}

}  // namespace

int check_run(const std::string& verb, const std::string& run) {
  return run_module("analysis.check", {"gearbox " + verb, run});
}

int analysis_verb(const std::string& verb, const Arguments& arguments) {
  const std::size_t wanted = verb == "compare" ? 2 : 1;
  Arguments forwarded = {verb};
  Arguments runs, rest;
  bool help = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    help = help || argument == "--help" || argument == "-h";
    // A word right after an option that takes one is that option's value; --pair takes two.
    const bool value = (i > 0 && arguments[i - 1].starts_with("--") && arguments[i - 1] != "--json" &&
                        arguments[i - 1].find('=') == std::string::npos) ||
                       (i > 1 && arguments[i - 2] == "--pair");
    (argument.starts_with("-") || value || runs.size() == wanted ? rest : runs).push_back(argument);
  }
  if (!help) {
    if (wanted == 2 && runs.size() < 2) return usage_error(verb, {"it takes two runs: gearbox compare A B"});
    if (runs.empty()) runs.emplace_back();
    for (const auto& name : runs) {
      auto path = find_run(results_folder(), name);
      if (!path) return usage_error(verb, path.error());
      forwarded.push_back(*path);
    }
  }
  forwarded.insert(forwarded.end(), rest.begin(), rest.end());
  os::count_interrupts();  // we wait for the analysis to end, and end as it did
  return run_analysis(forwarded);
}

int analyse_finished_run(const std::string& run, bool json) {
  int first = 0;
  for (const char* verb : {"answer", "plot", "report"}) {
    const bool says = std::string(verb) == "answer";  // the others would say where each of two dozen files lies
    if (json && says) continue;
    flush_output();
    if (os::interrupts() > 0) {  // it came between two steps, or while the last cell ran
      print_err("gearbox: stopped before the analysis was done; the records are safe, go on with: gearbox {} {}\n",
                verb, run);
      return kExitInterrupted;
    }
    const int code = run_analysis({verb, run}, !says);
    if (code == kExitInterrupted) return code;  // it has said so
    if (code != 0)
      print_err(
          "gearbox: the analysis ({} {}) ended with exit code {}; the records are safe, repeat it with: gearbox "
          "{} {}\n",
          verb, run, code, verb, run);
    if (first == 0) first = code;
    if (os::interrupts() > 0) break;
  }
  if (!json) print_out("\nfigures  {}/figures\ntable    gearbox table {}\nreport   {}/report.html\n", run, run, run);
  return first;
}

}  // namespace gearbox::harness
