// The body of a death test: a child process that runs a program, and ends with code 0 if the program does.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "tests/runtime/program.h"

namespace gearbox::testing {

// Never returns.
inline void in_child(const Program& setup, std::function<void()> body) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  ::dup2(2, 1);  // a death test reads standard error
  run(setup, std::move(body));
  std::exit(0);
}
inline void in_child(std::function<void()> body) { in_child(Program{}.procs(2), std::move(body)); }

}  // namespace gearbox::testing
