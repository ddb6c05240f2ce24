// Output: what a verb says. Standard output is the result that was asked for. Standard error is conversation: progress,
// warnings, mistakes. Every write of the harness to either goes through this header (a test in tests/house holds that).
//
// A write that fails neither throws nor ends the program: a sweep whose terminal was closed still has cells to run. The
// failure is remembered instead. main() ends with exit_code_of(), which turns lost standard output into an error, and a
// sweep writes lost standard error into its manifest. One thread, the one that runs the verb.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace gearbox::harness {

// Standard output. Collected in memory up to a few pages unless standard output is a terminal; see flush_output().
void write_out(std::string_view text);
// Standard error, at once; what write_out() has collected goes first, so that both keep their order on one terminal.
void write_err(std::string_view text);

template <class... T>
void print_out(fmt::format_string<T...> text, T&&... values) {
  write_out(fmt::format(text, std::forward<T>(values)...));
}
template <class... T>
void print_err(fmt::format_string<T...> text, T&&... values) {
  write_err(fmt::format(text, std::forward<T>(values)...));
}

// Writes what is collected. Call it before a child that prints to the same descriptor begins, and at the end of a piece
// that a reader waits for.
void flush_output();

// The first failure of a write to standard error, if one failed: "standard error could not be written: ...".
std::optional<Error> lost_errors();

// The exit code of a program whose verb returned `code`: kExitFailed in the place of kExitOk when standard output could
// not be written, which it says on standard error. Flushes.
int exit_code_of(int code);

}  // namespace gearbox::harness
