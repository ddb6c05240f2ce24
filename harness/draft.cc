#include "harness/draft.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"
#include "harness/plan.h"

namespace gearbox::harness {
namespace {

using Levels = std::vector<std::pair<std::string, std::vector<std::string>>>;

constexpr std::uint64_t kAbBlocks = 10, kAblationBlocks = 6;

// As TOML has it. Control characters do not come from a registry; from a command line they may.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += fmt::format("\\{}", c);
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

bool is_bare_number(const std::string& text) {
  auto number = parse_integer(text, {0, INT64_MAX}, "");
  return number && std::to_string(*number) == text;
}

// A level of a factor, or a value of a parameter.
std::string value_text(const std::string& value) { return is_bare_number(value) ? value : quoted(value); }

std::string name_of_file(const std::string& text) {
  std::string name;
  for (const char c : text) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    name += plain ? c : '-';
  }
  return name;
}

std::string names_of(const std::vector<Experiment::Work>& works) {
  std::vector<std::string> names;
  for (const auto& work : works) names.push_back(work.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

// "gmp:runnext=off" -> the scheduler with that level. Where '=' stands before any ':', settings.
Result<std::vector<Setting>> side_of(const std::string& text) {
  const std::size_t equals = text.find('='), colon = text.find(':');
  if (equals != std::string::npos && equals < colon) return split_settings(text);
  std::vector<Setting> found;
  std::vector<std::string> members;
  for (std::size_t family = 0; family < kFamilies.size(); ++family) {
    for (const auto& gear : gears_of(family)) {
      if (std::find(members.begin(), members.end(), gear.name) == members.end()) members.push_back(gear.name);
      if (gear.name == gear_name(text)) found.emplace_back(find_factor(kFamilies[family]).value(), text);
    }
  }
  if (found.empty())
    return Error{fmt::format("there is no gear '{}'; there is {}{}", gear_name(text), fmt::join(members, ", "),
                             did_you_mean(gear_name(text), members))};
  if (found.size() > 1) {
    std::vector<std::string> ways;
    for (const auto& [factor, level] : found) ways.push_back(fmt::format("{}={}", factor.name, level));
    return Error{
        fmt::format("'{}' is the name of more than one gear; write {}", gear_name(text), fmt::join(ways, " or "))};
  }
  return found;
}

std::optional<std::string> level_in(const std::vector<Setting>& side, const std::string& factor) {
  for (const auto& [one, level] : side)
    if (one.name == factor) return level;
  return std::nullopt;
}

Result<std::string> checked_level(const Factor& factor, const std::string& level) {
  if (factor.kind == Factor::Kind::kGear) return canonical_gear(factor.family, level);
  if (factor.kind == Factor::Kind::kProcs) return canonical_level(factor, level, {}, {});
  return level;  // the reader of the file knows which workloads and gears it is for
}

std::vector<std::string> always() {
  std::vector<std::string> names(kFamilies.begin(), kFamilies.end());
  names.emplace_back("procs");
  return names;
}
std::string default_level(const std::string& factor) {
  for (std::size_t i = 0; i < kFamilies.size(); ++i)
    if (kFamilies[i] == factor) return std::string(kDefaultGears[i]);
  return std::to_string(default_procs());
}

}  // namespace

std::string draft_text(const Draft& draft) {
  std::string out = fmt::format("schema = 1\n\n[experiment]\nname = {}\nquestion = {}\nhypothesis = {}\n\n[factors]\n",
                                quoted(draft.name), quoted(draft.question), quoted(draft.hypothesis));
  for (const auto& [name, levels] : draft.factors) {
    std::vector<std::string> texts;
    const bool gear = std::find(kFamilies.begin(), kFamilies.end(), name) != kFamilies.end() || name == "label";
    for (const auto& level : levels) texts.push_back(gear ? quoted(level) : value_text(level));
    out +=
        fmt::format("{} = [{}]\n", name.find('.') == std::string::npos ? name : quoted(name), fmt::join(texts, ", "));
  }
  for (const auto& work : draft.workloads) {
    out += fmt::format("\n[[workload]]\nname = {}\n", quoted(work.name));
    std::vector<std::string> params;
    for (const auto& [name, value] : work.params) params.push_back(fmt::format("{} = {}", name, value_text(value)));
    if (!params.empty()) out += fmt::format("params = {{ {} }}\n", fmt::join(params, ", "));
  }
  if (!draft.forbid.empty()) {
    std::vector<std::string> texts;
    for (const auto& text : draft.forbid) texts.push_back(quoted(text));
    out += fmt::format("\n[constraints]\nforbid = [{}]\n", fmt::join(texts, ", "));
  }
  out += fmt::format("\n[design]\nkind = {}\n", quoted(draft.kind));
  if (!draft.ablate.empty()) out += fmt::format("ablate = {}\n", quoted(draft.ablate));
  out += fmt::format("blocks = {}\nseed = {}\n\n[run]\ntimeout_s = {}\nmem_limit_mb = {}\n", draft.blocks, draft.seed,
                     draft.timeout_s, draft.mem_limit_mib);
  if (!draft.runtime.empty()) out += fmt::format("runtime = {}\n", quoted(draft.runtime));
  return out;
}

Result<Levels> settled(const std::vector<Setting>& settings) {
  Levels factors;
  for (const auto& name : always()) {
    auto factor = find_factor(name);
    auto level = checked_level(*factor, level_in(settings, name).value_or(default_level(name)));
    if (!level) return level.error();
    factors.push_back({name, {*level}});
  }
  for (const auto& [factor, level] : settings)
    if (factor.kind != Factor::Kind::kGear && factor.kind != Factor::Kind::kProcs)
      factors.push_back({factor.name, {level}});
  return factors;
}

Result<std::vector<Experiment::Work>> works_of(const std::string& names, const OptionPairs& set) {
  std::vector<Experiment::Work> works;
  std::vector<bool> used(set.size(), false);
  std::vector<std::string> params;
  for (std::size_t at = 0; at <= names.size();) {
    const std::size_t end = std::min(names.find(',', at), names.size());
    const std::string name = names.substr(at, end - at);
    at = end + 1;
    auto workload = find_workload(name);
    if (!workload) return workload.error();
    if (std::any_of(works.begin(), works.end(), [&](const auto& work) { return work.name == name; }))
      return Error{fmt::format("workload {} is named twice", name)};
    Experiment::Work work{name, {}};
    auto made = workload->make_params();
    for (const auto& info : options_of(*made)) {
      params.push_back(info.name);
      for (std::size_t i = 0; i < set.size(); ++i) {
        if (set[i].first != info.name) continue;
        used[i] = true;
        work.params.push_back(set[i]);
      }
    }
    if (auto checked = make_params(*workload, work.params); !checked) return checked.error();
    works.push_back(std::move(work));
  }
  for (std::size_t i = 0; i < set.size(); ++i)
    if (!used[i])
      return Error{fmt::format("--set {}={}: none of the workloads {} has that parameter; there is {}{}", set[i].first,
                               set[i].second, names, fmt::join(params, ", "), did_you_mean(set[i].first, params))};
  return works;
}

Result<Draft> draft_ab(const std::string& a, const std::string& b, std::vector<Experiment::Work> works) {
  std::vector<Setting> sides[2];
  for (const auto& [text, side] : {std::pair(&a, &sides[0]), std::pair(&b, &sides[1])}) {
    auto found = side_of(*text);
    if (!found) return found.error();
    *side = std::move(*found);
  }
  // Two gears of different kinds are no alternatives; with settings, what is meant has been said.
  const auto bare = [](const std::string& text) {
    return text.find('=') > text.find(':') || text.find('=') == std::string::npos;
  };
  if (bare(a) && bare(b) && sides[0][0].first.name != sides[1][0].first.name)
    return Error{
        fmt::format("{} is a member of {} and {} of {}: they do not stand for one another; write {}={} against "
                    "another {}, or settings of several gears, {}={},{}=...",
                    a, sides[0][0].first.name, b, sides[1][0].first.name, sides[0][0].first.name, a,
                    sides[0][0].first.name, sides[0][0].first.name, a, sides[1][0].first.name)};
  Draft draft;
  std::vector<std::string> names = always();
  for (const auto& side : sides)
    for (const auto& [factor, level] : side) {
      const bool defaulted = factor.kind == Factor::Kind::kGear || factor.kind == Factor::Kind::kProcs;
      for (const auto& other : sides)
        if (!defaulted && !level_in(other, factor.name))
          return Error{fmt::format("one side says {}={}, and the other does not say what it has there; say it in both",
                                   factor.name, level)};
      if (std::find(names.begin(), names.end(), factor.name) == names.end()) names.push_back(factor.name);
    }
  bool differ = false;
  for (const auto& name : names) {
    auto factor = find_factor(name);
    std::vector<std::string> levels;
    for (const auto& side : sides) {
      auto level = checked_level(*factor, level_in(side, name) ? *level_in(side, name) : default_level(name));
      if (!level) return level.error();
      levels.push_back(*level);
    }
    if (levels[0] == levels[1]) levels.pop_back();
    differ = differ || levels.size() == 2;
    draft.factors.push_back({name, levels});
  }
  if (!differ) draft.factors.push_back({"label", {"A", "B"}});
  draft.name = name_of_file(fmt::format("ab-{}-{}", gear_name(a), gear_name(b))).substr(0, 80);
  draft.question = differ ? fmt::format("Is {} faster or slower than {} on {}?", b, a, names_of(works))
                          : fmt::format("How different does {} look from itself on {}?", a, names_of(works));
  draft.hypothesis = differ ? "There is a difference." : "There is none: what is seen is the noise of this machine.";
  draft.workloads = std::move(works);
  draft.kind = "ab";
  draft.blocks = kAbBlocks;
  return draft;
}

Result<Draft> draft_ablation(std::size_t family, const std::string& member, const std::vector<Setting>& with,
                             std::vector<Experiment::Work> works) {
  auto canonical = canonical_gear(family, member);
  if (!canonical) return canonical.error();
  for (const auto& [factor, level] : with)
    if (factor.name == kFamilies[family])
      return Error{fmt::format("--with {}={}: the {} is what is ablated, and --{} names it", factor.name, level,
                               factor.name, factor.name)};
  auto factors = settled(with);
  if (!factors) return factors.error();
  Draft draft;
  draft.factors = std::move(*factors);
  draft.factors[family].second = {*canonical};
  draft.name = name_of_file(fmt::format("ablate-{}", gear_name(member)));
  draft.question = fmt::format("Which switches of {} matter on {}?", *canonical, names_of(works));
  draft.hypothesis = fmt::format("Each switch of {} is where it should be: no other level is faster.", *canonical);
  draft.workloads = std::move(works);
  draft.kind = "ablation";
  draft.ablate = kFamilies[family];
  draft.blocks = kAblationBlocks;
  return draft;
}

Result<Draft> draft_aa(const Experiment& experiment) {
  Draft draft;
  for (const auto& factor : experiment.factors)
    if (factor.kind != Factor::Kind::kLabel) draft.factors.push_back({factor.name, {factor.baseline_level()}});
  // The baseline's gears may not have an option that another level has; then it is no factor here.
  std::erase_if(draft.factors, [&](const auto& one) {
    const Factor& factor = experiment.factor(one.first);
    return factor.kind == Factor::Kind::kGearOption &&
           !canonical_level(factor, one.second[0], {}, {experiment.factor(kFamilies[factor.family]).baseline_level()});
  });
  draft.factors.push_back({"label", {"A", "B"}});
  draft.name = ("aa-" + experiment.name).substr(0, 80);
  draft.question = fmt::format("How different does the baseline of {} look from itself?", experiment.name);
  draft.hypothesis = "There is no difference: what is seen is the noise of this machine.";
  draft.workloads = experiment.workloads;
  for (auto& work : draft.workloads)
    std::erase_if(work.params, [&](const auto& pair) {
      return std::any_of(experiment.factors.begin(), experiment.factors.end(), [&](const auto& factor) {
        return factor.kind == Factor::Kind::kParam && factor.option == pair.first;
      });
    });
  draft.kind = "ab";
  draft.blocks = kAbBlocks;
  draft.seed = experiment.seed;
  draft.timeout_s = experiment.timeout_s;
  draft.mem_limit_mib = experiment.mem_limit_mib;
  draft.runtime = experiment.runtime;
  // What the file forbids stays forbidden where it speaks of the baseline; a filter that matches nothing is an error.
  auto all = parse_experiment(draft_text(draft), draft.name);
  if (!all) return all.error();
  auto plan = make_plan(*all, "", nullptr);
  if (!plan) return plan.error();
  for (const auto& filter : experiment.forbid)
    if (std::any_of(plan->cells.begin(), plan->cells.end(), [&](const Cell& cell) { return filter.matches(cell); }))
      draft.forbid.push_back(filter.text());
  return draft;
}

}  // namespace gearbox::harness
