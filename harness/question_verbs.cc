// ablate, ab, aa: experiments that are asked for in one line. Each writes an experiment file into the run and runs it.
#include <fmt/format.h>

#include <algorithm>

#include "base/os/process.h"
#include "harness/command_line.h"
#include "harness/draft.h"
#include "harness/sweep_verbs.h"

namespace gearbox::harness {
namespace {

constexpr const char* kAblateHelp = R"(gearbox ablate <workload>[,<workload>...] --scheduler NAME [options]

What does each part of a gear do? Every switch of the gear that is named, one of --scheduler, --allocator, --collector and --poller, is turned to
each other level that it declares, one after the other, against the gear as it is. Numbers have a range and no levels: make one a factor of
an experiment file (docs/EXPERIMENTS.md). The experiment is written into its run directory, and run, shown and reported as a sweep is.

  gearbox ablate skynet --scheduler gmp
  gearbox ablate skynet,ping_pong --scheduler gmp:steal_passes=2 --with collector=stw --dry-run
  gearbox ablate binary_trees --collector concurrent --set depth=14 --budget 300

)";
constexpr const char* kAbHelp = R"(gearbox ab <A> <B> <workload>[,<workload>...] [options]

A against B, in blocks that hold each once, without an experiment file. A and B are each a member of any gear, with options if wanted, or
settings: factor=level,... with any factor of docs/EXPERIMENTS.md. What a side does not say is at its default. The experiment is written into
its run directory, and run, shown and reported as a sweep is. A and B may be the same: that shows what noise alone looks like.

  gearbox ab gmp global_queue skynet
  gearbox ab gmp gmp:runnext=off ping_pong --set rounds=100000
  gearbox ab scheduler=gmp,procs=1 scheduler=global_queue,procs=2 skynet --blocks 20

)";
constexpr const char* kAaHelp = R"(gearbox aa <experiment> [options]

The noise floor of this machine: the baseline of an experiment against itself, under two labels, over the experiment's workloads. Differences
that it finds are none, and tell how large a difference has to be before it means anything.

  gearbox aa quickstart
  gearbox aa quickstart --budget 300 --dry-run

)";

void add_setting_options(po::options_description& options) {
  options.add_options()("set", po::value<std::vector<std::string>>()->value_name("name=value"),
                        "a parameter, of each of the workloads that has it; may be repeated");
}

Result<OptionPairs> set_pairs(const CommandLine& line) {
  OptionPairs pairs;
  for (const auto& text : line.texts("set")) {
    auto one = split_pairs(text, "the workloads", text);
    if (!one) return Error{"--set " + one.error().message};
    for (const auto& pair : *one) {
      if (std::any_of(pairs.begin(), pairs.end(), [&](const auto& p) { return p.first == pair.first; }))
        return Error{fmt::format("--set {} is given twice", pair.first)};
      pairs.push_back(pair);
    }
  }
  return pairs;
}

int run_draft(const std::string& verb, const CommandLine& line, const Result<Draft>& draft) {
  if (!draft) return usage_error(verb, draft.error());
  auto experiment = parse_experiment(draft_text(*draft), fmt::format("the experiment that `{}` makes", verb));
  if (!experiment) return usage_error(verb, experiment.error());
  return run_experiment(verb, line, std::move(*experiment));
}

Result<Draft> ablation_of(const CommandLine& line) {
  std::vector<std::size_t> named;
  for (std::size_t i = 0; i < kFamilies.size(); ++i)
    if (line.has(std::string(kFamilies[i]).c_str())) named.push_back(i);
  if (named.size() != 1)
    return Error{fmt::format("it turns the switches of one gear: give one of --{}{}", fmt::join(kFamilies, ", --"),
                             named.empty() ? "" : ", and the other gears as --with scheduler=NAME,...")};
  if (line.operands().empty()) return Error{"on which workload? See: gearbox list workloads"};
  auto set = set_pairs(line);
  if (!set) return set.error();
  auto works = works_of(line.operands()[0], *set);
  if (!works) return works.error();
  std::vector<Setting> with;
  if (line.has("with")) {
    auto settings = split_settings(line.text("with"));
    if (!settings) return Error{"--with: " + settings.error().message};
    with = std::move(*settings);
  }
  return draft_ablation(named[0], line.text(std::string(kFamilies[named[0]]).c_str()), with, std::move(*works));
}

Result<Draft> ab_of(const CommandLine& line) {
  if (line.operands().size() < 3) return Error{"it takes A, B and a workload: gearbox ab gmp global_queue skynet"};
  auto set = set_pairs(line);
  if (!set) return set.error();
  auto works = works_of(line.operands()[2], *set);
  if (!works) return works.error();
  return draft_ab(line.operands()[0], line.operands()[1], std::move(*works));
}

Result<Draft> aa_of(const CommandLine& line) {
  if (line.operands().empty()) return Error{"of which experiment? See: gearbox list experiments"};
  auto path = find_experiment(root_folder(), line.operands()[0]);
  if (!path) return path.error();
  auto experiment = load_experiment(*path);
  if (!experiment) return experiment.error();
  return draft_aa(*experiment);
}

int question_verb(const std::string& verb, const Arguments& arguments, po::options_description& options,
                  const std::vector<std::string>& operands, const char* help,
                  Result<Draft> (*draft)(const CommandLine&)) {
  add_sweep_options(options);
  auto line = CommandLine::parse(arguments, options, operands);
  if (!line) return usage_error(verb, line.error());
  if (line->flag("help")) {
    print_help(help, options);
    return kExitOk;
  }
  return run_draft(verb, *line, draft(*line));
}

}  // namespace

int ablate_verb(const Arguments& arguments) {
  po::options_description options("Options");
  for (const auto family : kFamilies)
    options.add_options()(std::string(family).c_str(), po::value<std::string>()->value_name("NAME[:option=value,...]"),
                          fmt::format("the {} whose switches are turned", family).c_str());
  options.add_options()("with", po::value<std::string>()->value_name("factor=level,..."),
                        "what else holds for all cells: collector=stw,procs=2 (default: the default gears)");
  add_setting_options(options);
  return question_verb("ablate", arguments, options, {"workloads"}, kAblateHelp, ablation_of);
}

int ab_verb(const Arguments& arguments) {
  po::options_description options("Options");
  add_setting_options(options);
  return question_verb("ab", arguments, options, {"A", "B", "workloads"}, kAbHelp, ab_of);
}

int aa_verb(const Arguments& arguments) {
  po::options_description options("Options");
  return question_verb("aa", arguments, options, {"one experiment"}, kAaHelp, aa_of);
}

}  // namespace gearbox::harness
