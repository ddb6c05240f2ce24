// JSON as the harness writes it: keys in the order they were added, one line, no NaN (null stands for it), invalid
// UTF-8 replaced.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "harness/option_text.h"

namespace gearbox::harness {

using Json = nlohmann::ordered_json;

std::string to_line(const Json& json);
std::string to_page(const Json& json);  // indented, with a final newline
// Error: "<where>: <what the parser says>".
Result<Json> parse_json(const std::string& text, const std::string& where);

// Option texts as JSON: whole numbers as numbers, everything else as strings; and back.
Json json_of(const OptionPairs& pairs);
Result<OptionPairs> pairs_of(const Json& json, const std::string& where);

}  // namespace gearbox::harness
