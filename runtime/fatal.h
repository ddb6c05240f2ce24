// The ends of a process that is lost. Each begins with claim_last_words() (base/last_words.h), so that one thread speaks.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "base/os/file.h"

namespace gearbox {

// "fatal error: <message>" with the trace of the current goroutine; exit code 2. Any thread.
[[noreturn]] void fatal_error(std::string_view message);
// Ends the process with `code` after flushing standard output; nothing else is run. Async-signal-safe as far as that is
// possible: a thread that holds the lock of standard output is waited for, but not for long.
[[noreturn]] void exit_process(int code);
void flush_standard_output();

// Words to standard error, for those who have claimed the last ones. Async-signal-safe.
inline void say(std::string_view text) { os::write_all(2, text.data(), text.size()); }
template <class... Arguments>
void say(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
  char text[1024];
  auto out = fmt::format_to_n(text, sizeof(text), form, std::forward<Arguments>(arguments)...);
  os::write_all(2, text, out.size < sizeof(text) ? out.size : sizeof(text));
}
// As Go prints what a program gave it: lines after the first are indented, so that a message cannot pass for a trace.
void say_indented(std::string_view message);
// "goroutine 7 [running]:", or what the calling thread is if it runs none. `what` replaces "running".
void say_who(const char* what = "running");
// Gives the rest of the report a time limit, anew with each call.
void limit_report();

}  // namespace gearbox
