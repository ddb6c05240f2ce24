#include "harness/experiment.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/nearest.h"
#include "base/os/file.h"

namespace gearbox::harness {
namespace {

// Thrown inside this file only, from wherever the mistake is found up to parse_experiment().
struct Refused {
  std::string sentence;
};

// A table of the file that knows its name, for errors with file and line.
class Section {
 public:
  Section(const toml::table& table, std::string name, const std::string& path, std::vector<std::string> keys)
      : table_(table), name_(std::move(name)), path_(path) {
    for (const auto& [key, node] : table_) {
      const std::string text(key.str());
      if (std::find(keys.begin(), keys.end(), text) == keys.end())
        refuse(key.source().begin.line, fmt::format("{} has no key '{}'; its keys are {}{}", name_, text,
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
  const toml::node* find(std::string_view key) const { return table_.get(key); }
  std::string key_name(std::string_view key) const { return fmt::format("{} {}", name_, key); }

  std::string text(std::string_view key, std::optional<std::string> fallback = std::nullopt) const {
    const auto* node = find(key);
    if (node == nullptr) {
      if (fallback) return *fallback;
      refuse(line(), fmt::format("{} needs a key '{}'", name_, key));
    }
    if (!node->is_string()) refuse(line(key), fmt::format("{} must be a text in quotes", key_name(key)));
    std::string value = node->as_string()->get();
    if (value.find_first_not_of(" \t\n") == std::string::npos && !fallback)
      refuse(line(key), fmt::format("{} is empty; say it in a sentence", key_name(key)));
    return value;
  }
  std::uint64_t integer(std::string_view key, std::uint64_t fallback, Range range) const {
    const auto* node = find(key);
    return node == nullptr ? fallback : integer_of(*node, key_name(key), range);
  }
  double number(std::string_view key, double fallback, double low, double high) const {
    const auto* node = find(key);
    if (node == nullptr) return fallback;
    const auto value = node->value<double>();  // whole numbers, too
    if (!node->is_number() || !value || !(*value >= low && *value <= high))
      refuse(line(key), fmt::format("{} must be a number from {} to {}", key_name(key), low, high));
    return *value;
  }
  std::uint64_t integer_of(const toml::node& node, const std::string& what, Range range) const {
    const auto* number = node.as_integer();
    if (number == nullptr)
      refuse(node.source().begin.line,
             fmt::format("{} must be a whole number from {} to {}", what, range.low, range.high));
    const std::int64_t value = number->get();
    if (value < 0 || static_cast<std::uint64_t>(value) < range.low || static_cast<std::uint64_t>(value) > range.high)
      refuse(node.source().begin.line, fmt::format("{} takes a whole number from {} to {}, and {} is out of that range",
                                                   what, range.low, range.high, value));
    return static_cast<std::uint64_t>(value);
  }
  // One node or an array of them, never empty; nothing when the key is absent.
  std::vector<const toml::node*> nodes(std::string_view key) const {
    std::vector<const toml::node*> out;
    const auto* node = find(key);
    if (node == nullptr) return out;
    if (const auto* array = node->as_array()) {
      for (const auto& element : *array) out.push_back(&element);
      if (out.empty())
        refuse(line(key), fmt::format("{} is an empty list; leave it out for the default", key_name(key)));
    } else {
      out.push_back(node);
    }
    return out;
  }

 private:
  const toml::table& table_;
  std::string name_;
  const std::string& path_;
};

class Reader {
 public:
  Reader(const toml::table& root, const std::string& path) : root_(root), path_(path) {}

  Experiment read() {
    const Section top(root_, "the file", path_,
                      {"schema", "experiment", "factors", "workload", "constraints", "design", "run", "analysis"});
    if (top.integer("schema", 0, {0, 1'000'000}) != 1)
      top.refuse(top.line("schema"), "schema must be there and 1, the only one this program knows");
    const Section facts = section("experiment", {"name", "question", "hypothesis"}, true);
    out_.name = facts.text("name");
    const bool plain = std::all_of(out_.name.begin(), out_.name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    });
    if (!plain)
      facts.refuse(facts.line("name"), fmt::format("'{}' names a folder: use letters, digits, '-' and '_'", out_.name));
    out_.question = facts.text("question");
    out_.hypothesis = facts.text("hypothesis");
    read_factors();
    read_workloads(top);
    read_rest();
    return std::move(out_);
  }

 private:
  Section section(const std::string& name, std::vector<std::string> keys, bool mandatory = false) {
    const auto* node = root_.get(name);
    if (node == nullptr) {
      if (mandatory) throw Refused{fmt::format("{}:1: the file needs a section [{}]", path_, name)};
      return {empty_, "[" + name + "]", path_, std::move(keys)};
    }
    if (!node->is_table())
      throw Refused{fmt::format("{}:{}: '{}' must be a section, [{}]", path_, node->source().begin.line, name, name)};
    return {*node->as_table(), "[" + name + "]", path_, std::move(keys)};
  }

  void read_factors() {
    const Section factors = section("factors", {"scheduler", "allocator", "collector", "poller", "procs"});
    for (std::size_t family = 0; family < kFamilies.size(); ++family) {
      auto& levels = out_.levels[family];
      for (const auto* node : factors.nodes(kFamilies[family])) {
        if (!node->is_string())
          factors.refuse(node->source().begin.line, fmt::format("{} holds a level that is not a text in quotes",
                                                                factors.key_name(kFamilies[family])));
        auto canonical = canonical_gear(family, node->as_string()->get());
        if (!canonical) factors.refuse(node->source().begin.line, canonical.error().message);
        if (std::find(levels.begin(), levels.end(), *canonical) != levels.end())
          factors.refuse(node->source().begin.line,
                         fmt::format("{} holds '{}' twice: '{}' is the same", factors.key_name(kFamilies[family]),
                                     *canonical, node->as_string()->get()));
        levels.push_back(*canonical);
      }
      if (levels.empty()) {
        auto canonical = canonical_gear(family, kDefaultGears[family]);
        if (!canonical) factors.refuse(factors.line(), canonical.error().message);
        levels.push_back(*canonical);
      }
      out_.baseline[family] = levels.front();
    }
    for (const auto* node : factors.nodes("procs")) {
      const std::uint64_t procs = factors.integer_of(*node, factors.key_name("procs"), {1, kMaxProcs});
      if (std::find(out_.procs.begin(), out_.procs.end(), procs) != out_.procs.end())
        factors.refuse(node->source().begin.line, fmt::format("{} holds {} twice", factors.key_name("procs"), procs));
      out_.procs.push_back(procs);
    }
    if (out_.procs.empty()) out_.procs.push_back(default_procs());
  }

  void read_workloads(const Section& top) {
    const auto* list = top.find("workload");
    if (list == nullptr || !list->is_array_of_tables())
      top.refuse(
          top.line("workload"),
          "the file needs at least one workload: [[workload]] with a name, and perhaps params = { key = value }");
    std::vector<std::string> seen;
    for (const auto& node : *list->as_array()) {
      const Section entry(*node.as_table(), "[[workload]]", path_, {"name", "params"});
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
          std::string text;
          if (value.is_string()) {
            text = value.as_string()->get();
          } else if (value.is_boolean()) {
            text = value.as_boolean()->get() ? "on" : "off";
          } else if (value.is_integer()) {
            text = std::to_string(value.as_integer()->get());
          } else {
            entry.refuse(line,
                         fmt::format("parameter {} of workload {} must be a whole number, true or false, or a text",
                                     key.str(), work.name));
          }
          auto status = set_options(*set, {{std::string(key.str()), text}}, fmt::format("workload {}", work.name));
          if (!status) entry.refuse(line, status.error().message);
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

  void read_rest() {
    const Section constraints = section("constraints", {"forbid"});
    for (const auto* node : constraints.nodes("forbid")) {
      const std::uint32_t line = node->source().begin.line;
      if (!node->is_string())
        constraints.refuse(line, "[constraints] forbid holds texts like \"collector=none & workload=sieve\"");
      auto filter = Filter::parse(node->as_string()->get(), fmt::format("{}:{}", path_, line));
      if (!filter) throw Refused{filter.error().message};
      out_.forbid.push_back(*filter);
    }
    const Section design = section("design", {"kind", "blocks", "seed"});
    out_.kind = design.text("kind", out_.kind);
    const std::vector<std::string> kinds = {"factorial", "ofat"};
    if (std::find(kinds.begin(), kinds.end(), out_.kind) == kinds.end())
      design.refuse(design.line("kind"), fmt::format("[design] kind has no value '{}'; its values are {}{}", out_.kind,
                                                     fmt::join(kinds, "|"), did_you_mean(out_.kind, kinds)));
    out_.blocks = design.integer("blocks", out_.blocks, {1, 1000});
    out_.seed = design.integer("seed", out_.seed, {0, INT64_MAX});
    const Section run = section("run", {"timeout_s", "mem_limit_mb", "runtime"});
    out_.timeout_s = run.integer("timeout_s", out_.timeout_s, {1, 86400});
    out_.mem_limit_mib = run.integer("mem_limit_mb", out_.mem_limit_mib, {0, 1 << 30});
    out_.runtime = run.text("runtime", "");
    auto runtime = make_runtime_options(out_.runtime);
    if (!runtime) run.refuse(run.line("runtime"), runtime.error().message);
    RuntimeOptions defaults;
    OptionView now_view(*runtime), default_view(defaults);
    out_.runtime = join_pairs(changed_options(now_view, default_view));
    const Section analysis = section("analysis", {"baseline", "alpha", "rope_pct"});
    out_.alpha = analysis.number("alpha", out_.alpha, 0.0001, 0.5);
    out_.rope_pct = analysis.number("rope_pct", out_.rope_pct, 0, 50);
    const std::string baseline = analysis.text("baseline", "");
    if (!baseline.empty()) read_baseline(analysis, baseline);
  }

  // "scheduler=gmp:runnext=off,steal=one,collector=stw": a comma separates gears when a family's name follows, and the
  // options of one gear otherwise.
  void read_baseline(const Section& analysis, const std::string& text) {
    const std::uint32_t line = analysis.line("baseline");
    const auto family_of = [](std::string_view piece) {
      const auto name = piece.substr(0, piece.find('='));
      return static_cast<std::size_t>(std::find(kFamilies.begin(), kFamilies.end(), name) - kFamilies.begin());
    };
    std::vector<std::string> gears;
    for (std::size_t at = 0; at <= text.size();) {
      const std::size_t end = std::min(text.find(',', at), text.size());
      const std::string piece = text.substr(at, end - at);
      const bool option =
          family_of(piece) == kFamilies.size() && !gears.empty() && gears.back().find(':') != std::string::npos;
      if (option) {
        gears.back() += "," + piece;
      } else {
        gears.push_back(piece);
      }
      at = end + 1;
    }
    std::array<bool, kFamilies.size()> given{};
    for (const auto& piece : gears) {
      const std::size_t index = family_of(piece), equals = piece.find('=');
      if (index == kFamilies.size() || equals == std::string::npos)
        analysis.refuse(line, fmt::format("[analysis] baseline: '{}' does not begin with one of {} and '='", piece,
                                          fmt::join(kFamilies, ", ")));
      if (given[index]) analysis.refuse(line, fmt::format("[analysis] baseline names the {} twice", kFamilies[index]));
      given[index] = true;
      const std::string gear = piece.substr(equals + 1);
      auto canonical = canonical_gear(index, gear);
      if (!canonical) analysis.refuse(line, "[analysis] baseline: " + canonical.error().message);
      const auto& levels = out_.levels[index];
      auto level = std::find(levels.begin(), levels.end(), *canonical);
      // A bare name may stand for the one level that it can mean.
      const auto same_name = [&](const auto& l) { return gear_name(l) == gear; };
      if (level == levels.end() && std::count_if(levels.begin(), levels.end(), same_name) == 1)
        level = std::find_if(levels.begin(), levels.end(), same_name);
      if (level == levels.end())
        analysis.refuse(line, fmt::format("[analysis] baseline: {}={} is not among the levels {}{}", kFamilies[index],
                                          gear, fmt::join(levels, " | "), did_you_mean(gear, levels)));
      out_.baseline[index] = *level;
    }
  }

  const toml::table& root_;
  const std::string& path_;
  toml::table empty_;
  Experiment out_;
};

}  // namespace

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
