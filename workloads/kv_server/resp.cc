#include "workloads/kv_server/resp.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <iterator>
#include <limits>

namespace gearbox::workloads::kv {
namespace {

constexpr std::size_t kMostInlineBytes = 64 * 1024;
constexpr std::size_t kKeptArguments = 1024;
constexpr std::string_view kTooMuchMemory = "the request takes more memory than the connections may have";
constexpr std::int64_t kNoNumber = std::numeric_limits<std::int64_t>::min();

int hex_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0 ? c - '0' : std::tolower(c) - 'a' + 10;
}

// Words separated by blanks; "..." with escapes and '...' as redis-cli understands them. False: quotes do not match.
bool split_inline(std::string_view line, Request& request) {
  request.scratch.clear();
  request.scratch.reserve(line.size());  // never longer than the line: views into it stay good
  std::size_t i = 0;
  const auto blank = [&](std::size_t k) { return std::isspace(static_cast<unsigned char>(line[k])) != 0; };
  while (true) {
    while (i < line.size() && blank(i)) ++i;
    if (i == line.size()) return true;
    const std::size_t begin = request.scratch.size();
    char quote = 0;
    for (;; ++i) {
      if (i == line.size()) {
        if (quote != 0) return false;
        break;
      }
      const char c = line[i];
      if (quote == 0) {
        if (blank(i)) break;
        if (c == '"' || c == '\'')
          quote = c;
        else
          request.scratch += c;
        continue;
      }
      if (c == quote) {
        if (i + 1 < line.size() && !blank(i + 1)) return false;
        quote = 0;
      } else if (quote == '"' && c == '\\' && i + 3 < line.size() && line[i + 1] == 'x' &&
                 std::isxdigit(static_cast<unsigned char>(line[i + 2])) != 0 &&
                 std::isxdigit(static_cast<unsigned char>(line[i + 3])) != 0) {
        request.scratch += static_cast<char>(hex_digit(line[i + 2]) * 16 + hex_digit(line[i + 3]));
        i += 3;
      } else if (c == '\\' && i + 1 < line.size() && (quote == '"' || line[i + 1] == '\'')) {
        const char escaped = line[++i];
        switch (quote == '"' ? escaped : 0) {
          case 'n':
            request.scratch += '\n';
            break;
          case 'r':
            request.scratch += '\r';
            break;
          case 't':
            request.scratch += '\t';
            break;
          case 'b':
            request.scratch += '\b';
            break;
          case 'a':
            request.scratch += '\a';
            break;
          default:
            request.scratch += escaped;
        }
      } else {
        request.scratch += c;
      }
    }
    request.arguments.emplace_back(request.scratch.data() + begin, request.scratch.size() - begin);
  }
}

}  // namespace

bool parse_integer(std::string_view text, std::int64_t& out) {
  if (text.empty() || text.size() > 20) return false;
  const std::string_view digits = text[0] == '-' ? text.substr(1) : text;
  if (digits.empty() || (digits[0] == '0' && text.size() > 1) || digits[0] < '0' || digits[0] > '9') return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

bool same_word(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() && std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) == y;
         });
}

// ---- requests

void Parser::restart() {
  left_ = bulk_ = -1;
  place_ = line_seen_ = 0;
  needed_ = 1;
  pieces_.clear();
}

void Parser::shrink(Request& request) {
  // Named types: to assign {} would empty them and keep their memory.
  if (pieces_.capacity() > kKeptArguments && pieces_.empty()) pieces_ = decltype(pieces_)();
  if (request.arguments.capacity() > kKeptArguments) request.arguments = std::vector<std::string_view>();
  if (request.scratch.capacity() > kMostInlineBytes / 4) request.scratch = std::string();
}

Parsed Parser::next_inline(std::string_view rest, std::size_t& at, Request& request, std::string& error) {
  const std::size_t end = rest.find('\n', line_seen_);
  if (end == std::string_view::npos || end > kMostInlineBytes) {
    line_seen_ = rest.size();
    needed_ = rest.size() + 1;
    if (rest.size() <= kMostInlineBytes) return Parsed::kIncomplete;
    error = "Protocol error: too big inline request";
    return Parsed::kError;
  }
  std::string_view line = rest.substr(0, end);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  if (!split_inline(line, request)) {
    error = "Protocol error: unbalanced quotes in request";
    return Parsed::kError;
  }
  at += end + 1;
  restart();
  return Parsed::kRequest;
}

Parsed Parser::next(std::string_view input, std::size_t& at, Request& request, std::string& error) {
  request.arguments.clear();
  const std::string_view rest = input.substr(at);
  needed_ = rest.size() + 1;
  if (rest.empty()) return Parsed::kIncomplete;
  if (rest[0] != '*') return next_inline(rest, at, request, error);
  const auto failed = [&error](std::string text) {
    error = "Protocol error: " + std::move(text);
    return Parsed::kError;
  };
  // The number in the line at place_, which is moved behind it. kRequest: it is there.
  std::int64_t number = 0;
  const auto line = [&](std::string_view too_big) {
    const std::size_t end = rest.find("\r\n", std::max(place_, line_seen_));
    if (end == std::string_view::npos) {
      if (rest.size() - place_ > kMostInlineBytes) return failed(std::string(too_big));
      line_seen_ = rest.back() == '\r' ? rest.size() - 1 : rest.size();
      return Parsed::kIncomplete;
    }
    if (!parse_integer(rest.substr(place_ + 1, end - place_ - 1), number)) number = kNoNumber;
    place_ = end + 2;
    return Parsed::kRequest;
  };
  if (left_ < 0) {
    if (const Parsed there = line("too big mbulk count string"); there != Parsed::kRequest) return there;
    if (number == kNoNumber) return failed("invalid multibulk length");
    if (number > limits_.arguments)
      return failed(limits_.authenticated ? "invalid multibulk length" : "unauthenticated multibulk length");
    left_ = std::max<std::int64_t>(number, 0);
  }
  while (left_ > 0) {
    if (bulk_ < 0) {
      if (place_ >= rest.size()) return Parsed::kIncomplete;
      if (rest[place_] != '$') return failed(fmt::format("expected '$', got '{}'", rest[place_]));
      if (const Parsed there = line("too big bulk count string"); there != Parsed::kRequest) return there;
      if (number < 0) return failed("invalid bulk length");
      if (number > limits_.bulk_bytes)
        return failed(limits_.authenticated ? "invalid bulk length" : "unauthenticated bulk length");
      bulk_ = number;
    }
    const auto length = static_cast<std::size_t>(bulk_);
    if (place_ + length + 2 > rest.size()) {
      needed_ = place_ + length + 2;
      return Parsed::kIncomplete;
    }
    pieces_.emplace_back(place_, length);
    place_ += length + 2;
    bulk_ = -1;
    --left_;
    if (!paused(pieces_.size())) return failed(std::string(kTooMuchMemory));
  }
  request.arguments.reserve(pieces_.size());
  for (const auto& [place, length] : pieces_) {
    request.arguments.push_back(rest.substr(place, length));
    if (!paused(request.arguments.size())) return failed(std::string(kTooMuchMemory));
  }
  at += place_;
  restart();
  return Parsed::kRequest;
}

// ---- the client's side

std::string encode(std::initializer_list<std::string_view> arguments) {
  return encode(std::span(arguments.begin(), arguments.size()));
}
std::string encode(std::span<const std::string_view> arguments) {
  std::string out = fmt::format("*{}\r\n", arguments.size());
  for (const auto& argument : arguments) {
    fmt::format_to(std::back_inserter(out), "${}\r\n", argument.size());
    (out += argument) += "\r\n";
  }
  return out;
}

std::size_t reply_length(std::string_view input) {
  std::size_t length = 0;
  // Elements of an array are counted, not descended into: who answers chooses how deep they are.
  for (std::uint64_t left = 1; left > 0; --left) {
    const std::size_t end = input.find("\r\n", length);
    if (end == std::string_view::npos) return 0;
    const char kind = input[length];
    std::int64_t number = 0;
    const bool counts = (kind == '$' || kind == '*') &&
                        parse_integer(input.substr(length + 1, end - length - 1), number) && number >= 0;
    length = end + 2;
    if (!counts) continue;
    if (static_cast<std::uint64_t>(number) > input.size()) return 0;  // and sums stay far from their end
    if (kind == '*') {
      left += static_cast<std::uint64_t>(number);
    } else {
      if (static_cast<std::size_t>(number) + 2 > input.size() - length) return 0;
      length += static_cast<std::size_t>(number) + 2;
    }
  }
  return length;
}

}  // namespace gearbox::workloads::kv
