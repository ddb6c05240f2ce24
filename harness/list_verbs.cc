// list, describe, options, experiment-reference: what the registry knows, for people, for programs and for docs/OPTIONS.md.
#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"
#include "base/os/cpu_limit.h"
#include "harness/command_line.h"
#include "harness/experiment.h"
#include "harness/experiment_keys.h"
#include "harness/json.h"

namespace gearbox::harness {
namespace {

Json option_json(const OptionInfo& info) {
  Json out = {{"name", info.name}, {"default", info.value}, {"allowed", info.allowed()}};
  if (info.kind == OptionInfo::Kind::kInteger) {
    out["range"] = {info.range.low, info.range.high};
  } else {
    out["levels"] = info.levels;
  }
  out["text"] = info.text;
  return out;
}

Json options_json(OptionSet& set) {
  Json out = Json::array();
  for (const auto& info : options_of(set)) out.push_back(option_json(info));
  return out;
}

void print_options(OptionSet& set) {
  const auto infos = options_of(set);
  if (infos.empty()) print_out("  no options\n");
  for (const auto& info : infos)
    print_out("  {:<20} default {}, {}\n  {:<20} {}\n", info.name, info.value, info.allowed(), "", info.text);
}

std::string options_table(OptionSet& set) {
  const auto infos = options_of(set);
  if (infos.empty()) return "No options.\n\n";
  std::string out = "| option | default | allowed | meaning |\n|---|---|---|---|\n";
  for (const auto& info : infos) {
    std::string allowed = info.allowed();
    for (std::size_t at = 0; (at = allowed.find('|', at)) != std::string::npos; at += 3) allowed.replace(at, 1, " \\|");
    out += fmt::format("| `{}` | `{}` | {} | {} |\n", info.name, info.value, allowed, info.text);
  }
  return out + "\n";
}

struct IllegalCombo {
  Combo combo;
  std::string reason;
};
// Every combination of members with default options; the ones that do not fit.
std::vector<IllegalCombo> illegal_combos(std::size_t& total) {
  std::vector<IllegalCombo> out;
  total = 0;
  const std::uint64_t procs = default_procs();
  for (const auto& s : gears_of(0))
    for (const auto& a : gears_of(1))
      for (const auto& c : gears_of(2))
        for (const auto& p : gears_of(3)) {
          ++total;
          const Combo combo{s.name, a.name, c.name, p.name};
          if (auto reason = why_illegal_combo(combo, procs)) out.push_back({combo, *reason});
        }
  return out;
}

Json list_json(const std::string& kind) {
  Json out = Json::object();
  for (std::size_t family = 0; family < kFamilies.size(); ++family) {
    const std::string name = std::string(kFamilies[family]) + "s";
    if (!kind.empty() && kind != name) continue;
    Json members = Json::array();
    for (const auto& gear : gears_of(family)) {
      Json traits = Json::object();
      for (const auto& [trait, value] : gear.traits) traits[trait] = value;
      members.push_back({{"name", gear.name},
                         {"summary", gear.summary},
                         {"default", gear.name == kDefaultGears[family]},
                         {"traits", traits}});
    }
    out[name] = members;
  }
  if (kind.empty() || kind == "workloads") {
    Json members = Json::array();
    for (const auto& w : all_workloads())
      members.push_back({{"name", w.name}, {"summary", w.summary}, {"headline", w.headline}});
    out["workloads"] = members;
  }
  if (kind.empty() || kind == "experiments") out["experiments"] = experiment_names(root_folder());
  if (kind.empty() || kind == "matrix") {
    std::size_t total = 0;
    Json illegal = Json::array();
    for (const auto& one : illegal_combos(total)) {
      Json combo = Json::object();
      for (std::size_t i = 0; i < kFamilies.size(); ++i) combo[std::string(kFamilies[i])] = one.combo[i];
      illegal.push_back({{"combo", combo}, {"reason", one.reason}});
    }
    out["matrix"] = {{"combinations", total}, {"illegal", illegal}};
  }
  return out;
}

void print_list(const std::string& kind) {
  for (std::size_t family = 0; family < kFamilies.size(); ++family) {
    const std::string name = std::string(kFamilies[family]) + "s";
    if (!kind.empty() && kind != name) continue;
    print_out("{}\n", name);
    for (const auto& gear : gears_of(family))
      print_out("  {:<16} {}{}\n", gear.name, gear.summary, gear.name == kDefaultGears[family] ? " (default)" : "");
  }
  if (kind.empty() || kind == "workloads") {
    print_out("workloads\n");
    for (const auto& w : all_workloads()) print_out("  {:<16} {}\n", w.name, w.summary);
  }
  if (kind.empty() || kind == "experiments") {
    print_out("experiments\n");
    for (const auto& name : experiment_names(root_folder())) {
      auto experiment = load_experiment(root_folder() + "/experiments/" + name + ".toml");
      print_out("  {:<16} {}\n", name, experiment ? experiment->question : experiment.error().message);
    }
  }
  if (kind.empty() || kind == "matrix") {
    std::size_t total = 0;
    const auto illegal = illegal_combos(total);
    print_out("matrix\n  {} combinations, {} of them legal\n", total, total - illegal.size());
    // One sentence often rules out many combinations: print it once, with their number.
    std::vector<std::pair<std::string, std::size_t>> reasons;
    for (const auto& one : illegal) {
      auto known = std::find_if(reasons.begin(), reasons.end(), [&](const auto& r) { return r.first == one.reason; });
      if (known == reasons.end()) {
        reasons.emplace_back(one.reason, 1);
      } else {
        ++known->second;
      }
    }
    for (const auto& [reason, count] : reasons) print_out("  not together ({} combinations): {}\n", count, reason);
  }
}

const std::vector<std::string> kKinds = {"schedulers", "allocators",  "collectors", "pollers",
                                         "workloads",  "experiments", "matrix"};

void describe(const std::string& title, const std::string& summary,
              const std::vector<std::pair<std::string, std::string>>& traits, OptionSet& set, bool json,
              Result<ForeignLibrary> (*library)() = nullptr) {
  auto opened = library != nullptr ? std::optional(library()) : std::nullopt;
  if (json) {
    Json facts = Json::object();
    for (const auto& [trait, value] : traits) facts[trait] = value;
    Json out = {{"name", title}, {"summary", summary}, {"traits", facts}, {"options", options_json(set)}};
    if (opened)
      out["library"] = *opened
                           ? Json{{"name", (*opened)->name}, {"version", (*opened)->version}, {"file", (*opened)->file}}
                           : Json{{"refused", opened->error().message}};
    print_out("{}\n", to_line(out));
    return;
  }
  print_out("{}\n  {}\n", title, summary);
  if (!traits.empty()) {
    print_out("traits\n");
    for (const auto& [trait, value] : traits) print_out("  {:<20} {}\n", trait, value);
  }
  if (opened)
    print_out("library on this machine\n  {}\n",
              *opened ? fmt::format("{} {} ({})", (*opened)->name, (*opened)->version, (*opened)->file)
                      : opened->error().message);
  print_out("{}\n", title.starts_with("workload") ? "parameters (--set name=value)" : "options");
  print_options(set);
}

Status describe_what(const std::string& what, bool json) {
  if (what == "runtime") {
    RuntimeOptions options;
    OptionView view(options);
    describe("runtime", "The fixed part: goroutines, stacks, safepoints, channels, timers. Set with --runtime.", {},
             view, json);
    if (!json) print_out("procs unless --procs says how many\n  {}\n", os::cpu_limit().why());
    return Ok{};
  }
  const std::size_t equals = what.find('=');
  const std::string kind = what.substr(0, equals);
  const std::string name = equals == std::string::npos ? "" : what.substr(equals + 1);
  std::vector<std::string> kinds(kFamilies.begin(), kFamilies.end());
  kinds.insert(kinds.end(), {"workload", "runtime"});
  if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end())
    return Error{fmt::format("cannot describe '{}'; write scheduler=gmp, with a kind of {}{}", what,
                             fmt::join(kinds, ", "), did_you_mean(kind, kinds))};
  if (kind == "runtime") return Error{"there is one runtime; write: gearbox describe runtime"};
  if (name.empty())
    return Error{
        fmt::format("'{}' names no {}; write {}=NAME, with a name from: gearbox list {}s", what, kind, kind, kind)};
  if (kind == "workload") {
    auto workload = find_workload(name);
    if (!workload) return workload.error();
    describe("workload " + name, std::string(workload->summary), {{"headline", std::string(workload->headline)}},
             *workload->make_params(), json);
    return Ok{};
  }
  const auto family = static_cast<std::size_t>(std::find(kFamilies.begin(), kFamilies.end(), kind) - kFamilies.begin());
  if (auto canonical = canonical_gear(family, name); !canonical) return canonical.error();
  for (const auto& gear : gears_of(family))
    if (gear.name == gear_name(name))
      describe(kind + " " + gear.name, gear.summary, gear.traits, *gear.make_options(), json, gear.library);
  return Ok{};
}

}  // namespace

int list_verb(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("json", po::bool_switch(), "one JSON object")("help,h", po::bool_switch(), "this text");
  auto line = CommandLine::parse(arguments, options, {"a kind"});
  if (!line) return usage_error("list", line.error());
  if (line->flag("help")) {
    print_out(
        "gearbox list [kind] [--json]\n\nLists what there is. A kind is one of {}.\nmatrix says which gears do not go "
        "together, and why.\n",
        fmt::join(kKinds, ", "));
    return kExitOk;
  }
  std::string kind = line->operands().empty() ? "" : line->operands()[0];
  if (!kind.empty() && std::find(kKinds.begin(), kKinds.end(), kind + "s") != kKinds.end()) kind += "s";
  if (!kind.empty() && std::find(kKinds.begin(), kKinds.end(), kind) == kKinds.end())
    return usage_error("list", {fmt::format("there is no kind '{}'; the kinds are {}{}", kind, fmt::join(kKinds, ", "),
                                            did_you_mean(kind, kKinds))});
  if (line->flag("json")) {
    print_out("{}\n", to_line(list_json(kind)));
  } else {
    print_list(kind);
  }
  return kExitOk;
}

int describe_verb(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("json", po::bool_switch(), "one JSON object")("help,h", po::bool_switch(), "this text");
  auto line = CommandLine::parse(arguments, options, {"one thing to describe"});
  if (!line) return usage_error("describe", line.error());
  if (line->flag("help")) {
    print_out(
        "gearbox describe scheduler=NAME | allocator=NAME | collector=NAME | poller=NAME | workload=NAME | runtime "
        "[--json]\n\n"
        "Shows one thing in full: what it is, its traits, and every option with its default, what is allowed, and what "
        "it does.\n");
    return kExitOk;
  }
  if (line->operands().empty())
    return usage_error("describe", {"what? Write scheduler=gmp, workload=sieve, or runtime"});
  if (auto described = describe_what(line->operands()[0], line->flag("json")); !described)
    return usage_error("describe", described.error());
  return kExitOk;
}

int options_verb(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("help,h", po::bool_switch(), "this text");
  auto line = CommandLine::parse(arguments, options, {});
  if (!line) return usage_error("options", line.error());
  if (line->flag("help")) {
    print_out(
        "gearbox options\n\nPrints every option of every gear, workload and the runtime as a Markdown page. "
        "docs/OPTIONS.md is its output:\n"
        "  ./gearbox options > docs/OPTIONS.md\n");
    return kExitOk;
  }
  std::string page =
      "# Options\n\nGenerated by `./gearbox options > docs/OPTIONS.md` from the declarations in the code; a test holds "
      "the two together.\n\n";
  for (std::size_t family = 0; family < kFamilies.size(); ++family) {
    page += fmt::format("## {}s: `--{}=NAME:option=value,...`\n\n", kFamilies[family], kFamilies[family]);
    for (const auto& gear : gears_of(family))
      page += fmt::format("### {}\n\n{}\n\n{}", gear.name, gear.summary, options_table(*gear.make_options()));
  }
  RuntimeOptions runtime;
  OptionView view(runtime);
  page += "## runtime: `--runtime option=value,...`\n\n" + options_table(view);
  page += "## workloads: `--set option=value`\n\n";
  for (const auto& w : all_workloads())
    page += fmt::format("### {}\n\n{}\n\n{}", w.name, w.summary, options_table(*w.make_params()));
  while (page.ends_with("\n\n")) page.pop_back();
  write_out(page);
  return kExitOk;
}

int experiment_reference_verb(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("help,h", po::bool_switch(), "this text");
  auto line = CommandLine::parse(arguments, options, {});
  if (!line) return usage_error("experiment-reference", line.error());
  if (line->flag("help")) {
    print_out(
        "gearbox experiment-reference\n\nPrints every section and key of an experiment file as a Markdown page. "
        "docs/EXPERIMENTS.md is its output:\n"
        "  ./gearbox experiment-reference > docs/EXPERIMENTS.md\n");
    return kExitOk;
  }
  write_out(experiment_reference());
  return kExitOk;
}

}  // namespace gearbox::harness
