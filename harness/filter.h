// Filter: which cells are meant, "workload=sieve & scheduler=gmp". Used by [constraints] forbid and by --only.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "harness/cell.h"

namespace gearbox::harness {

class Filter {
 public:
  // Terms joined by '&'; a term is key=value with a family, `workload` or `procs` as the key. A gear's value is its
  // name (any options) or its whole text. Names must exist in the registry. `where` begins the sentence of the Error.
  static Result<Filter> parse(std::string_view text, const std::string& where);
  bool matches(const Cell& cell) const;                // every term does; an empty filter matches all
  const std::string& text() const { return text_; }    // as given
  const std::string& where() const { return where_; }  // file and line, or the option, that it was given in
  // Why no cell can match, for a filter of which that is true: the first term that none of the cells matches by itself,
  // with what the cells have there, or that no cell matches all terms.
  std::string why_none(const std::vector<Cell>& cells) const;

 private:
  bool matches(const Cell& cell, const std::pair<std::string, std::string>& term) const;
  std::string text_, where_;
  std::vector<std::pair<std::string, std::string>> terms_;
};

}  // namespace gearbox::harness
