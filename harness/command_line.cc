#include "harness/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/nearest.h"
#include "base/os/process.h"

namespace gearbox::harness {
namespace {

constexpr const char* kOperands = "operands";

std::vector<std::string> long_names(const po::options_description& options) {
  std::vector<std::string> names;
  for (const auto& option : options.options()) names.push_back("--" + option->long_name());
  return names;
}

}  // namespace

Result<CommandLine> CommandLine::parse(const Arguments& arguments, const po::options_description& options,
                                       const std::vector<std::string>& operands) {
  const auto names = long_names(options);
  try {
    CommandLine line;
    po::options_description all;
    all.add(options);
    all.add_options()(kOperands, po::value<std::vector<std::string>>());
    po::positional_options_description positional;
    positional.add(kOperands, -1);
    namespace style = po::command_line_style;
    const int how =
        style::unix_style & ~style::allow_guessing;  // an abbreviation that works today is ambiguous tomorrow
    po::store(po::command_line_parser(arguments).options(all).positional(positional).style(how).run(), line.values_);
    po::notify(line.values_);
    if (line.values_.count(kOperands) > 0) line.operands_ = line.values_[kOperands].as<std::vector<std::string>>();
    const bool open_ended = !operands.empty() && operands.back().ends_with("...");
    if (!open_ended && line.operands_.size() > operands.size())
      return Error{fmt::format(
          "'{}' is one word too many; {}", line.operands_[operands.size()],
          operands.empty() ? "it takes options only" : fmt::format("it takes {}", fmt::join(operands, " and ")))};
    for (const auto& operand : line.operands_)
      if (operand.empty()) return Error{"an empty word is not a name"};
    return line;
  } catch (const po::unknown_option& failure) {
    std::string name = failure.get_option_name();
    if (!name.starts_with("-")) name = "--" + name;
    name = name.substr(0, name.find('='));
    return Error{
        fmt::format("there is no option '{}'; there is {}{}", name, fmt::join(names, ", "), did_you_mean(name, names))};
  } catch (const po::multiple_occurrences& failure) {
    return Error{fmt::format("option {} is given twice", failure.get_option_name())};
  } catch (const po::error& failure) {
    return Error{failure.what()};
  }
}

void print_help(const char* text, const po::options_description& options) {
  std::ostringstream out;
  out << text << options;
  write_out(out.str());
}

int usage_error(const std::string& verb, const Error& error) {
  print_err("gearbox {}: {}\nHelp: gearbox {} --help\n", verb, error.message, verb);
  return kExitUsage;
}

void add_gear_options(po::options_description& options) {
  const auto text = [] { return po::value<std::string>()->value_name("NAME[:option=value,...]"); };
  auto add = options.add_options();
  add("scheduler", text(), "scheduler, with options if wanted: gmp:runnext=off (default gmp)");
  add("allocator", text(), "allocator (default size_class)");
  add("collector", text(), "collector (default concurrent)");
  add("poller", text(), "poller (default epoll)");
  add("procs", po::value<std::string>()->value_name("N"),
      "Ps, 1 to 256: how many goroutines run at the same time (default: one per CPU)");
  add("runtime", po::value<std::string>()->value_name("option=value,..."),
      "options of the fixed part, see: gearbox describe runtime");
}

Result<GearChoice> gear_choice(const CommandLine& line) {
  GearChoice choice;
  for (std::size_t family = 0; family < kFamilies.size(); ++family) {
    const std::string name(kFamilies[family]);
    auto canonical = canonical_gear(family, line.text(name.c_str(), std::string(kDefaultGears[family])));
    if (!canonical) return canonical.error();
    choice.combo[family] = *canonical;
  }
  choice.procs = default_procs();
  if (line.has("procs")) {
    auto procs = parse_procs(line.text("procs"));
    if (!procs) return procs.error();
    choice.procs = *procs;
  }
  if (line.has("runtime") && line.text("runtime").empty())
    return Error{"--runtime is empty; write --runtime stack_kib=32, or leave it out"};
  auto runtime = make_runtime_options(line.text("runtime"));
  if (!runtime) return runtime.error();
  RuntimeOptions defaults;
  OptionView now(*runtime), before(defaults);
  choice.runtime = join_pairs(changed_options(now, before));
  if (auto reason = why_illegal_combo(choice.combo, choice.procs))
    return Error{"these gears do not fit together: " + *reason};
  return choice;
}

std::string root_folder() {
  if (const char* given = std::getenv("GEARBOX_ROOT"); given != nullptr && *given != '\0') return given;
  namespace fs = std::filesystem;
  // <root>/build/<preset>/gearbox-bin
  const fs::path root = fs::path(os::own_executable()).parent_path().parent_path().parent_path();
  std::error_code ignored;
  if (fs::exists(root / "CMakePresets.json", ignored)) return root.string();
  return fs::current_path(ignored).string();
}

std::string results_folder() { return root_folder() + "/results"; }

}  // namespace gearbox::harness
