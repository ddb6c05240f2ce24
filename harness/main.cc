// gearbox-bin: the command line. The script `gearbox` in the root builds it and starts it.
#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "base/nearest.h"
#include "base/os/process.h"
#include "harness/command_line.h"

namespace {

using gearbox::harness::Arguments;

constexpr const char* kHelp =
    R"(Gearbox: the Go runtime's architecture with four exchangeable gears: scheduler, allocator, collector, poller.

  gearbox sweep <experiment>     run an experiment over the combinations, then table, plots and report
  gearbox resume [run]           go on with a run that was stopped
  gearbox plan <experiment>      what a sweep would run, how long it would take, and what it could find
  gearbox ablate <workload>      every switch of one gear: gearbox ablate skynet --scheduler gmp
  gearbox ab <A> <B> <workload>  A against B: gearbox ab gmp global_queue skynet
  gearbox aa <experiment>        the baseline against itself: the noise floor of this machine
  gearbox run <workload>         one workload on one combination, now
  gearbox list [kind]            what there is: gears, workloads, experiments, and what does not go together
  gearbox describe <what>        one thing in full: scheduler=gmp, workload=sieve, runtime
  gearbox doctor                 is this machine quiet enough to measure on?

  gearbox answer [run]           the answer to its question, in sentences
  gearbox table [run]            the table of a run
  gearbox plot [run]             its figures
  gearbox report [run]           its report.html
  gearbox analyze [run]          its statistics
  gearbox compare <run> <run>    two runs against each other
  gearbox export [run]           the run for a spreadsheet, for benchstat or for Google Benchmark's compare.py

  gearbox test [filter]          all tests, or those whose name matches; --preset asan|tsan|checked, --repeat N
  gearbox bench [filter]         the microbenchmarks
  gearbox peers                  the same programs here, in Go and elsewhere, in turn; a table of ratios
  gearbox prepare                installs what is missing, and builds nothing
  gearbox options                every option as a Markdown page (docs/OPTIONS.md)
  gearbox experiment-reference   every key of an experiment file as a Markdown page (docs/EXPERIMENTS.md)

Begin with:   gearbox sweep quickstart          16 combinations, 8 workloads, about six minutes
        or:   gearbox run binary_trees --collector stw
A gear takes options:   --scheduler gmp:runnext=off,steal=half
A run is named by its path, its run-id or its experiment (the latest run); without a name it is the newest.
Each verb has --help, and verbs that print facts have --json. A verb whose standard output could not be written (a full disk, a reader
that left) says so and ends with 1; what standard error would have shown is never worth an exit code.
)";

int dispatch(const Arguments& all) {
  using namespace gearbox::harness;
  if (all.empty() || all[0] == "help" || all[0] == "--help" || all[0] == "-h") {
    print_out("{}", kHelp);
    return kExitOk;
  }
  const std::string& verb = all[0];
  const Arguments rest(all.begin() + 1, all.end());
  if (verb == "list") return list_verb(rest);
  if (verb == "describe") return describe_verb(rest);
  if (verb == "options") return options_verb(rest);
  if (verb == "run") return run_verb(rest);
  if (verb == "cell") return cell_verb(rest);
  if (verb == "sweep") return sweep_verb(rest);
  if (verb == "resume") return resume_verb(rest);
  if (verb == "plan") return plan_verb(rest);
  if (verb == "ablate") return ablate_verb(rest);
  if (verb == "ab") return ab_verb(rest);
  if (verb == "aa") return aa_verb(rest);
  if (verb == "experiment-reference") return experiment_reference_verb(rest);
  if (verb == "doctor") return doctor_verb(rest);
  for (const char* name : {"answer", "table", "plot", "report", "analyze", "export", "compare"})
    if (verb == name) return analysis_verb(verb, rest);
  const std::vector<std::string> verbs = {"sweep",
                                          "resume",
                                          "plan",
                                          "ablate",
                                          "ab",
                                          "aa",
                                          "run",
                                          "list",
                                          "describe",
                                          "doctor",
                                          "answer",
                                          "table",
                                          "plot",
                                          "report",
                                          "analyze",
                                          "export",
                                          "compare",
                                          "options",
                                          "experiment-reference",
                                          "test",
                                          "bench",
                                          "peers",
                                          "prepare"};
  print_err("gearbox: there is no verb '{}'; there is {}{}\nHelp: gearbox --help\n", verb, fmt::join(verbs, ", "),
            gearbox::did_you_mean(verb, verbs));
  return kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace gearbox::harness;
  gearbox::os::open_missing_standard_descriptors();
  const Arguments arguments(argv + 1, argv + argc);
  // What is printed may be lost, and a sweep goes on. A cell is another program, and keeps what its parent gave it.
  if (arguments.empty() || arguments[0] != "cell") gearbox::os::ignore_broken_pipes();
  int code = kExitFailed;
  try {
    code = dispatch(arguments);
  } catch (
      const std::exception& failure) {  // out of memory, mostly; what users can get wrong is refused where it is read
    print_err("gearbox: {}\n", failure.what());
  }
  return exit_code_of(code);
}
