#include "harness/choice.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"
#include "base/os/cpu_limit.h"

namespace gearbox::harness {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

std::string yes_no(bool value) { return value ? "yes" : "no"; }
Pairs facts(const SchedulerTraits& t) {
  return {{"work_conserving", yes_no(t.work_conserving)},
          {"needs_preemption", yes_no(t.needs_preemption)},
          {"max_procs", t.max_procs == 0 ? "any" : std::to_string(t.max_procs)}};
}
Pairs facts(const AllocatorTraits& t) {
  return {{"can_free", yes_no(t.can_free)},
          {"native_spans", yes_no(t.native_spans)},
          {"concurrent_sweep", yes_no(t.concurrent_sweep)}};
}
Pairs facts(const CollectorTraits& t) {
  return {{"frees", yes_no(t.frees)},
          {"concurrent_mark", yes_no(t.concurrent_mark)},
          {"concurrent_sweep", yes_no(t.concurrent_sweep)}};
}
Pairs facts(const PollerTraits& t) {
  return {{"completion", yes_no(t.completion)}, {"lane_owner", yes_no(t.lane_owner)}, {"real_io", yes_no(t.real_io)}};
}

template <class Entry>
std::vector<GearFacts> facts_of(const std::vector<Entry>& entries) {
  std::vector<GearFacts> out;
  for (const auto& entry : entries)
    out.push_back(
        {std::string(entry.name), std::string(entry.summary), facts(entry.traits), entry.make_options, entry.library});
  return out;
}

template <class Entry>
struct Chosen {
  Entry entry;
  std::unique_ptr<OptionSet> options;
};

// "gmp:runnext=off" -> the entry and its options, set.
template <class Entry>
Result<Chosen<Entry>> choose(const std::vector<Entry>& entries, std::string_view family, std::string_view text) {
  if (text.empty())
    return Error{fmt::format("--{} is empty; name one of its members, see: gearbox list {}s", family, family)};
  const std::string_view name = gear_name(text);
  std::vector<std::string> names;
  for (const auto& entry : entries) {
    names.emplace_back(entry.name);
    if (entry.name != name) continue;
    Chosen<Entry> chosen{entry, entry.make_options()};
    if (name.size() < text.size()) {
      const std::string owner = fmt::format("{} {}", family, name);
      auto pairs = split_pairs(text.substr(name.size() + 1), owner, text);
      if (!pairs) return pairs.error();
      if (auto set = set_options(*chosen.options, *pairs, owner); !set) return set.error();
    }
    return chosen;
  }
  if (names.empty()) return Error{fmt::format("there is no {} '{}': this build has no {}s", family, name, family)};
  return Error{fmt::format("there is no {} '{}'; there is {}{}", family, name, fmt::join(names, ", "),
                           did_you_mean(name, names))};
}

template <class Entry>
Result<std::string> canonical(const std::vector<Entry>& entries, std::string_view family, std::string_view text) {
  auto chosen = choose(entries, family, text);
  if (!chosen) return chosen.error();
  auto defaults = chosen->entry.make_options();
  const auto changed = changed_options(*chosen->options, *defaults);
  return std::string(chosen->entry.name) + (changed.empty() ? "" : ":" + join_pairs(changed));
}

}  // namespace

std::string_view gear_name(std::string_view text) { return text.substr(0, text.find(':')); }

std::vector<GearFacts> gears_of(std::size_t family) {
  switch (family) {
    case 0:
      return facts_of(all_schedulers());
    case 1:
      return facts_of(all_allocators());
    case 2:
      return facts_of(all_collectors());
    case 3:
      return facts_of(all_pollers());
    default:
      GEARBOX_PANIC("family {} does not exist", family);
  }
}

Result<std::string> canonical_gear(std::size_t family, std::string_view text) {
  switch (family) {
    case 0:
      return canonical(all_schedulers(), kFamilies[0], text);
    case 1:
      return canonical(all_allocators(), kFamilies[1], text);
    case 2:
      return canonical(all_collectors(), kFamilies[2], text);
    case 3:
      return canonical(all_pollers(), kFamilies[3], text);
    default:
      GEARBOX_PANIC("family {} does not exist", family);
  }
}

LibraryVersions foreign_libraries(std::size_t family, const std::vector<std::string>& texts) {
  LibraryVersions out;
  for (const auto& gear : gears_of(family)) {
    const bool named =
        std::any_of(texts.begin(), texts.end(), [&](const auto& text) { return gear_name(text) == gear.name; });
    if (gear.library == nullptr || !named) continue;
    auto library = gear.library();
    out.emplace_back(library ? library->name : gear.name,
                     library ? std::optional<std::string>(library->version) : std::nullopt);
  }
  return out;
}

Result<GearSet> make_gear_set(const Combo& combo) {
  auto scheduler = choose(all_schedulers(), kFamilies[0], combo[0]);
  if (!scheduler) return scheduler.error();
  auto allocator = choose(all_allocators(), kFamilies[1], combo[1]);
  if (!allocator) return allocator.error();
  auto collector = choose(all_collectors(), kFamilies[2], combo[2]);
  if (!collector) return collector.error();
  auto poller = choose(all_pollers(), kFamilies[3], combo[3]);
  if (!poller) return poller.error();
  GearSet set;
  set.scheduler = scheduler->entry;
  set.allocator = allocator->entry;
  set.collector = collector->entry;
  set.poller = poller->entry;
  set.scheduler_options = std::move(scheduler->options);
  set.allocator_options = std::move(allocator->options);
  set.collector_options = std::move(collector->options);
  set.poller_options = std::move(poller->options);
  return set;
}

std::optional<std::string> why_illegal_combo(const Combo& combo, std::uint64_t procs) {
  auto set = make_gear_set(combo);
  GEARBOX_REQUIRE(set.ok(), "{}", set.error().message);
  return why_illegal(set->scheduler, set->allocator, set->collector, set->poller, procs);
}

Result<RuntimeOptions> make_runtime_options(std::string_view text) {
  RuntimeOptions options;
  if (text.empty()) return options;
  auto pairs = split_pairs(text, "the runtime", text);
  if (!pairs) return pairs.error();
  OptionView view(options);
  if (auto set = set_options(view, *pairs, "the runtime"); !set) return set.error();
  return options;
}

Result<std::uint64_t> parse_procs(std::string_view text) { return parse_integer(text, {1, kMaxProcs}, "--procs"); }

std::uint64_t default_procs() {
  return std::min<std::uint64_t>(static_cast<std::uint64_t>(os::cpu_limit().procs), kMaxProcs);
}

Result<WorkloadEntry> find_workload(std::string_view name) {
  std::vector<std::string> names;
  for (auto& workload : all_workloads()) {
    if (workload.name == name) return workload;
    names.emplace_back(workload.name);
  }
  if (names.empty()) return Error{fmt::format("there is no workload '{}': this build has no workloads", name)};
  return Error{
      fmt::format("there is no workload '{}'; there is {}{}", name, fmt::join(names, ", "), did_you_mean(name, names))};
}

Result<std::unique_ptr<OptionSet>> make_params(const WorkloadEntry& workload, const OptionPairs& pairs) {
  auto params = workload.make_params();
  if (auto set = set_options(*params, pairs, fmt::format("workload {}", workload.name)); !set) return set.error();
  return params;
}

}  // namespace gearbox::harness
