#include "workloads/kv_server/resp.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <iterator>

namespace gearbox::workloads::kv {
namespace {

constexpr std::size_t kMostInlineBytes = 64 * 1024;
constexpr std::int64_t kMostArguments = 1024 * 1024;
constexpr std::int64_t kMostBulkBytes = 512LL * 1024 * 1024;

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

// The line at `at`, without its end, which is CR LF. npos: not all there.
std::size_t line_end(std::string_view input, std::size_t at) { return input.find("\r\n", at); }

}  // namespace

bool parse_integer(std::string_view text, std::int64_t& out) {
  if (text.empty() || text.size() > 20) return false;
  const std::string_view digits = text[0] == '-' ? text.substr(1) : text;
  if (digits.empty() || (digits[0] == '0' && text.size() > 1) || digits[0] < '0' || digits[0] > '9') return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

Parsed parse(std::string_view input, std::size_t& at, std::size_t& needed, Request& request, std::string& error) {
  request.arguments.clear();
  needed = input.size() - at + 1;
  if (at >= input.size()) return Parsed::kIncomplete;
  if (input[at] != '*') {
    const std::size_t end = input.find('\n', at);
    if (end == std::string_view::npos || end - at > kMostInlineBytes) {
      if (input.size() - at <= kMostInlineBytes) return Parsed::kIncomplete;
      error = "Protocol error: too big inline request";
      return Parsed::kError;
    }
    std::string_view line = input.substr(at, end - at);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!split_inline(line, request)) {
      error = "Protocol error: unbalanced quotes in request";
      return Parsed::kError;
    }
    at = end + 1;
    return Parsed::kRequest;
  }
  std::size_t end = line_end(input, at);
  if (end == std::string_view::npos) {
    if (input.size() - at <= kMostInlineBytes) return Parsed::kIncomplete;
    error = "Protocol error: too big mbulk count string";
    return Parsed::kError;
  }
  std::int64_t count = 0;
  if (!parse_integer(input.substr(at + 1, end - at - 1), count) || count > kMostArguments) {
    error = "Protocol error: invalid multibulk length";
    return Parsed::kError;
  }
  std::size_t place = end + 2;
  for (std::int64_t i = 0; i < count; ++i) {
    if (place >= input.size()) return Parsed::kIncomplete;
    if (input[place] != '$') {
      error = fmt::format("Protocol error: expected '$', got '{}'", input[place]);
      return Parsed::kError;
    }
    end = line_end(input, place);
    if (end == std::string_view::npos) {
      if (input.size() - place <= kMostInlineBytes) return Parsed::kIncomplete;
      error = "Protocol error: too big bulk count string";
      return Parsed::kError;
    }
    std::int64_t bytes = 0;
    if (!parse_integer(input.substr(place + 1, end - place - 1), bytes) || bytes < 0 || bytes > kMostBulkBytes) {
      error = "Protocol error: invalid bulk length";
      return Parsed::kError;
    }
    place = end + 2;
    const auto length = static_cast<std::size_t>(bytes);
    if (place + length + 2 > input.size()) {
      needed = place + length + 2 - at;
      return Parsed::kIncomplete;
    }
    request.arguments.push_back(input.substr(place, length));
    place += length + 2;
  }
  at = place;
  return Parsed::kRequest;
}

void reply_simple(std::string& out, std::string_view text) { ((out += '+') += text) += "\r\n"; }
void reply_error(std::string& out, std::string_view text) {
  out += '-';
  for (const char c : text) out += c == '\r' || c == '\n' ? ' ' : c;
  out += "\r\n";
}
void reply_integer(std::string& out, std::int64_t value) { fmt::format_to(std::back_inserter(out), ":{}\r\n", value); }
void reply_bulk(std::string& out, std::string_view bytes) {
  char head[24];
  head[0] = '$';
  char* end = std::to_chars(head + 1, head + sizeof(head) - 2, bytes.size()).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(head, static_cast<std::size_t>(end - head));
  out.append(bytes);
  out.append("\r\n", 2);
}
void reply_nil(std::string& out) { out += "$-1\r\n"; }
void reply_array(std::string& out, std::size_t count) { fmt::format_to(std::back_inserter(out), "*{}\r\n", count); }

std::string encode(std::initializer_list<std::string_view> arguments) {
  std::string out;
  reply_array(out, arguments.size());
  for (const auto& argument : arguments) reply_bulk(out, argument);
  return out;
}

std::size_t reply_length(std::string_view input) {
  const std::size_t end = input.find("\r\n");
  if (end == std::string_view::npos) return 0;
  std::int64_t number = 0;
  std::size_t length = end + 2;
  if (input[0] != '$' && input[0] != '*') return length;
  if (!parse_integer(input.substr(1, end - 1), number) || number < 0) return length;
  if (input[0] == '$') {
    length += static_cast<std::size_t>(number) + 2;
    return length <= input.size() ? length : 0;
  }
  for (std::int64_t i = 0; i < number; ++i) {
    const std::size_t part = reply_length(input.substr(length));
    if (part == 0) return 0;
    length += part;
  }
  return length;
}

}  // namespace gearbox::workloads::kv
