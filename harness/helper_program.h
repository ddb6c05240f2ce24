// Short helper programs: git for the commit, the Python analysis. Started directly, never through a shell.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace gearbox::harness {

// What the program prints on standard output, when it exits with 0 within twenty seconds and prints at most limit_bytes;
// nothing otherwise. `extra`: "NAME=value", added to our environment.
std::optional<std::string> captured_output(const std::vector<std::string>& arguments, std::size_t limit_bytes,
                                           const std::vector<std::string>& extra_environment = {});

// Runs a program with our own input and output, the environment and `extra` ("NAME=value") added, until it ends.
// discard_output: what it prints on standard output is not wanted. Its Ctrl-C is its own to handle, and held back until
// it asks for it. Interrupts are counted (os::interrupts()): a terminal sends them to both, and what reached only us is
// handed on after a second. A program that goes on all the same is killed, at once when the user insists.
// Returns its exit code, 128 + signal when one ended it, 127 when it could not be started (said on standard error).
int run_to_end(const std::vector<std::string>& arguments, const std::vector<std::string>& extra_environment,
               bool discard_output = false);

}  // namespace gearbox::harness
