// ExperimentKeys: every key that an experiment file may have, declared once: the reader (experiment.cc) takes names,
// ranges and defaults from here, and docs/EXPERIMENTS.md is printed from here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "interfaces/option.h"

namespace gearbox::harness {

struct ExperimentKey {
  enum class Type { kText, kInteger, kNumber, kLevels, kTexts, kTable };
  std::string_view section, name;  // section: "" for the top of the file, "workload" for [[workload]]
  Type type;
  bool mandatory;
  std::string_view
      fallback;              // the value without the key, as the file would have it, or in words; "" when there is none
  Range range;               // of kInteger
  double low, high;          // of kNumber
  std::string_view allowed;  // of the other types, in words
  std::string_view text;     // one sentence
};

struct ExperimentSection {
  std::string_view name;
  bool mandatory;
  std::string_view text;
};

const std::vector<ExperimentKey>& experiment_keys();
const std::vector<ExperimentSection>& experiment_sections();
// REQUIRES: there is such a key.
const ExperimentKey& experiment_key(std::string_view section, std::string_view name);
std::vector<std::string> key_names(std::string_view section);

// docs/EXPERIMENTS.md.
std::string experiment_reference();

}  // namespace gearbox::harness
