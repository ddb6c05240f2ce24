#include "runtime/fatal.h"

#include <unistd.h>

#include <cstdio>

#include "base/os/file.h"
#include "runtime/frames.h"
#include "runtime/runtime.h"
#include "runtime/symbols.h"

namespace gearbox {
namespace {
void print(std::string_view text) { os::write_all(2, text.data(), text.size()); }
}  // namespace

void exit_process(int code) {
  std::fflush(stdout);
  ::_exit(code);
}

void fatal_error(std::string_view message) {
  print(fmt::format("fatal error: {}\n\n", message));
  std::vector<void*> trace;
  capture_trace(trace, 1);
  if (const G* g = current_g()) print(fmt::format("goroutine {} [running]:\n", g->id));
  print_trace(trace);
  exit_process(2);
}

}  // namespace gearbox
