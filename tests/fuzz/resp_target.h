#pragma once

#include <string_view>

namespace gearbox::workloads::kv {

// Aborts with a sentence when the parser breaks a promise on this input.
void check_resp(std::string_view input);

}  // namespace gearbox::workloads::kv
