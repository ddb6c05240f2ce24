// Factor: one thing that an experiment varies, by the name that experiment files, filters, manifests and records use:
//
//   scheduler, allocator, collector, poller   a gear; a level is a member, with options if wanted ("gmp:runnext=off")
//   procs                                     how many Ps
//   param.NAME                                a parameter, of each workload that has it
//   runtime.OPTION                            an option of the fixed part
//   GEAR.OPTION                               an option of each level of that gear that has it ("scheduler.runnext")
//   label                                     nothing but a name: its levels run the same cell (A against A)
//
// A factor that says nothing to a cell (a parameter that the workload lacks) leaves the cell alone and is no part of its
// levels. All names and levels are checked against the registry here; no thread keeps state here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "harness/cell.h"
#include "harness/choice.h"

namespace gearbox::harness {

struct Factor {
  enum class Kind { kGear, kProcs, kParam, kRuntime, kGearOption, kLabel };
  Kind kind = Kind::kGear;
  std::string name;
  std::size_t family = 0;           // of kGear and kGearOption: an index into kFamilies
  std::string option;               // of kParam, kRuntime and kGearOption: the name behind the dot
  std::vector<std::string> levels;  // canonical texts, none twice
  std::size_t baseline = 0;         // index of the level that the others are compared with

  const std::string& baseline_level() const { return levels.at(baseline); }
};

// What a name means, without levels. Error: no such factor; says what there is.
Result<Factor> find_factor(std::string_view name);

// The canonical form of a level's text; two texts mean the same exactly when it is equal. `workloads`: those that a
// parameter is for. `members`: the gear texts that an option of a gear is for. Error: the text is no level of the factor,
// or none of them has the parameter or option.
Result<std::string> canonical_level(const Factor& factor, std::string_view text,
                                    const std::vector<std::string>& workloads, const std::vector<std::string>& members);

// A factor and the text of a level, as in "scheduler=gmp:runnext=off,steal=one,procs=2".
using Setting = std::pair<Factor, std::string>;
// Splits such a text: a comma separates settings when a factor's name and '=' follow, and the options of one gear
// otherwise. Level texts are not checked. Error: names the piece that is no setting, or a factor that is set twice.
Result<std::vector<Setting>> split_settings(std::string_view text);

// Gives a cell the level, and notes it in cell.levels, if the factor says anything to the cell. REQUIRES: the level is
// canonical; an option of a gear comes after the gear. cell.params holds every parameter of the workload.
Status apply_level(const Factor& factor, const std::string& level, Cell& cell);

// All values with which a gear's text can be told what the option of that name is: its levels, the one of the text first.
// Nothing for a number, which has a range and no levels. REQUIRES: the text is valid.
struct Switch {
  std::string option;
  std::vector<std::string> levels;
};
std::vector<Switch> switches_of(std::size_t family, const std::string& text);

// The text without its switches: name and numbers only. REQUIRES: the text is valid.
std::string without_switches(std::size_t family, const std::string& text);

}  // namespace gearbox::harness
