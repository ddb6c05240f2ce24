// RESP2, the protocol of Redis: taking requests apart and putting replies together. Errors are in Redis's own words.
//
// A request is read as it comes, in pieces of any size. Parser remembers how far it is, in places counted from the
// request's first byte, so each byte is looked at once, however many reads it takes and wherever the input is moved
// meanwhile.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gearbox::workloads::kv {

// One request, arguments as views: into the input, or into `scratch` for inline commands with quotes.
struct Request {
  std::vector<std::string_view> arguments;  // empty: nothing to do (an empty line)
  std::string scratch;
};

enum class Parsed : std::uint8_t { kRequest, kIncomplete, kError };

// One a connection; used by one goroutine.
class Parser {
 public:
  // Goes on with the request that begins at input[at]. The same bytes must be there again at the next call, and more.
  // kRequest: `at` is behind it; its views are good while the input stays. kIncomplete: needed() bytes from `at` on are
  // the least that can complete it. kError: `error` is the message after "ERR "; the connection cannot go on.
  Parsed next(std::string_view input, std::size_t& at, Request& request, std::string& error);
  std::size_t needed() const noexcept { return needed_; }

 private:
  Parsed next_inline(std::string_view rest, std::size_t& at, Request& request, std::string& error);
  void restart();

  std::int64_t left_ = -1;     // arguments still to come; -1: the first line is not read
  std::int64_t bulk_ = -1;     // bytes of the argument under way; -1: its line is not read
  std::size_t place_ = 0;      // all before is read
  std::size_t line_seen_ = 0;  // no end of a line before here
  std::size_t needed_ = 1;
  std::vector<std::pair<std::size_t, std::size_t>> pieces_;  // place and length of the arguments that are there
};

// A whole number exactly as Redis reads one: no plus sign, no leading zeros, no blanks.
bool parse_integer(std::string_view text, std::int64_t& out);
// Equal but for the case of letters; `lower` is in lower case.
bool same_word(std::string_view a, std::string_view lower);

void reply_simple(std::string& out, std::string_view text);
void reply_error(std::string& out, std::string_view text);  // with its code: "ERR syntax error"
void reply_integer(std::string& out, std::int64_t value);
void reply_bulk(std::string& out, std::string_view bytes);
void reply_nil(std::string& out);
void reply_nil_array(std::string& out);
void reply_array(std::string& out, std::size_t count);

// The bytes of a request, as a client sends them.
std::string encode(std::initializer_list<std::string_view> arguments);
// Length of the first whole reply in `input`, 0 if it is incomplete.
std::size_t reply_length(std::string_view input);

}  // namespace gearbox::workloads::kv
