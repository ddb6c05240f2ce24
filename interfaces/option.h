// Options and counters, declared once.
//
// A gear, a workload and the runtime each keep their options as plain data members with defaults, and one
// `void visit(OptionVisitor& v)` that names every one of them with its limits and its text. Everything else is a
// visitor over that single declaration: help, parsing, range errors, the effective configuration in every result,
// docs/OPTIONS.md, and the tests at both ends of every range. Counters are declared the same way through
// CounterVisitor.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gearbox {

struct Range {
  std::uint64_t low = 0, high = 0;  // both ends are legal values
};

class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;

  // A whole number in a range.
  void field(std::string_view name, std::uint64_t& value, Range range, std::string_view text) {
    integer(name, value, range, text);
  }
  // On or off.
  void field(std::string_view name, bool& value, std::string_view text) { flag(name, value, text); }
  // One of a few words: E is an enum whose values count up from 0 in the order of `levels`.
  template <class E>
  requires std::is_enum_v<E>
  void field(std::string_view name, E& value, std::initializer_list<std::string_view> levels, std::string_view text) {
    auto index = static_cast<std::size_t>(value);
    choice(name, index, std::vector<std::string>(levels.begin(), levels.end()), text);
    value = static_cast<E>(index);
  }

 protected:
  virtual void integer(std::string_view name, std::uint64_t& value, Range range, std::string_view text) = 0;
  virtual void flag(std::string_view name, bool& value, std::string_view text) = 0;
  virtual void choice(std::string_view name, std::size_t& index, const std::vector<std::string>& levels,
                      std::string_view text) = 0;
};

// What a gear counted. Called when the counters are at rest (world stopped or runtime ended).
class CounterVisitor {
 public:
  virtual ~CounterVisitor() = default;
  virtual void counter(std::string_view name, std::uint64_t value, std::string_view text) = 0;
};

// Options of any type, kept by the registry until the gear is made.
class OptionSet {
 public:
  virtual ~OptionSet() = default;
  virtual void visit(OptionVisitor& visitor) = 0;
};
template <class Options>
class TypedOptions final : public OptionSet {
 public:
  void visit(OptionVisitor& visitor) override { options.visit(visitor); }
  Options options;
};
struct NoOptions {
  void visit(OptionVisitor&) {}
};

}  // namespace gearbox
