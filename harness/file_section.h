// FileSection: one table of an experiment file with the keys that experiment_keys.h declares for it; each mistake is
// thrown as a Refused sentence that begins with file and line. Included by experiment.cc alone.
#pragma once

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/nearest.h"
#include "harness/experiment_keys.h"
#include "harness/option_text.h"

namespace gearbox::harness {

// Caught where the reading of a file begins, and turned into a Result.
struct Refused {
  std::string sentence;
};

class FileSection {
 public:
  // section: as in experiment_keys(). title: as a sentence names it, "[design]". open: the names of keys are for the
  // caller to check.
  FileSection(const toml::table& table, std::string section, std::string title, const std::string& path,
              bool open = false)
      : table_(table), section_(std::move(section)), title_(std::move(title)), path_(path) {
    if (open) return;
    const std::vector<std::string> keys = known();
    for (const auto& [key, node] : table_) {
      const std::string text(key.str());
      if (std::find(keys.begin(), keys.end(), text) == keys.end())
        refuse(key.source().begin.line, fmt::format("{} has no key '{}'; its keys are {}{}", title_, text,
                                                    fmt::join(keys, ", "), did_you_mean(text, keys)));
    }
  }
  [[noreturn]] void refuse(std::uint32_t line, const std::string& what) const {
    throw Refused{fmt::format("{}:{}: {}", path_, line, what)};
  }
  std::uint32_t line() const { return table_.source().begin.line; }
  std::uint32_t line(std::string_view key) const {
    const auto* node = table_.get(key);
    return node != nullptr ? node->source().begin.line : line();
  }
  const toml::table& table() const { return table_; }
  const toml::node* find(std::string_view key) const { return table_.get(key); }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  std::string key_name(std::string_view key) const { return fmt::format("{} {}", title_, key); }

  // What the key says, or what it is declared to be without it. Texts whose fallback is said in words are empty then.
  std::string text(std::string_view key) const {
    const auto& declared = experiment_key(section_, key);
    const bool mandatory = declared.mandatory;
    const auto* node = find(key);
    if (node == nullptr) {
      if (!mandatory)
        return declared.fallback.find(' ') == std::string_view::npos ? std::string(declared.fallback) : "";
      refuse(line(), fmt::format("{} needs a key '{}'", title_, key));
    }
    if (!node->is_string()) refuse(line(key), fmt::format("{} must be a text in quotes", key_name(key)));
    std::string value = node->as_string()->get();
    if (value.find_first_not_of(" \t\n") == std::string::npos && mandatory)
      refuse(line(key), fmt::format("{} is empty; say it in a sentence", key_name(key)));
    return value;
  }
  std::uint64_t integer(std::string_view key) const {
    if (const auto value = optional_integer(key)) return *value;
    auto fallback = parse_integer(experiment_key(section_, key).fallback, {0, UINT64_MAX}, key);
    GEARBOX_REQUIRE(fallback.ok(), "{}", fallback.error().message);
    return *fallback;
  }
  // Of a key whose fallback is not a number.
  std::optional<std::uint64_t> optional_integer(std::string_view key) const {
    const Range range = experiment_key(section_, key).range;
    const auto* node = find(key);
    if (node == nullptr) return std::nullopt;
    const std::string what = key_name(key);
    const auto* number = node->as_integer();
    if (number == nullptr)
      refuse(line(key), fmt::format("{} must be a whole number from {} to {}", what, range.low, range.high));
    const std::int64_t value = number->get();
    if (value < 0 || static_cast<std::uint64_t>(value) < range.low || static_cast<std::uint64_t>(value) > range.high)
      refuse(line(key), fmt::format("{} takes a whole number from {} to {}, and {} is out of that range", what,
                                    range.low, range.high, value));
    return static_cast<std::uint64_t>(value);
  }
  double number(std::string_view key) const {
    const auto& declared = experiment_key(section_, key);
    const auto* node = find(key);
    if (node == nullptr) return std::strtod(std::string(declared.fallback).c_str(), nullptr);
    const auto value = node->value<double>();  // whole numbers, too
    if (!node->is_number() || !value || !(*value >= declared.low && *value <= declared.high))
      refuse(line(key), fmt::format("{} must be a number from {} to {}", key_name(key), declared.low, declared.high));
    return *value;
  }
  // One node or an array of them, never empty; nothing when the key is absent.
  std::vector<const toml::node*> nodes(std::string_view key) const {
    const auto* node = find(key);
    return node == nullptr ? std::vector<const toml::node*>() : nodes_of(*node, key_name(key));
  }
  std::vector<const toml::node*> nodes_of(const toml::node& node, const std::string& what) const {
    std::vector<const toml::node*> out;
    if (const auto* array = node.as_array()) {
      for (const auto& element : *array) out.push_back(&element);
      if (out.empty())
        refuse(node.source().begin.line, fmt::format("{} is an empty list; leave it out for the default", what));
    } else {
      out.push_back(&node);
    }
    return out;
  }

 private:
  std::vector<std::string> known() const { return key_names(section_); }

  const toml::table& table_;
  std::string section_, title_;
  const std::string& path_;
};

// A value of an option as text: "quoted", 14, true (which is "on"); nothing for anything else.
inline std::optional<std::string> text_of(const toml::node& node) {
  if (node.is_string()) return node.as_string()->get();
  if (node.is_boolean()) return node.as_boolean()->get() ? "on" : "off";
  if (node.is_integer()) return std::to_string(node.as_integer()->get());
  return std::nullopt;
}

}  // namespace gearbox::harness
