#include "harness/json.h"

#include <algorithm>

namespace gearbox::harness {

std::string to_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
std::string to_page(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

Result<Json> parse_json(const std::string& text, const std::string& where) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& failure) {
    return Error{fmt::format("{}: {}", where, failure.what())};
  }
}

Json json_of(const OptionPairs& pairs) {
  Json out = Json::object();
  for (const auto& [name, value] : pairs) {
    const bool digits =
        !value.empty() && std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
    // Only texts that come back unchanged become numbers: "007" and what does not fit 64 bits stay texts.
    auto number = digits ? parse_integer(value, {0, UINT64_MAX}, name) : Result<std::uint64_t>(Error{"not digits"});
    if (number && std::to_string(*number) == value) {
      out[name] = *number;
    } else {
      out[name] = value;
    }
  }
  return out;
}

Result<OptionPairs> pairs_of(const Json& json, const std::string& where) {
  OptionPairs pairs;
  if (!json.is_object()) return Error{fmt::format("{}: expected an object of names and values", where)};
  for (const auto& [name, value] : json.items()) {
    if (value.is_string()) {
      pairs.emplace_back(name, value.get<std::string>());
    } else if (value.is_number_unsigned()) {
      pairs.emplace_back(name, std::to_string(value.get<std::uint64_t>()));
    } else {
      return Error{fmt::format("{}: '{}' is neither a text nor a whole number", where, name)};
    }
  }
  return pairs;
}

}  // namespace gearbox::harness
