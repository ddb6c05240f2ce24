// Result<T>: a value, or an Error that says what went wrong in one sentence, with the errno when the kernel said no.
// Used for bad configuration and for OS failures. Broken promises are checks (base/check.h), never Results.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace gearbox {

struct Error {
  std::string message;   // one sentence, without a final newline; names what, where, and the nearest right thing
  int error_number = 0;  // errno of the refused system call, 0 when none was involved
};

// "io_uring_setup: Operation not permitted (EPERM)": the call's name and the errno in words and in letters.
inline Error os_error(std::string call, int error_number) {
  const char* letters = strerrorname_np(error_number);
  return {fmt::format("{}: {} ({})", call, strerror(error_number), letters != nullptr ? letters : "unknown errno"),
          error_number};
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by design, as in std::expected
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  explicit operator bool() const { return state_.index() == 0; }
  bool ok() const { return state_.index() == 0; }
  // REQUIRES: ok().
  T& value() & {
    GEARBOX_REQUIRE(ok(), "{}", std::get<1>(state_).message);
    return std::get<0>(state_);
  }
  const T& value() const& {
    GEARBOX_REQUIRE(ok(), "{}", std::get<1>(state_).message);
    return std::get<0>(state_);
  }
  T&& value() && {
    GEARBOX_REQUIRE(ok(), "{}", std::get<1>(state_).message);
    return std::get<0>(std::move(state_));
  }
  T* operator->() { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  // REQUIRES: !ok().
  const Error& error() const {
    GEARBOX_REQUIRE(!ok());
    return std::get<1>(state_);
  }

 private:
  std::variant<T, Error> state_;
};

// Result of an action: ok, or an Error.
struct Ok {};
using Status = Result<Ok>;

}  // namespace gearbox
