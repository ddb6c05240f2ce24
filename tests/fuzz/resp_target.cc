// What must hold for the server's parser whatever a client sends. One input of the fuzzer is a few choices and then the
// bytes of a client. libFuzzer calls this (tests/fuzz/fuzz-resp); so does replay_test.cc, which needs no clang.
#include "tests/fuzz/resp_target.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "workloads/kv_server/glob.h"
#include "workloads/kv_server/resp.h"

namespace gearbox::workloads::kv {
namespace {

void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "resp: broken: %s\n", what);
  std::abort();
}

struct Read {
  std::vector<std::vector<std::string>> requests;
  std::string error;
  std::size_t left = 0;  // bytes of a request that is not complete
  bool operator==(const Read&) const = default;
};

// Exactly as long as the bytes, so that a sanitizer sees every look past their end.
struct Exact {
  explicit Exact(std::string_view bytes) : memory(std::make_unique<char[]>(bytes.size())), size(bytes.size()) {
    std::copy(bytes.begin(), bytes.end(), memory.get());
  }
  std::string_view view() const { return {memory.get(), size}; }
  std::unique_ptr<char[]> memory;
  std::size_t size;
};

bool lies_in(std::string_view part, std::string_view whole) {
  return part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

// As the connection does it: the bytes come in pieces of `step` and are moved in memory between two of them.
Read read_in_steps(std::string_view bytes, std::size_t step, ParserLimits limits) {
  Read out;
  Parser parser(limits);
  Request request;
  std::string kept;
  while (!bytes.empty()) {
    kept += bytes.substr(0, step);
    bytes.remove_prefix(std::min(step, bytes.size()));
    const Exact input(kept);
    std::size_t at = 0;
    for (;;) {
      const std::size_t before = at;
      const Parsed parsed = parser.next(input.view(), at, request, out.error);
      if (parsed == Parsed::kError) {
        must(out.error.starts_with("Protocol error: "), "an error without words");
        must(out.error.find_first_of("\r\n") == std::string::npos || out.error.size() < 64, "an error without end");
        return out;
      }
      if (parsed == Parsed::kIncomplete) {
        must(at == before, "an incomplete request was used up");
        must(parser.needed() > input.size - at, "what is there would suffice");
        break;
      }
      must(at > before && at <= input.size, "a request without bytes, or beyond them");
      must(static_cast<std::int64_t>(request.arguments.size()) <= std::max<std::int64_t>(limits.arguments, 64 * 1024),
           "more arguments than allowed");
      std::vector<std::string> words;
      for (const std::string_view word : request.arguments) {
        must(lies_in(word, input.view().substr(before, at - before)) || lies_in(word, request.scratch),
             "an argument that lies elsewhere");
        words.emplace_back(word);
      }
      out.requests.push_back(std::move(words));
      parser.shrink(request);
    }
    kept.erase(0, at);
  }
  out.left = kept.size();
  return out;
}

}  // namespace

void check_resp(std::string_view input) {
  if (input.size() < 2) return;
  const auto choice = static_cast<unsigned char>(input[0]), step = static_cast<unsigned char>(input[1]);
  const std::string_view bytes = input.substr(2);
  const ParserLimits limits = choice % 4 == 0   ? ParserLimits{}
                              : choice % 4 == 1 ? kUnauthenticated
                              : choice % 4 == 2 ? ParserLimits{.bulk_bytes = 100, .arguments = 5}
                                                : ParserLimits{.bulk_bytes = 0, .arguments = 1};
  const Read whole = read_in_steps(bytes, std::max<std::size_t>(bytes.size(), 1), limits);
  must(read_in_steps(bytes, step + std::size_t{1}, limits) == whole, "where the input is split made a difference");
  // What was understood can be said again, and is understood so again.
  std::string said;
  std::vector<std::vector<std::string>> expected;
  for (const auto& request : whole.requests) {
    if (request.empty()) continue;
    said += encode(std::vector<std::string_view>(request.begin(), request.end()));
    expected.push_back(request);
  }
  const Read again = read_in_steps(said, std::max<std::size_t>(said.size(), 1), {});
  must(again.error.empty() && again.left == 0 && again.requests == expected, "a request did not survive being encoded");
  // The client's side.
  const Exact reply(bytes);
  const std::size_t length = reply_length(reply.view());
  must(length <= bytes.size(), "a reply that is longer than what is there");
  if (length > 0) must(reply_length(bytes.substr(0, length)) == length, "a reply that depends on what follows");
  std::int64_t number = 0;
  const std::string_view start = bytes.substr(0, 24);
  if (parse_integer(start, number)) must(std::to_string(number) == start, "a number that is written otherwise");
  // Patterns: up to the first newline, and what comes after it.
  const std::size_t cut = std::min(bytes.find('\n'), bytes.size());
  const Exact pattern(bytes.substr(0, cut)), text(bytes.substr(std::min(cut + 1, bytes.size())).substr(0, 200));
  if (pattern.size < 1000) {
    const bool found = matches(pattern.view(), text.view(), nullptr);
    must(matches("*" + std::string(pattern.view()), text.view(), nullptr) || !found,
         "a star in front took a match away");
    must(matches(std::string("x") + std::string(pattern.view()), "X" + std::string(text.view()), nullptr) == found,
         "a letter in front changed a match");
  }
}

}  // namespace gearbox::workloads::kv

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  gearbox::workloads::kv::check_resp({reinterpret_cast<const char*>(data), size});
  return 0;
}
