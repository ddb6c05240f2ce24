// Every member of a family with its defaults, and once more with each option at each end of its range, one at a time:
// the names of such cases, and the visitor that sets one.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "interfaces/option.h"

namespace gearbox::testing {

struct OptionEnd {
  std::string gear;
  std::string field;      // empty: all defaults
  std::size_t level = 0;  // 0 low or off, 1 high or on, else the index of a choice
  std::string name() const { return field.empty() ? gear : gear + "_" + field + "_" + std::to_string(level); }
};

// What GoogleTest prints for a parameter.
inline void PrintTo(const OptionEnd& end, std::ostream* out) { *out << end.name(); }

// Lists the ends, or sets one.
class EndVisitor final : public OptionVisitor {
 public:
  explicit EndVisitor(std::vector<OptionEnd>& out, std::string gear) : out_(&out), gear_(std::move(gear)) {}
  explicit EndVisitor(const OptionEnd& set) : set_(&set) {}

 protected:
  void integer(std::string_view name, std::uint64_t& value, Range range, std::string_view) override {
    visit(name, 2, [&](std::size_t level) { value = level == 0 ? range.low : range.high; });
  }
  void flag(std::string_view name, bool& value, std::string_view) override {
    visit(name, 2, [&](std::size_t level) { value = level != 0; });
  }
  void choice(std::string_view name, std::size_t& index, const std::vector<std::string>& levels,
              std::string_view) override {
    visit(name, levels.size(), [&](std::size_t level) { index = level; });
  }

 private:
  void visit(std::string_view name, std::size_t levels, const std::function<void(std::size_t)>& set) {
    if (out_ != nullptr)
      for (std::size_t i = 0; i < levels; ++i) out_->push_back({gear_, std::string(name), i});
    else if (set_->field == name)
      set(set_->level);
  }
  std::vector<OptionEnd>* out_ = nullptr;
  const OptionEnd* set_ = nullptr;
  std::string gear_;
};

template <class Entry>
std::vector<OptionEnd> all_ends(const std::vector<Entry>& entries) {
  std::vector<OptionEnd> out;
  for (const Entry& entry : entries) {
    out.push_back({std::string(entry.name), "", 0});
    EndVisitor lister(out, std::string(entry.name));
    entry.make_options()->visit(lister);
  }
  return out;
}

inline std::function<void(OptionSet&)> setter(const OptionEnd& end) {
  return [end](OptionSet& options) {
    EndVisitor visitor(end);
    options.visit(visitor);
  };
}

}  // namespace gearbox::testing
