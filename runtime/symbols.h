// Names of return addresses.
#pragma once

#include <string>
#include <vector>

namespace gearbox {

// Symbol names, one line an address: as text, or to standard error.
std::string describe_trace(const std::vector<void*>& trace);
void print_trace(const std::vector<void*>& trace);

}  // namespace gearbox
