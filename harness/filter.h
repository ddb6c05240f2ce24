// Filter: which cells are meant, "workload=sieve & scheduler=gmp & param.primes >= 500". Used by [constraints] forbid and
// by --only.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "harness/factor.h"

namespace gearbox::harness {

class Filter {
 public:
  // Terms joined by '&'. A term is a key, one of = != < <= > >=, and a value; a key is `workload` or a factor's name, also
  // of what is no factor of the experiment. A gear's value is its name (any options) or its whole text. < <= > >= compare
  // whole numbers. Names and values must exist in the registry. `where` begins the sentence of the Error.
  static Result<Filter> parse(std::string_view text, const std::string& where);
  // Whether every term does; an empty filter matches all. No term matches a cell to which its key says nothing: a
  // parameter that the workload lacks. REQUIRES: the cell has its effective options.
  bool matches(const Cell& cell) const;
  const std::string& text() const { return text_; }    // as given
  const std::string& where() const { return where_; }  // file and line, or the option, that it was given in
  // Why no cell can match, for a filter of which that is true: the first term that none of the cells matches by itself,
  // with what the cells have there, or that no cell matches all terms.
  std::string why_none(const std::vector<Cell>& cells) const;

 private:
  struct Term {
    std::optional<Factor> factor;  // nothing: the workload
    std::string key, compare, value;
  };
  static Result<std::string> canonical(const Factor& factor, const std::string& value);
  static std::optional<std::string> value_in(const Cell& cell, const Term& term);
  static bool matches(const Cell& cell, const Term& term);
  std::string text_, where_;
  std::vector<Term> terms_;
};

}  // namespace gearbox::harness
