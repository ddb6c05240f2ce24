// The ends of a process that is lost.
#pragma once

#include <string_view>

namespace gearbox {

// "fatal error: <message>" with the trace of the current goroutine; exit code 2. Any thread.
[[noreturn]] void fatal_error(std::string_view message);
// Ends the process with `code` after flushing standard output; nothing else is run.
[[noreturn]] void exit_process(int code);

}  // namespace gearbox
