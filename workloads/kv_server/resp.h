// RESP2, the protocol of Redis: taking requests apart and putting replies together. Errors are in Redis's own words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gearbox::workloads::kv {

// One request, arguments as views: into the input, or into `scratch` for inline commands with quotes.
struct Request {
  std::vector<std::string_view> arguments;  // empty: nothing to do (an empty line)
  std::string scratch;
};

enum class Parsed : std::uint8_t { kRequest, kIncomplete, kError };

// Takes the first request from input[at, ...). kRequest: `at` is behind it. kIncomplete: `needed` bytes after `at` are
// the least that can complete it. kError: `error` is the message after "ERR "; the connection cannot go on.
Parsed parse(std::string_view input, std::size_t& at, std::size_t& needed, Request& request, std::string& error);

// A whole number exactly as Redis reads one: no plus sign, no leading zeros, no blanks.
bool parse_integer(std::string_view text, std::int64_t& out);

void reply_simple(std::string& out, std::string_view text);
void reply_error(std::string& out, std::string_view text);  // with its code: "ERR syntax error"
void reply_integer(std::string& out, std::int64_t value);
void reply_bulk(std::string& out, std::string_view bytes);
void reply_nil(std::string& out);
void reply_array(std::string& out, std::size_t count);

// The bytes of a request, as a client sends them.
std::string encode(std::initializer_list<std::string_view> arguments);
// Length of the first whole reply in `input`, 0 if it is incomplete.
std::size_t reply_length(std::string_view input);

}  // namespace gearbox::workloads::kv
