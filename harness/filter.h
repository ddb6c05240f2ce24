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
  bool matches(const Cell& cell) const;  // every term does; an empty filter matches all

 private:
  std::vector<std::pair<std::string, std::string>> terms_;
};

}  // namespace gearbox::harness
