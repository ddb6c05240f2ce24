#include "harness/experiment.h"

#include <filesystem>

#include "base/os/file.h"
#include "harness/design.h"
#include "harness/file_section.h"

namespace gearbox::harness {
namespace {

class Reader {
 public:
  Reader(const toml::table& root, const std::string& path) : root_(root), path_(path) {}

  Experiment read() {
    for (const auto& [key, node] : root_) {
      std::vector<std::string> keys = key_names("");
      for (const auto& one : experiment_sections())
        if (!one.name.empty()) keys.emplace_back(one.name);
      const std::string text(key.str());
      if (std::find(keys.begin(), keys.end(), text) == keys.end())
        throw Refused{fmt::format("{}:{}: the file has no key '{}'; its keys are {}{}", path_, key.source().begin.line,
                                  text, fmt::join(keys, ", "), did_you_mean(text, keys))};
    }
    const FileSection top(root_, "", "the file", path_, true);
    const auto* schema = top.find("schema");
    if (schema == nullptr || !schema->is_integer() || schema->as_integer()->get() != 1)
      top.refuse(top.line("schema"), "schema must be there and 1, the only one this program knows");
    const FileSection facts = section("experiment");
    out_.name = facts.text("name");
    const bool plain = std::all_of(out_.name.begin(), out_.name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    });
    if (!plain)
      facts.refuse(facts.line("name"), fmt::format("'{}' names a folder: use letters, digits, '-' and '_'", out_.name));
    out_.question = facts.text("question");
    out_.hypothesis = facts.text("hypothesis");
    read_workloads(top);
    read_factors();
    read_rest();
    return std::move(out_);
  }

 private:
  FileSection section(const std::string& name, bool open = false) {
    const auto* node = root_.get(name);
    if (node == nullptr) {
      for (const auto& one : experiment_sections())
        if (one.name == name && one.mandatory)
          throw Refused{fmt::format("{}:1: the file needs a section [{}]", path_, name)};
      return {empty_, name, "[" + name + "]", path_, open};
    }
    if (!node->is_table())
      throw Refused{fmt::format("{}:{}: '{}' must be a section, [{}]", path_, node->source().begin.line, name, name)};
    return {*node->as_table(), name, "[" + name + "]", path_, open};
  }

  void read_workloads(const FileSection& top) {
    const auto* list = top.find("workload");
    if (list == nullptr || !list->is_array_of_tables())
      top.refuse(
          top.line("workload"),
          "the file needs at least one workload: [[workload]] with a name, and perhaps params = { key = value }");
    std::vector<std::string> seen;
    for (const auto& node : *list->as_array()) {
      const FileSection entry(*node.as_table(), "workload", "[[workload]]", path_);
      Experiment::Work work;
      work.name = entry.text("name");
      auto workload = find_workload(work.name);
      if (!workload) entry.refuse(entry.line("name"), workload.error().message);
      auto set = workload->make_params();
      if (const auto* params = entry.find("params")) {
        if (!params->is_table())
          entry.refuse(entry.line("params"), "[[workload]] params must be a table, { key = value }");
        for (const auto& [key, value] : *params->as_table()) {
          const std::uint32_t line = key.source().begin.line;
          const auto text = text_of(value);
          if (!text)
            entry.refuse(line,
                         fmt::format("parameter {} of workload {} must be a whole number, true or false, or a text",
                                     key.str(), work.name));
          auto status = set_options(*set, {{std::string(key.str()), *text}}, fmt::format("workload {}", work.name));
          if (!status) entry.refuse(line, status.error().message);
          given_.push_back({work.name, std::string(key.str()), line});
        }
      }
      work.params = all_options(*set);
      const std::string same = work.name + ":" + join_pairs(work.params);
      if (std::find(seen.begin(), seen.end(), same) != seen.end())
        entry.refuse(entry.line(), fmt::format("workload {} is there twice with the same parameters", work.name));
      seen.push_back(same);
      out_.workloads.push_back(std::move(work));
    }
  }

  // A factor of the file, before its levels are looked at. Written without quotes, param.depth is a table `param` with a
  // key `depth` in it; both are taken.
  struct Found {
    std::string name;
    const toml::node* node;
    toml::source_position place;
  };
  std::vector<Found> factors_in(const FileSection& section) {
    std::vector<Found> found;
    for (const auto& [key, node] : section.table()) {
      const std::string name(key.str());
      if (const auto* inside = node.as_table()) {
        for (const auto& [option, levels] : *inside)
          found.push_back({fmt::format("{}.{}", name, option.str()), &levels, option.source().begin});
      } else {
        found.push_back({name, &node, key.source().begin});
      }
    }
    const auto place = [](const Found& one) { return std::pair(one.place.line, one.place.column); };
    std::sort(found.begin(), found.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
    return found;
  }

  void read_factors() {
    const FileSection section = this->section("factors", true);
    std::vector<std::string> always(kFamilies.begin(), kFamilies.end());
    always.emplace_back("procs");
    const auto found = factors_in(section);
    for (const auto& name : always) {
      auto factor = find_factor(name);
      const auto there = std::find_if(found.begin(), found.end(), [&](const auto& one) { return one.name == name; });
      if (there != found.end()) {
        read_levels(section, *factor, *there);
      } else {
        const std::string level =
            name == "procs" ? std::to_string(default_procs()) : std::string(kDefaultGears[factor->family]);
        auto canonical = canonical_level(*factor, level, {}, {});
        if (!canonical) section.refuse(section.line(), canonical.error().message);
        factor->levels = {*canonical};
      }
      out_.factors.push_back(std::move(*factor));
    }
    for (const auto& one : found) {
      if (std::find(always.begin(), always.end(), one.name) != always.end()) continue;
      auto factor = find_factor(one.name);
      if (!factor) section.refuse(one.place.line, "[factors]: " + factor.error().message);
      read_levels(section, *factor, one);
      // A value in two places would be two values, of which one is not used.
      if (factor->kind == Factor::Kind::kParam)
        for (const auto& [workload, param, line] : given_)
          if (param == factor->option)
            section.refuse(line, fmt::format("{} is a factor, so that params of workload {} must not set {} as well",
                                             factor->name, workload, param));
      if (factor->kind == Factor::Kind::kGearOption)
        for (const auto& level : out_.factors[factor->family].levels)
          if (sets_option(level, factor->option))
            section.refuse(one.place.line, fmt::format("{} is a factor, so that the level '{}' must not set {} as well",
                                                       factor->name, level, factor->option));
      out_.factors.push_back(std::move(*factor));
    }
  }

  static bool sets_option(const std::string& gear, const std::string& option) {
    const std::size_t colon = gear.find(':');
    if (colon == std::string::npos) return false;
    auto pairs = split_pairs(std::string_view(gear).substr(colon + 1), "", gear);
    return pairs && std::any_of(pairs->begin(), pairs->end(), [&](const auto& pair) { return pair.first == option; });
  }

  void read_levels(const FileSection& section, Factor& factor, const Found& found) {
    const std::string what = fmt::format("[factors] {}", factor.name);
    std::vector<std::string> workloads, members;
    for (const auto& work : out_.workloads) workloads.push_back(work.name);
    if (factor.kind == Factor::Kind::kGearOption) members = out_.factors[factor.family].levels;
    for (const auto* node : section.nodes_of(*found.node, what)) {
      const std::uint32_t line = node->source().begin.line;
      const auto text = text_of(*node);
      const bool gear = factor.kind == Factor::Kind::kGear || factor.kind == Factor::Kind::kLabel;
      if (!text || (gear && !node->is_string()))
        section.refuse(line, fmt::format("{} holds a level that is not {}", what,
                                         gear ? "a text in quotes" : "a whole number, true or false, or a text"));
      if (factor.kind == Factor::Kind::kProcs && !node->is_integer())
        section.refuse(line, fmt::format("{} must be a whole number from 1 to {}", what, kMaxProcs));
      auto canonical = canonical_level(factor, *text, workloads, members);
      if (!canonical)
        section.refuse(line, gear ? canonical.error().message : fmt::format("{}: {}", what, canonical.error().message));
      auto& levels = factor.levels;
      if (std::find(levels.begin(), levels.end(), *canonical) != levels.end())
        section.refuse(line, *canonical == *text
                                 ? fmt::format("{} holds '{}' twice", what, *text)
                                 : fmt::format("{} holds '{}' twice: '{}' is the same", what, *canonical, *text));
      levels.push_back(*canonical);
    }
  }

  void read_rest() {
    const FileSection constraints = section("constraints");
    for (const auto* node : constraints.nodes("forbid")) {
      const std::uint32_t line = node->source().begin.line;
      if (!node->is_string())
        constraints.refuse(line, "[constraints] forbid holds texts like \"collector=none & workload=sieve\"");
      auto filter = Filter::parse(node->as_string()->get(), fmt::format("{}:{}", path_, line));
      if (!filter) throw Refused{filter.error().message};
      out_.forbid.push_back(*filter);
    }
    read_design();
    const FileSection run = section("run");
    out_.timeout_s = run.integer("timeout_s");
    out_.mem_limit_mib = run.integer("mem_limit_mb");
    out_.runtime = run.text("runtime");
    auto runtime = make_runtime_options(out_.runtime);
    if (!runtime) run.refuse(run.line("runtime"), runtime.error().message);
    if (!out_.runtime.empty()) {
      auto pairs = split_pairs(out_.runtime, "the runtime", out_.runtime);
      for (const auto& factor : out_.factors)
        for (const auto& [name, value] : *pairs)
          if (factor.kind == Factor::Kind::kRuntime && factor.option == name)
            run.refuse(run.line("runtime"),
                       fmt::format("{} is a factor, so that [run] runtime must not set {} as well", factor.name, name));
    }
    RuntimeOptions defaults;
    OptionView now_view(*runtime), default_view(defaults);
    out_.runtime = join_pairs(changed_options(now_view, default_view));
    const FileSection analysis = section("analysis");
    out_.alpha = analysis.number("alpha");
    out_.rope_pct = analysis.number("rope_pct");
    const std::string baseline = analysis.text("baseline");
    if (!baseline.empty())
      if (auto set = set_baseline(out_, baseline); !set)
        analysis.refuse(analysis.line("baseline"), "[analysis] baseline: " + set.error().message);
  }

  void read_design() {
    const FileSection design = section("design");
    out_.kind = design.text("kind");
    std::vector<std::string> kinds;
    for (const auto& kind : design_kinds()) kinds.emplace_back(kind.name);
    if (std::find(kinds.begin(), kinds.end(), out_.kind) == kinds.end())
      design.refuse(design.line("kind"), fmt::format("[design] kind has no value '{}'; its values are {}{}", out_.kind,
                                                     fmt::join(kinds, "|"), did_you_mean(out_.kind, kinds)));
    for (const auto& [key, kind] : {std::pair{"ablate", "ablation"}, {"fraction", "fractional"}})
      if (design.has(key) && out_.kind != kind)
        design.refuse(design.line(key), fmt::format("[design] {} belongs to kind = \"{}\", and the kind is \"{}\"", key,
                                                    kind, out_.kind));
    out_.fraction = design.integer("fraction");
    out_.baseline_runs = design.optional_integer("baseline_runs");
    out_.budget_s = design.optional_integer("budget_s");
    out_.blocks = design.optional_integer("blocks").value_or(out_.budget_s ? kBudgetBlocks : out_.blocks);
    if (out_.budget_s && out_.blocks < kBudgetMinBlocks)
      design.refuse(design.line("blocks"),
                    fmt::format("[design] blocks is {}, and a budget needs room for {}, since fewer give no verdict",
                                out_.blocks, kBudgetMinBlocks));
    out_.seed = design.integer("seed");
    if (out_.kind != "ablation") return;
    const std::string family = design.text("ablate");
    const std::vector<std::string> families(kFamilies.begin(), kFamilies.end());
    if (std::find(families.begin(), families.end(), family) == families.end())
      design.refuse(
          design.line("ablate"),
          family.empty()
              ? std::string(
                    "kind = \"ablation\" needs `ablate`, the gear whose switches are turned: ablate = \"scheduler\"")
              : fmt::format("[design] ablate has no value '{}'; its values are {}{}", family, fmt::join(families, "|"),
                            did_you_mean(family, families)));
    add_switches(design, out_.factor(family));
  }

  // Every switch of the one level of the gear becomes a factor, from the levels that the gear declares.
  void add_switches(const FileSection& design, Factor& gear) {
    if (gear.levels.size() != 1)
      design.refuse(design.line("ablate"),
                    fmt::format("an ablation turns the switches of one {}, and [factors] lists {}: {}", gear.name,
                                gear.levels.size(), fmt::join(gear.levels, ", ")));
    const std::size_t family = gear.family;
    const std::string text = gear.levels.front();
    const auto switches = switches_of(family, text);
    if (switches.empty())
      design.refuse(design.line("ablate"), fmt::format("{} {} has no switch to turn", gear.name, gear_name(text)));
    gear.levels = {without_switches(family, text)};
    for (const auto& one : switches) {
      auto factor = find_factor(fmt::format("{}.{}", kFamilies[family], one.option));
      GEARBOX_REQUIRE(factor.ok(), "{}", factor.error().message);
      for (const auto& known : out_.factors)
        if (known.name == factor->name)
          design.refuse(
              design.line("ablate"),
              fmt::format("[factors] {} is a factor by itself, and one of the switches that the ablation turns",
                          known.name));
      factor->levels = one.levels;
      out_.factors.push_back(std::move(*factor));
    }
  }

  struct Given {
    std::string workload, param;
    std::uint32_t line;
  };
  const toml::table& root_;
  const std::string& path_;
  toml::table empty_;
  std::vector<Given> given_;  // parameters that a workload's params set
  Experiment out_;
};

}  // namespace

const Factor& Experiment::factor(std::string_view wanted) const {
  const auto found = std::find_if(factors.begin(), factors.end(), [&](const auto& one) { return one.name == wanted; });
  GEARBOX_REQUIRE(found != factors.end(), "the experiment has no factor {}", wanted);
  return *found;
}
Factor& Experiment::factor(std::string_view wanted) { return const_cast<Factor&>(std::as_const(*this).factor(wanted)); }

Status set_baseline(Experiment& experiment, std::string_view text) {
  auto settings = split_settings(text);
  if (!settings) return settings.error();
  for (const auto& [named, given] : *settings) {
    auto& factors = experiment.factors;
    const auto factor = std::find_if(factors.begin(), factors.end(),
                                     [&, &name = named.name](const auto& one) { return one.name == name; });
    if (factor == factors.end()) {
      std::vector<std::string> names;
      for (const auto& one : factors) names.push_back(one.name);
      return Error{fmt::format("{} is no factor of this experiment; there is {}{}", named.name, fmt::join(names, ", "),
                               did_you_mean(named.name, names))};
    }
    std::string wanted = given;
    if (factor->kind == Factor::Kind::kGear) {
      auto canonical = canonical_gear(factor->family, given);
      if (!canonical) return canonical.error();
      wanted = *canonical;
    }
    const auto& levels = factor->levels;
    auto level = std::find(levels.begin(), levels.end(), wanted);
    const auto same_name = [&](const auto& l) { return factor->kind == Factor::Kind::kGear && gear_name(l) == wanted; };
    if (level == levels.end() && std::count_if(levels.begin(), levels.end(), same_name) == 1)
      level = std::find_if(levels.begin(), levels.end(), same_name);
    if (level == levels.end())
      return Error{fmt::format("{}={} is not among the levels {}{}", factor->name, given, fmt::join(levels, " | "),
                               did_you_mean(wanted, levels))};
    factor->baseline = static_cast<std::size_t>(level - levels.begin());
  }
  return Ok{};
}

Result<Experiment> parse_experiment(const std::string& text, const std::string& path) {
  try {
    const toml::table root = toml::parse(text, path);
    Experiment experiment = Reader(root, path).read();
    experiment.text = text;
    return experiment;
  } catch (const toml::parse_error& failure) {
    return Error{fmt::format("{}:{}: not valid TOML: {}", path, failure.source().begin.line, failure.description())};
  } catch (const Refused& refused) {
    return Error{refused.sentence};
  }
}

Result<Experiment> load_experiment(const std::string& path) {
  auto text = os::read_file(path);
  if (!text) return text.error();
  return parse_experiment(*text, path);
}

std::vector<std::string> experiment_names(const std::string& root) {
  std::vector<std::string> names;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(root + "/experiments", failure))
    if (entry.path().extension() == ".toml") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::string> find_experiment(const std::string& root, const std::string& name_or_path) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(name_or_path, ignored)) return name_or_path;
  const std::string inside = root + "/experiments/" + name_or_path + ".toml";
  if (name_or_path.find('/') == std::string::npos && std::filesystem::is_regular_file(inside, ignored)) return inside;
  const auto names = experiment_names(root);
  return Error{fmt::format("there is no experiment '{}', neither as a file nor in {}/experiments; there is {}{}",
                           name_or_path, root, names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")),
                           did_you_mean(name_or_path, names))};
}

}  // namespace gearbox::harness
