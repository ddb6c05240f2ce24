// Count: how many elements a caller asks for, in whatever integer type the caller has it. A parameter of an unsigned type
// would turn -1 into four thousand millions, and a narrow one 2^32 into 0, before anybody could look.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>

namespace gearbox {

class Count {
 public:
  template <std::integral N>
  constexpr Count(N n) noexcept  // NOLINT(google-explicit-constructor): it stands for a number
      : value_(static_cast<std::uint64_t>(n)), negative_(n < N{0}) {}
  // Whether so many elements could be in memory at all.
  constexpr bool fits(std::size_t element_bytes) const noexcept {
    return !negative_ && value_ <= (std::uint64_t{1} << 46) / element_bytes;
  }
  constexpr std::uint64_t value() const noexcept { return value_; }  // REQUIRES: not negative
  std::string text() const {
    return negative_ ? std::to_string(static_cast<std::int64_t>(value_)) : std::to_string(value_);
  }

 private:
  std::uint64_t value_;
  bool negative_;
};

}  // namespace gearbox
