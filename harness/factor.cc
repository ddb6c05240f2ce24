#include "harness/factor.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"

namespace gearbox::harness {
namespace {

std::vector<std::string> option_names(OptionSet& set) {
  std::vector<std::string> names;
  for (const auto& info : options_of(set)) names.push_back(info.name);
  return names;
}

bool contains(const std::vector<std::string>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

void add_new(std::vector<std::string>& list, const std::vector<std::string>& more) {
  for (const auto& item : more)
    if (!contains(list, item)) list.push_back(item);
}

std::vector<std::string> runtime_option_names() {
  RuntimeOptions options;
  OptionView view(options);
  return option_names(view);
}

std::vector<std::string> gear_option_names(std::size_t family) {
  std::vector<std::string> names;
  for (const auto& gear : gears_of(family)) add_new(names, option_names(*gear.make_options()));
  return names;
}

std::vector<std::string> param_names() {
  std::vector<std::string> names;
  for (const auto& workload : all_workloads()) add_new(names, option_names(*workload.make_params()));
  return names;
}

bool member_has(std::size_t family, std::string_view text, const std::string& option) {
  for (const auto& gear : gears_of(family))
    if (gear.name == gear_name(text)) return contains(option_names(*gear.make_options()), option);
  return false;
}

std::string value_of(OptionSet& set, const std::string& name) {
  for (const auto& info : options_of(set))
    if (info.name == name) return info.value;
  GEARBOX_PANIC("there is no option {}", name);
}

// "gmp" and "steal=one" -> "gmp:steal=one"; "gmp:runnext=off" -> "gmp:runnext=off,steal=one".
std::string with_option(const std::string& gear, const std::string& option, const std::string& value) {
  return fmt::format("{}{}{}={}", gear, gear.find(':') == std::string::npos ? ':' : ',', option, value);
}

// Whether a piece of a settings text begins a setting of its own: "procs=2", and not "steal=one" behind "gmp:runnext=off,".
bool begins_setting(std::string_view piece, bool after_options) {
  const std::string_view name = piece.substr(0, piece.find('='));
  const bool known = name == "procs" || name == "label" || name.find('.') != std::string_view::npos ||
                     std::find(kFamilies.begin(), kFamilies.end(), name) != kFamilies.end();
  return known || !after_options;
}

}  // namespace

Result<Factor> find_factor(std::string_view name) {
  Factor factor;
  factor.name = name;
  const std::size_t dot = name.find('.');
  const std::string_view owner = name.substr(0, dot);
  const auto family = std::find(kFamilies.begin(), kFamilies.end(), owner);
  factor.family = family == kFamilies.end() ? 0 : static_cast<std::size_t>(family - kFamilies.begin());
  std::vector<std::string> all(kFamilies.begin(), kFamilies.end());
  all.insert(all.end(), {"procs", "label", "param.NAME", "runtime.OPTION", "scheduler.OPTION", "allocator.OPTION",
                         "collector.OPTION", "poller.OPTION"});
  if (dot == std::string_view::npos) {
    if (name == "procs" || name == "label" || family != kFamilies.end()) {
      factor.kind = name == "procs"   ? Factor::Kind::kProcs
                    : name == "label" ? Factor::Kind::kLabel
                                      : Factor::Kind::kGear;
      return factor;
    }
    // A bare name of a parameter or option is the likeliest slip.
    std::vector<std::string> meant;
    if (contains(param_names(), name)) meant.push_back(fmt::format("param.{}", name));
    if (contains(runtime_option_names(), name)) meant.push_back(fmt::format("runtime.{}", name));
    for (std::size_t i = 0; i < kFamilies.size(); ++i)
      if (contains(gear_option_names(i), name)) meant.push_back(fmt::format("{}.{}", kFamilies[i], name));
    return Error{fmt::format(
        "there is no factor '{}'; the factors are {}{}", name, fmt::join(all, ", "),
        meant.empty() ? did_you_mean(name, all) : fmt::format("; did you mean '{}'?", fmt::join(meant, "' or '")))};
  }
  factor.option = name.substr(dot + 1);
  std::vector<std::string> options;
  std::string what;
  if (owner == "param") {
    factor.kind = Factor::Kind::kParam;
    options = param_names();
    what = "no workload has a parameter";
  } else if (owner == "runtime") {
    factor.kind = Factor::Kind::kRuntime;
    options = runtime_option_names();
    what = "the runtime has no option";
  } else if (family != kFamilies.end()) {
    factor.kind = Factor::Kind::kGearOption;
    options = gear_option_names(factor.family);
    what = fmt::format("no {} has an option", owner);
  } else {
    return Error{
        fmt::format("there is no factor '{}'; the factors are {}{}", name, fmt::join(all, ", "),
                    did_you_mean(owner, {"param", "runtime", "scheduler", "allocator", "collector", "poller"}))};
  }
  if (contains(options, factor.option)) return factor;
  std::string elsewhere;  // "runtime.gogc" means the collector's
  for (std::size_t i = 0; i < kFamilies.size(); ++i)
    if (elsewhere.empty() && contains(gear_option_names(i), factor.option))
      elsewhere = fmt::format("; did you mean '{}.{}'?", kFamilies[i], factor.option);
  if (elsewhere.empty() && contains(runtime_option_names(), factor.option))
    elsewhere = fmt::format("; did you mean 'runtime.{}'?", factor.option);
  if (elsewhere.empty() && contains(param_names(), factor.option))
    elsewhere = fmt::format("; did you mean 'param.{}'?", factor.option);
  return Error{fmt::format("factor {}: {} '{}'; there is {}{}", name, what, factor.option, fmt::join(options, ", "),
                           elsewhere.empty() ? did_you_mean(factor.option, options) : elsewhere)};
}

Result<std::string> canonical_level(const Factor& factor, std::string_view text,
                                    const std::vector<std::string>& workloads,
                                    const std::vector<std::string>& members) {
  const OptionPairs pair = {{factor.option, std::string(text)}};
  switch (factor.kind) {
    case Factor::Kind::kGear:
      return canonical_gear(factor.family, text);
    case Factor::Kind::kLabel:
      if (text.empty() || text.find_first_of(" =&,<>") != std::string_view::npos)
        return Error{
            fmt::format("label takes words without spaces, '=', '&', ',', '<' and '>', and '{}' is not one", text)};
      return std::string(text);
    case Factor::Kind::kProcs: {
      auto procs = parse_integer(text, {1, kMaxProcs}, "procs");
      if (!procs) return procs.error();
      return std::to_string(*procs);
    }
    case Factor::Kind::kRuntime: {
      RuntimeOptions options;
      OptionView view(options);
      if (auto set = set_options(view, pair, "the runtime"); !set) return set.error();
      return value_of(view, factor.option);
    }
    case Factor::Kind::kParam: {
      std::string canonical;
      for (const auto& name : workloads) {
        auto workload = find_workload(name);
        if (!workload) return workload.error();
        auto params = workload->make_params();
        if (!contains(option_names(*params), factor.option)) continue;
        if (auto set = set_options(*params, pair, fmt::format("workload {}", name)); !set) return set.error();
        canonical = value_of(*params, factor.option);
      }
      if (!canonical.empty()) return canonical;
      std::vector<std::string> have;
      for (const auto& name : workloads)
        if (auto workload = find_workload(name)) add_new(have, option_names(*workload->make_params()));
      std::vector<std::string> owners;
      for (const auto& workload : all_workloads())
        if (contains(option_names(*workload.make_params()), factor.option)) owners.emplace_back(workload.name);
      return Error{fmt::format("no workload of this experiment has a parameter '{}', only {} would; there is {}{}",
                               factor.option, fmt::join(owners, ", "), fmt::join(have, ", "),
                               did_you_mean(factor.option, have))};
    }
    case Factor::Kind::kGearOption: {
      std::string canonical;
      for (const auto& gear : gears_of(factor.family)) {
        const bool named = std::any_of(members.begin(), members.end(),
                                       [&](const auto& member) { return gear_name(member) == gear.name; });
        auto options = gear.make_options();
        if (!named || !contains(option_names(*options), factor.option)) continue;
        const std::string owner = fmt::format("{} {}", kFamilies[factor.family], gear.name);
        if (auto set = set_options(*options, pair, owner); !set) return set.error();
        canonical = value_of(*options, factor.option);
      }
      if (!canonical.empty()) return canonical;
      return Error{fmt::format("no level of {}, which is {}, has an option '{}'", kFamilies[factor.family],
                               fmt::join(members, " | "), factor.option)};
    }
  }
  GEARBOX_PANIC("no such kind of factor");
}

Result<std::vector<Setting>> split_settings(std::string_view text) {
  std::vector<std::string> pieces;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view piece = text.substr(at, end - at);
    const bool after_options = !pieces.empty() && pieces.back().find(':') != std::string::npos;
    if (begins_setting(piece, after_options)) {
      pieces.emplace_back(piece);
    } else {
      pieces.back() += fmt::format(",{}", piece);
    }
    at = end + 1;
  }
  std::vector<Setting> settings;
  for (const auto& piece : pieces) {
    const std::size_t equals = piece.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == piece.size())
      return Error{fmt::format("'{}' is not a factor with a level; write scheduler=gmp", piece)};
    auto factor = find_factor(piece.substr(0, equals));
    if (!factor) return factor.error();
    for (const auto& [earlier, level] : settings)
      if (earlier.name == factor->name) return Error{fmt::format("'{}' sets {} twice", text, factor->name)};
    settings.emplace_back(*factor, piece.substr(equals + 1));
  }
  return settings;
}

Status apply_level(const Factor& factor, const std::string& level, Cell& cell) {
  switch (factor.kind) {
    case Factor::Kind::kGear:
      cell.combo[factor.family] = level;
      break;
    case Factor::Kind::kProcs: {
      auto procs = parse_procs(level);
      if (!procs) return procs.error();
      cell.procs = *procs;
      break;
    }
    case Factor::Kind::kLabel:
      break;
    case Factor::Kind::kParam: {
      const auto param = std::find_if(cell.params.begin(), cell.params.end(),
                                      [&](const auto& pair) { return pair.first == factor.option; });
      if (param == cell.params.end()) return Ok{};
      param->second = level;
      break;
    }
    case Factor::Kind::kRuntime: {
      auto runtime = make_runtime_options(cell.runtime);
      if (!runtime) return runtime.error();
      OptionView view(*runtime);
      if (auto set = set_options(view, {{factor.option, level}}, "the runtime"); !set) return set.error();
      RuntimeOptions defaults;
      OptionView before(defaults);
      cell.runtime = join_pairs(changed_options(view, before));
      break;
    }
    case Factor::Kind::kGearOption: {
      std::string& gear = cell.combo[factor.family];
      if (!member_has(factor.family, gear, factor.option)) return Ok{};
      auto canonical = canonical_gear(factor.family, with_option(gear, factor.option, level));
      if (!canonical) return canonical.error();
      gear = *canonical;
      break;
    }
  }
  cell.levels.emplace_back(factor.name, level);
  return Ok{};
}

std::vector<Switch> switches_of(std::size_t family, const std::string& text) {
  auto canonical = canonical_gear(family, text);
  GEARBOX_REQUIRE(canonical.ok(), "{}", canonical.error().message);
  std::vector<Switch> switches;
  for (const auto& gear : gears_of(family)) {
    if (gear.name != gear_name(text)) continue;
    auto options = gear.make_options();
    if (text.size() > gear.name.size()) {
      auto pairs = split_pairs(std::string_view(text).substr(gear.name.size() + 1), gear.name, text);
      GEARBOX_REQUIRE(pairs.ok() && set_options(*options, *pairs, gear.name).ok(), "{} is no valid text", text);
    }
    for (const auto& info : options_of(*options)) {
      if (info.kind == OptionInfo::Kind::kInteger) continue;
      Switch one{info.name, {info.value}};
      add_new(one.levels, info.levels);
      switches.push_back(std::move(one));
    }
  }
  return switches;
}

std::string without_switches(std::size_t family, const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) return text;
  auto pairs = split_pairs(std::string_view(text).substr(colon + 1), gear_name(text), text);
  GEARBOX_REQUIRE(pairs.ok(), "{}", pairs.error().message);
  const auto switches = switches_of(family, text);
  std::erase_if(*pairs, [&](const auto& pair) {
    return std::any_of(switches.begin(), switches.end(), [&](const auto& one) { return one.option == pair.first; });
  });
  return std::string(gear_name(text)) + (pairs->empty() ? "" : ":" + join_pairs(*pairs));
}

}  // namespace gearbox::harness
