// The command line: Boost.Program_options with this project's errors. A mistake is one sentence on standard error that
// names the thing, what is allowed and the nearest match, then how to get help, and exit code 2; nothing has been
// started by then.
#pragma once

#include <boost/program_options.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "harness/choice.h"
#include "harness/output.h"

namespace gearbox::harness {

namespace po = boost::program_options;
using Arguments = std::vector<std::string>;

inline constexpr int kExitOk = 0, kExitFailed = 1, kExitUsage = 2, kExitInterrupted = 130;

// The arguments of one verb, parsed.
class CommandLine {
 public:
  // operands: names of what may stand without a dash, in order; the last may end in "..." to take all that is left.
  static Result<CommandLine> parse(const Arguments& arguments, const po::options_description& options,
                                   const std::vector<std::string>& operands);

  bool has(const char* name) const { return values_.count(name) > 0 && !values_[name].defaulted(); }
  bool flag(const char* name) const { return values_[name].as<bool>(); }
  std::string text(const char* name, const std::string& fallback = "") const {
    return has(name) ? values_[name].as<std::string>() : fallback;
  }
  std::vector<std::string> texts(const char* name) const {
    return has(name) ? values_[name].as<std::vector<std::string>>() : std::vector<std::string>();
  }
  const std::vector<std::string>& operands() const { return operands_; }

 private:
  po::variables_map values_;
  std::vector<std::string> operands_;
};

// The answer to --help: the text, then the options.
void print_help(const char* text, const po::options_description& options);

// Prints "gearbox <verb>: <sentence>" and where help is; returns kExitUsage.
int usage_error(const std::string& verb, const Error& error);

// What --scheduler, --allocator, --collector, --poller, --procs and --runtime ask for.
struct GearChoice {
  Combo combo;
  std::uint64_t procs;
  std::string runtime;  // canonical
};
void add_gear_options(po::options_description& options);
Result<GearChoice> gear_choice(const CommandLine& line);  // checked, combination included

// The repository: $GEARBOX_ROOT, or found from where this program lies.
std::string root_folder();
std::string results_folder();

// Verbs. Each parses its own arguments, returns the exit code, and prints its own help for --help.
int list_verb(const Arguments& arguments);
int describe_verb(const Arguments& arguments);
int options_verb(const Arguments& arguments);
int run_verb(const Arguments& arguments);
int cell_verb(const Arguments& arguments);
int sweep_verb(const Arguments& arguments);
int resume_verb(const Arguments& arguments);
int plan_verb(const Arguments& arguments);
int ablate_verb(const Arguments& arguments);
int ab_verb(const Arguments& arguments);
int aa_verb(const Arguments& arguments);
int experiment_reference_verb(const Arguments& arguments);
int doctor_verb(const Arguments& arguments);
// table, plot, report, analyze, compare: the Python analysis over runs named as find_run() understands them.
int analysis_verb(const std::string& verb, const Arguments& arguments);
// Asks harness/analysis/check.py whether the directory is what a run has written: 0, or it has said on standard error,
// after "gearbox <verb>: ", what is wrong where. Reads only.
int check_run(const std::string& verb, const std::string& run);
// Tables, plots and report of a finished run, one after the other. Returns the first exit code that is not 0. After an
// interrupt (os::interrupts()) no further step begins.
int analyse_finished_run(const std::string& run, bool json);

}  // namespace gearbox::harness
