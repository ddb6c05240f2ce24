// RESP2, the protocol of Redis: taking requests apart. Errors are in Redis's own words. (Replies: replies.h.)
//
// A request is read as it comes, in pieces of any size. Parser remembers how far it is, in places counted from the
// request's first byte, so each byte is looked at once, however many reads it takes and wherever the input is moved
// meanwhile. Nothing here knows of goroutines, so that a fuzzer can run it alone (tests/fuzz).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
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

// What a request may have. Redis asks for little from clients that have not said who they are: `unauthenticated` is put
// in front of the words of these two errors then.
struct ParserLimits {
  std::int64_t bulk_bytes = 512LL * 1024 * 1024;
  std::int64_t arguments = 1024 * 1024;  // Redis takes 2^31 - 1: each costs memory here before it is there
  bool authenticated = true;
};
inline constexpr ParserLimits kUnauthenticated{16 * 1024, 10, false};

// One a connection; used by one goroutine.
class Parser {
 public:
  // Called every kArgumentsBetweenPauses arguments of a request. False ends the connection: memory_bytes() has become
  // too much.
  using Pause = std::function<bool()>;
  static constexpr std::size_t kArgumentsBetweenPauses = 1024;
  explicit Parser(ParserLimits limits = {}, Pause pause = {}) : limits_(limits), pause_(std::move(pause)) {}

  // Goes on with the request that begins at input[at]. The same bytes must be there again at the next call, and more.
  // kRequest: `at` is behind it; its views are good while the input stays. kIncomplete: needed() bytes from `at` on are
  // the least that can complete it. kError: `error` is the message after "ERR "; the connection cannot go on.
  Parsed next(std::string_view input, std::size_t& at, Request& request, std::string& error);
  std::size_t needed() const noexcept { return needed_; }
  // Between two requests only.
  void set_limits(ParserLimits limits) noexcept { limits_ = limits; }
  // What the request under way takes beside its bytes, here and in `request`.
  std::size_t memory_bytes(const Request& request) const noexcept {
    return pieces_.capacity() * sizeof(decltype(pieces_)::value_type) +
           request.arguments.capacity() * sizeof(decltype(request.arguments)::value_type) + request.scratch.capacity();
  }
  // After a large request: keeps no more than small ones need.
  void shrink(Request& request);

 private:
  Parsed next_inline(std::string_view rest, std::size_t& at, Request& request, std::string& error);
  void restart();
  bool paused(std::size_t arguments) const {
    return arguments % kArgumentsBetweenPauses != 0 || pause_ == nullptr || pause_();
  }

  ParserLimits limits_;
  Pause pause_;
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

// The bytes of a request, as a client sends them.
std::string encode(std::initializer_list<std::string_view> arguments);
std::string encode(std::span<const std::string_view> arguments);
// Length of the first whole reply in `input`, 0 if it is incomplete.
std::size_t reply_length(std::string_view input);

}  // namespace gearbox::workloads::kv
