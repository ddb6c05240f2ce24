// Redis's patterns: * ? [a-c] [^x] and \ before a character that stands for itself. Letters of either case are equal.
#pragma once

#include <string_view>

namespace gearbox::workloads::kv {

// Whether the whole text matches. At most pattern times text steps, whatever the pattern: only the last star is ever
// tried again, since whatever an earlier star could take as well leaves the later one a shorter text.
// `pause` is called every few thousand steps.
bool matches(std::string_view pattern, std::string_view text, void (*pause)());

}  // namespace gearbox::workloads::kv
