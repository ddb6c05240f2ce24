#include "harness/filter.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"

namespace gearbox::harness {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

std::optional<std::string> find_pair(const OptionPairs& pairs, const std::string& name) {
  for (const auto& [key, value] : pairs)
    if (key == name) return value;
  return std::nullopt;
}

}  // namespace

// A value that one of the workloads or gears takes, which need not be one of this experiment.
Result<std::string> Filter::canonical(const Factor& factor, const std::string& value) {
  std::vector<std::string> owners;
  if (factor.kind == Factor::Kind::kParam) {
    for (const auto& workload : all_workloads()) owners.emplace_back(workload.name);
  } else if (factor.kind == Factor::Kind::kGearOption) {
    for (const auto& gear : gears_of(factor.family)) owners.push_back(gear.name);
  } else {
    return canonical_level(factor, value, {}, {});
  }
  Error said{""};
  for (const auto& owner : owners) {
    const bool has = factor.kind == Factor::Kind::kParam
                         ? [&] {
                             auto workload = find_workload(owner);
                             const auto infos = options_of(*workload->make_params());
                             return std::any_of(infos.begin(), infos.end(),
                                                [&](const auto& info) { return info.name == factor.option; });
                           }()
                         : true;
    if (!has) continue;
    auto found = canonical_level(factor, value, {owner}, {owner});
    if (found) return found;
    if (said.message.empty() || found.error().message.starts_with("option")) said = found.error();
  }
  return said;
}

Result<Filter> Filter::parse(std::string_view text, const std::string& where) {
  Filter filter;
  filter.text_ = text;
  filter.where_ = where;
  const std::vector<std::string> keys = {
      "workload", "scheduler",  "allocator",      "collector",        "poller",          "procs",
      "label",    "param.NAME", "runtime.OPTION", "scheduler.OPTION", "collector.OPTION"};
  std::string_view rest = text;
  for (;;) {
    const std::size_t end = rest.find('&');
    const std::string_view piece = trimmed(rest.substr(0, end));
    const std::size_t at = piece.find_first_of("=<>!");
    const auto not_a_filter = [&] {
      return Error{
          fmt::format("{}: '{}' is not a filter: write key=value, joined by '&', with a key of {}; instead of = "
                      "also !=, and between numbers <, <=, >, >=",
                      where, text, fmt::join(keys, ", "))};
    };
    if (piece.empty() || at == std::string_view::npos) return not_a_filter();
    Term term;
    term.key = trimmed(piece.substr(0, at));
    const std::size_t length = piece[at] != '=' && at + 1 < piece.size() && piece[at + 1] == '=' ? 2 : 1;
    term.compare = piece.substr(at, length);
    term.value = trimmed(piece.substr(at + length));
    if (term.compare == "!" || term.value.empty() || term.key.empty()) return not_a_filter();
    const bool compares = term.compare[0] == '<' || term.compare[0] == '>';
    if (term.key != "workload") {
      auto factor = find_factor(term.key);
      if (!factor) {
        const std::string bare = term.key.substr(0, term.key.find('.'));
        if (term.key.find('.') == std::string::npos &&
            factor.error().message.find("did you mean 'param") == std::string::npos)
          return Error{fmt::format("{}: there is no filter key '{}'; the keys are {}{}", where, term.key,
                                   fmt::join(keys, ", "), did_you_mean(bare, keys))};
        return Error{fmt::format("{}: {}", where, factor.error().message)};
      }
      term.factor = *factor;
    }
    if (compares) {
      const bool names =
          !term.factor || term.factor->kind == Factor::Kind::kGear || term.factor->kind == Factor::Kind::kLabel;
      if (names)
        return Error{fmt::format("{}: '{}' compares numbers, and {} is a name; write {}= or {}!=", where, piece,
                                 term.key, term.key, term.key)};
      auto number = parse_integer(term.value, {0, UINT64_MAX}, fmt::format("{}: {} {}", where, term.key, term.compare));
      if (!number) return number.error();
      term.value = std::to_string(*number);
    } else if (term.factor) {
      auto value = canonical(*term.factor, term.value);
      if (!value) return Error{fmt::format("{}: {}", where, value.error().message)};
      term.value = *value;
    } else if (auto workload = find_workload(term.value); !workload) {
      return Error{fmt::format("{}: {}", where, workload.error().message)};
    }
    filter.terms_.push_back(std::move(term));
    if (end == std::string_view::npos) return filter;
    rest.remove_prefix(end + 1);
  }
}

std::optional<std::string> Filter::value_in(const Cell& cell, const Term& term) {
  if (!term.factor) return cell.workload;
  switch (term.factor->kind) {
    case Factor::Kind::kGear:
      return cell.combo[term.factor->family];
    case Factor::Kind::kProcs:
      return std::to_string(cell.procs);
    case Factor::Kind::kParam:
      return find_pair(cell.params, term.factor->option);
    case Factor::Kind::kRuntime:
      return find_pair(cell.runtime_options, term.factor->option);
    case Factor::Kind::kGearOption:
      return find_pair(cell.gear_options[term.factor->family], term.factor->option);
    case Factor::Kind::kLabel:
      return find_pair(cell.levels, term.factor->name);
  }
  GEARBOX_PANIC("no such kind of factor");
}

bool Filter::matches(const Cell& cell) const {
  return std::all_of(terms_.begin(), terms_.end(), [&](const auto& term) { return matches(cell, term); });
}

bool Filter::matches(const Cell& cell, const Term& term) {
  const auto value = value_in(cell, term);
  if (!value) return false;
  if (term.compare == "=" || term.compare == "!=") {
    const bool gear = term.factor && term.factor->kind == Factor::Kind::kGear;
    const bool equal = *value == term.value || (gear && gear_name(*value) == term.value);
    return equal == (term.compare == "=");
  }
  auto left = parse_integer(*value, {0, UINT64_MAX}, ""), right = parse_integer(term.value, {0, UINT64_MAX}, "");
  if (!left || !right) return false;
  if (term.compare == "<") return *left < *right;
  if (term.compare == "<=") return *left <= *right;
  if (term.compare == ">") return *left > *right;
  return *left >= *right;
}

std::string Filter::why_none(const std::vector<Cell>& cells) const {
  for (const auto& term : terms_) {
    std::vector<std::string> there;
    bool any = false;
    for (const auto& cell : cells) {
      any = any || matches(cell, term);
      if (const auto has = value_in(cell, term); has && std::find(there.begin(), there.end(), *has) == there.end())
        there.push_back(*has);
    }
    if (any) continue;
    if (there.empty()) return fmt::format("{} says nothing to any of its cells", term.key);
    return fmt::format("no cell has {}{}{}; there is {}{}", term.key, term.compare, term.value, fmt::join(there, ", "),
                       term.compare == "=" ? did_you_mean(term.value, there) : "");
  }
  return "each of its terms matches some cell, but no cell matches all of them";
}

}  // namespace gearbox::harness
