// The text form of options, "runnext=off,steal=half", over any OptionSet: what there is to set, setting it, and what is
// set. No thread keeps state here. Every Error is one sentence that names the owner, the option, the value, what is
// allowed and the nearest match.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "interfaces/option.h"

namespace gearbox::harness {

struct OptionInfo {
  enum class Kind { kInteger, kFlag, kChoice };
  std::string name, text;
  Kind kind = Kind::kInteger;
  Range range;                      // kInteger only
  std::vector<std::string> levels;  // kFlag: off, on. kChoice: its words
  std::string value;                // as it is now; straight after make_options() that is the default

  // "16..65536" or "on|off": how help and errors show what is allowed.
  std::string allowed() const;
};

// All options of a set, in the order of their declaration.
std::vector<OptionInfo> options_of(OptionSet& set);

// name -> value text, in the order of declaration.
using OptionPairs = std::vector<std::pair<std::string, std::string>>;

// "a=1,b=off" -> pairs. `owner` ("scheduler gmp") and `whole` (the text as the user gave it) go into errors. Refuses
// empty pieces, missing '=', empty names and values, and an option named twice.
Result<OptionPairs> split_pairs(std::string_view text, std::string_view owner, std::string_view whole);

// Sets each pair. Nothing outside the set changes; after an Error the set is partly set and must be thrown away.
Status set_options(OptionSet& set, const OptionPairs& pairs, std::string_view owner);

// Every option with its value, in the order of declaration.
OptionPairs all_options(OptionSet& set);

// The pairs that differ from what `defaults` holds, in the order of declaration: the canonical text form.
OptionPairs changed_options(OptionSet& set, OptionSet& defaults);
std::string join_pairs(const OptionPairs& pairs);

// A whole number between low and high and nothing else: no sign, no space, no trailing text. `what` begins the sentence
// of the Error.
Result<std::uint64_t> parse_integer(std::string_view text, Range range, std::string_view what);

// An options struct that lives elsewhere, seen as a set. The struct must outlive the view.
template <class Options>
class OptionView final : public OptionSet {
 public:
  explicit OptionView(Options& options) : options_(options) {}
  void visit(OptionVisitor& visitor) override { options_.visit(visitor); }

 private:
  Options& options_;
};

}  // namespace gearbox::harness
