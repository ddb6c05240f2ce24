#include "harness/option_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/nearest.h"

namespace gearbox::harness {
namespace {

class Collector final : public OptionVisitor {
 public:
  std::vector<OptionInfo> found;

 protected:
  void integer(std::string_view name, std::uint64_t& value, Range range, std::string_view text) override {
    found.push_back(
        {std::string(name), std::string(text), OptionInfo::Kind::kInteger, range, {}, std::to_string(value)});
  }
  void flag(std::string_view name, bool& value, std::string_view text) override {
    found.push_back(
        {std::string(name), std::string(text), OptionInfo::Kind::kFlag, {}, {"off", "on"}, value ? "on" : "off"});
  }
  void choice(std::string_view name, std::size_t& index, const std::vector<std::string>& levels,
              std::string_view text) override {
    GEARBOX_REQUIRE(index < levels.size(), "option {} holds level {} of {}", name, index, levels.size());
    found.push_back({std::string(name), std::string(text), OptionInfo::Kind::kChoice, {}, levels, levels[index]});
  }
};

class Setter final : public OptionVisitor {
 public:
  Setter(std::string_view name, std::string_view value, std::string_view owner)
      : name_(name), value_(value), owner_(owner) {}
  std::optional<Error> error;

 protected:
  void integer(std::string_view name, std::uint64_t& value, Range range, std::string_view) override {
    if (name != name_) return;
    auto number = parse_integer(value_, range, fmt::format("option {} of {}", name_, owner_));
    if (number) {
      value = *number;
    } else {
      error = number.error();
    }
  }
  void flag(std::string_view name, bool& value, std::string_view) override {
    if (name != name_) return;
    if (value_ == "on" || value_ == "off") {
      value = value_ == "on";
    } else {
      refuse({"on", "off"});
    }
  }
  void choice(std::string_view name, std::size_t& index, const std::vector<std::string>& levels,
              std::string_view) override {
    if (name != name_) return;
    const auto found = std::find(levels.begin(), levels.end(), value_);
    if (found == levels.end()) return refuse(levels);
    index = static_cast<std::size_t>(found - levels.begin());
  }

 private:
  void refuse(const std::vector<std::string>& levels) {
    error = Error{fmt::format("option {} of {} has no value '{}'; its values are {}{}", name_, owner_, value_,
                              fmt::join(levels, "|"), did_you_mean(value_, levels))};
  }
  std::string_view name_, value_, owner_;
};

}  // namespace

std::string OptionInfo::allowed() const {
  if (kind == Kind::kInteger) return fmt::format("{}..{}", range.low, range.high);
  return fmt::format("{}", fmt::join(levels, "|"));
}

std::vector<OptionInfo> options_of(OptionSet& set) {
  Collector collector;
  set.visit(collector);
  return collector.found;
}

Result<std::uint64_t> parse_integer(std::string_view text, Range range, std::string_view what) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, number);
  const bool whole =
      !text.empty() && rest == end && (failure == std::errc() || failure == std::errc::result_out_of_range);
  if (!whole)
    return Error{
        fmt::format("{} takes a whole number from {} to {}, and '{}' is not one", what, range.low, range.high, text)};
  if (failure == std::errc::result_out_of_range || number < range.low || number > range.high)
    return Error{fmt::format("{} takes a whole number from {} to {}, and {} is out of that range", what, range.low,
                             range.high, text)};
  return number;
}

Result<OptionPairs> split_pairs(std::string_view text, std::string_view owner, std::string_view whole) {
  OptionPairs pairs;
  for (;;) {
    const std::size_t comma = text.find(',');
    const std::string_view piece = text.substr(0, comma);
    const std::size_t equals = piece.find('=');
    if (piece.empty())
      return Error{
          fmt::format("'{}': an option of {} is missing before or after a ',' or ':'; write name=value", whole, owner)};
    if (equals == std::string_view::npos)
      return Error{
          fmt::format("'{}': '{}' is not an option of {} with a value; write name=value", whole, piece, owner)};
    std::string name(piece.substr(0, equals)), value(piece.substr(equals + 1));
    if (name.empty()) return Error{fmt::format("'{}': '{}' has no option name before its '='", whole, piece)};
    if (value.empty()) return Error{fmt::format("'{}': option {} of {} has an empty value", whole, name, owner)};
    for (const auto& [earlier, earlier_value] : pairs)
      if (earlier == name)
        return Error{fmt::format("'{}': option {} of {} is given twice, as {} and as {}", whole, name, owner,
                                 earlier_value, value)};
    pairs.emplace_back(std::move(name), std::move(value));
    if (comma == std::string_view::npos) return pairs;
    text.remove_prefix(comma + 1);
  }
}

Status set_options(OptionSet& set, const OptionPairs& pairs, std::string_view owner) {
  std::vector<std::string> names;
  for (const auto& info : options_of(set)) names.push_back(info.name);
  for (const auto& [name, value] : pairs) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      if (names.empty()) return Error{fmt::format("{} has no option '{}'; it has no options at all", owner, name)};
      return Error{fmt::format("{} has no option '{}'; its options are {}{}", owner, name, fmt::join(names, ", "),
                               did_you_mean(name, names))};
    }
    Setter setter(name, value, owner);
    set.visit(setter);
    if (setter.error) return *setter.error;
  }
  return Ok{};
}

OptionPairs all_options(OptionSet& set) {
  OptionPairs pairs;
  for (const auto& info : options_of(set)) pairs.emplace_back(info.name, info.value);
  return pairs;
}

OptionPairs changed_options(OptionSet& set, OptionSet& defaults) {
  OptionPairs changed;
  const auto now = options_of(set), before = options_of(defaults);
  for (std::size_t i = 0; i < now.size(); ++i)
    if (now[i].value != before[i].value) changed.emplace_back(now[i].name, now[i].value);
  return changed;
}

std::string join_pairs(const OptionPairs& pairs) {
  std::string out;
  for (const auto& [name, value] : pairs) out += fmt::format("{}{}={}", out.empty() ? "" : ",", name, value);
  return out;
}

}  // namespace gearbox::harness
