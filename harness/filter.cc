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

std::size_t family_of(std::string_view key) {
  return static_cast<std::size_t>(std::find(kFamilies.begin(), kFamilies.end(), key) - kFamilies.begin());
}

}  // namespace

Result<Filter> Filter::parse(std::string_view text, const std::string& where) {
  Filter filter;
  filter.text_ = text;
  filter.where_ = where;
  const std::vector<std::string> keys = {"workload", "scheduler", "allocator", "collector", "poller", "procs"};
  std::string_view rest = text;
  for (;;) {
    const std::size_t end = rest.find('&');
    const std::string_view term = trimmed(rest.substr(0, end));
    const std::size_t equals = term.find('=');
    if (term.empty() || equals == std::string_view::npos)
      return Error{fmt::format("{}: '{}' is not a filter: write key=value, joined by '&', with a key of {}", where,
                               text, fmt::join(keys, ", "))};
    const std::string key(trimmed(term.substr(0, equals)));
    std::string value(trimmed(term.substr(equals + 1)));
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      return Error{fmt::format("{}: there is no filter key '{}'; the keys are {}{}", where, key, fmt::join(keys, ", "),
                               did_you_mean(key, keys))};
    const auto family = std::find(kFamilies.begin(), kFamilies.end(), key);
    if (family != kFamilies.end()) {
      auto canonical = canonical_gear(static_cast<std::size_t>(family - kFamilies.begin()), value);
      if (!canonical) return Error{fmt::format("{}: {}", where, canonical.error().message)};
      value = *canonical;
    } else if (key == "workload") {
      if (auto workload = find_workload(value); !workload)
        return Error{fmt::format("{}: {}", where, workload.error().message)};
    } else if (auto procs = parse_procs(value); !procs) {
      return Error{fmt::format("{}: {}", where, procs.error().message)};
    }
    filter.terms_.emplace_back(key, value);
    if (end == std::string_view::npos) return filter;
    rest.remove_prefix(end + 1);
  }
}

bool Filter::matches(const Cell& cell) const {
  return std::all_of(terms_.begin(), terms_.end(), [&](const auto& term) { return matches(cell, term); });
}

bool Filter::matches(const Cell& cell, const std::pair<std::string, std::string>& term) const {
  const auto& [key, value] = term;
  if (key == "workload") return cell.workload == value;
  if (key == "procs") return std::to_string(cell.procs) == value;
  const std::string& gear = cell.combo[family_of(key)];
  return gear == value || gear_name(gear) == value;
}

std::string Filter::why_none(const std::vector<Cell>& cells) const {
  for (const auto& term : terms_) {
    std::vector<std::string> there;
    bool any = false;
    for (const auto& cell : cells) {
      any = any || matches(cell, term);
      const std::string has = term.first == "workload" ? cell.workload
                              : term.first == "procs"  ? std::to_string(cell.procs)
                                                       : cell.combo[family_of(term.first)];
      if (std::find(there.begin(), there.end(), has) == there.end()) there.push_back(has);
    }
    if (!any)
      return fmt::format("no cell has {}={}; there is {}{}", term.first, term.second, fmt::join(there, ", "),
                         did_you_mean(term.second, there));
  }
  return "each of its terms matches some cell, but no cell matches all of them";
}

}  // namespace gearbox::harness
