// Choice: which four gears, with which options, on how many Ps, under which runtime options, and which workload with
// which parameters. Text in, checked registry entries out. Everything is checked before anything starts; each Error
// names what was wrong, where, and the nearest right thing.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "harness/option_text.h"
#include "interfaces/registry.h"
#include "interfaces/workload.h"
#include "runtime/boot.h"

namespace gearbox::harness {

inline constexpr std::array<std::string_view, 4> kFamilies = {"scheduler", "allocator", "collector", "poller"};
inline constexpr std::array<std::string_view, 4> kDefaultGears = {"gmp", "size_class", "concurrent", "epoll"};
inline constexpr std::uint64_t kMaxProcs = 256;

// What list and describe need of any gear, whatever its family.
struct GearFacts {
  std::string name, summary;
  std::vector<std::pair<std::string, std::string>> traits;  // "work_conserving" -> "yes"
  std::function<std::unique_ptr<OptionSet>()> make_options;
  Result<ForeignLibrary> (*library)() = nullptr;  // null: there is none
};
// Members of a family (an index into kFamilies), sorted by name.
std::vector<GearFacts> gears_of(std::size_t family);

// The four texts as given: "gmp" or "gmp:runnext=off".
using Combo = std::array<std::string, 4>;
inline Combo default_combo() {
  return {std::string(kDefaultGears[0]), std::string(kDefaultGears[1]), std::string(kDefaultGears[2]),
          std::string(kDefaultGears[3])};
}

// Checks one gear's text and returns its canonical form: options in the order of declaration, those at their default
// left out, so that two texts mean the same exactly when their canonical forms are equal.
Result<std::string> canonical_gear(std::size_t family, std::string_view text);

// name -> version of the foreign libraries that a gear of these texts opens, each text once; null instead of the version when
// this machine has none that is supported (the cell then says why). REQUIRES: the texts are valid.
using LibraryVersions = std::vector<std::pair<std::string, std::optional<std::string>>>;
LibraryVersions foreign_libraries(std::size_t family, const std::vector<std::string>& texts);

// Entries and options for a combination of texts.
Result<GearSet> make_gear_set(const Combo& combo);

// The registry's verdict over the traits of a combination: nothing, or the sentence. REQUIRES: the combo's texts are
// valid.
std::optional<std::string> why_illegal_combo(const Combo& combo, std::uint64_t procs);

Result<RuntimeOptions> make_runtime_options(std::string_view text);  // "" or "stack_kib=32,sysmon=off"
Result<std::uint64_t> parse_procs(std::string_view text);
std::uint64_t default_procs();  // one P per CPU this process may use (base/os/cpu_limit.h)

Result<WorkloadEntry> find_workload(std::string_view name);
// Parameters of a workload with the pairs set.
Result<std::unique_ptr<OptionSet>> make_params(const WorkloadEntry& workload, const OptionPairs& pairs);

// "name" alone, or with the part of the gear's text that names it: "gmp" of "gmp:runnext=off".
std::string_view gear_name(std::string_view text);

}  // namespace gearbox::harness
