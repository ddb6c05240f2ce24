// Short helper programs: git for the commit, the Python analysis. Started directly, never through a shell.
#pragma once

#include <string>
#include <vector>

namespace gearbox::harness {

// What the program prints on standard output, the first line, when it exits with 0 within five seconds; "" otherwise.
std::string captured_line(const std::vector<std::string>& arguments);

// Runs a program with our own input and output, the environment and `extra` ("NAME=value") added, until it ends.
// Interrupts are its own to handle. Returns its exit code, 128 + signal when one ended it, 127 when it could not be
// started (said on standard error).
int run_to_end(const std::vector<std::string>& arguments, const std::vector<std::string>& extra_environment);

}  // namespace gearbox::harness
