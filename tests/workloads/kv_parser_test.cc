// The protocol: requests in one piece, in many, at and beyond every limit.
#include <gtest/gtest.h>

#include "workloads/kv_server/resp.h"

namespace gearbox::workloads::kv {
namespace {

struct Read {
  std::vector<std::vector<std::string>> requests;
  std::string error;
  std::size_t left = 0;  // bytes of a request that is not complete
  bool operator==(const Read&) const = default;
};

// Gives `text` to a parser as if it came in pieces that end at the given places, and moves it about in memory between
// them. Used-up bytes are taken out, as the connection does.
Read read_in_pieces(const std::string& text, const std::vector<std::size_t>& ends) {
  Read out;
  Parser parser;
  Request request;
  std::string input;
  std::size_t came = 0;
  for (const std::size_t end : ends) {
    std::string moved = input + text.substr(came, end - came);
    came = end;
    std::size_t at = 0;
    for (;;) {
      const Parsed parsed = parser.next(moved, at, request, out.error);
      if (parsed == Parsed::kError) return out;
      if (parsed == Parsed::kIncomplete) {
        EXPECT_GT(parser.needed(), moved.size() - at);
        break;
      }
      out.requests.emplace_back(request.arguments.begin(), request.arguments.end());
    }
    input = moved.substr(at);
  }
  out.left = input.size();
  return out;
}
Read read_whole(const std::string& text) { return read_in_pieces(text, {text.size()}); }

std::string all_kinds() {
  using namespace std::string_literals;
  std::string text = encode({"SET", "key", "value"});
  text += "PING\r\n";
  text += "\r\n";
  text += encode({"GET", "binary\r\n$3\r\n\0*"s});
  text += "echo 'it''s' \"a\\x41\\n\\\"\"\n";
  text += "*0\r\n*-1\r\n";
  text += encode({"", "", ""});
  text += "  get   key  \r\n";
  return text;
}

TEST(KvParser, ReadsSeveralRequestsOfEveryKind) {
  using namespace std::string_literals;
  const Read read = read_whole(encode({"SET", "a", "b\r\n\0"s}) + "ping\r\n*0\r\n" + encode({"GET", ""}));
  EXPECT_EQ(read.error, "");
  EXPECT_EQ(read.requests,
            (std::vector<std::vector<std::string>>{{"SET", "a", "b\r\n\0"s}, {"ping"}, {}, {"GET", ""}}));
  EXPECT_EQ(read.left, 0u);
  EXPECT_EQ(read_whole("SET x \"a b\\x41\\t\" 'c d'\r\n").requests,
            (std::vector<std::vector<std::string>>{{"SET", "x", "a bA\t", "c d"}}));
}

TEST(KvParser, WhereTheInputIsSplitMakesNoDifference) {
  const std::string good = "SET x 'y z'\r\n" + encode({"SET", "key", "v\r\nw"}) + "\r\n" + encode({"GET", "", "x"}) +
                           "ping\n*-1\r\n" + encode({"INCR", "n"}).substr(0, 12);
  const Read whole = read_whole(good);
  EXPECT_EQ(whole.requests.size(), 6u);
  for (std::size_t first = 0; first <= good.size(); ++first)
    for (std::size_t second = first; second <= good.size(); second += 3)
      ASSERT_EQ(read_in_pieces(good, {first, second, good.size()}), whole) << first << ' ' << second;
  std::vector<std::size_t> each;
  for (std::size_t i = 1; i <= good.size(); ++i) each.push_back(i);
  EXPECT_EQ(read_in_pieces(good, each), whole);
  for (const std::string& bad : {std::string("*2\r\n$3\r\nGET\r\n:1\r\n"), std::string("*1\r\n$-1\r\n"),
                                 std::string("*x\r\n"), std::string("set 'a\r\n"), std::string("*1\r\n$1x\r\na\r\n")}) {
    const Read error = read_whole(bad);
    EXPECT_NE(error.error, "");
    for (std::size_t split = 0; split <= bad.size(); ++split)
      ASSERT_EQ(read_in_pieces(bad, {split, bad.size()}).error, error.error) << bad << split;
  }
}

TEST(KvParser, MalformedRequestsFailInRedissWords) {
  const std::pair<std::string, std::string> cases[] = {
      {"*x\r\n", "invalid multibulk length"},
      {"*1048577\r\n", "invalid multibulk length"},
      {"*99999999999999999999\r\n", "invalid multibulk length"},
      {"*1\r\nx", "expected '$', got 'x'"},
      {"*1\r\n$x\r\n", "invalid bulk length"},
      {"*1\r\n$-1\r\n", "invalid bulk length"},
      {"*1\r\n$536870913\r\n", "invalid bulk length"},
      {"*" + std::string(70'000, '1'), "too big mbulk count string"},
      {"*1\r\n$" + std::string(70'000, '1'), "too big bulk count string"},
      {std::string(70'000, 'a'), "too big inline request"},
      {"get \"a\r\n", "unbalanced quotes in request"},
      {"get 'a'b\r\n", "unbalanced quotes in request"},
  };
  for (const auto& [text, error] : cases)
    EXPECT_EQ(read_whole(text).error, "Protocol error: " + error) << text.substr(0, 20);
}

TEST(KvParser, LimitsAreInclusive) {
  EXPECT_EQ(read_whole("*1048576\r\n").error, "");
  EXPECT_EQ(read_whole("*1\r\n$536870912\r\n").error, "");
  EXPECT_EQ(read_whole(std::string(65'536, 'a') + "\n").requests.size(), 1u);
}

TEST(KvParser, LimitsCanBeSmallerAndSayWhy) {
  const auto error_of = [](ParserLimits limits, const std::string& text) {
    Parser parser(limits);
    Request request;
    std::string error;
    std::size_t at = 0;
    return parser.next(text, at, request, error) == Parsed::kError ? error : "none";
  };
  const ParserLimits small{.bulk_bytes = 10, .arguments = 3};
  EXPECT_EQ(error_of(small, "*3\r\n$10\r\n"), "none");
  EXPECT_EQ(error_of(small, "*3\r\n$11\r\n"), "Protocol error: invalid bulk length");
  EXPECT_EQ(error_of(small, "*4\r\n"), "Protocol error: invalid multibulk length");
  EXPECT_EQ(error_of(kUnauthenticated, "*10\r\n$16384\r\n"), "none");
  EXPECT_EQ(error_of(kUnauthenticated, "*11\r\n"), "Protocol error: unauthenticated multibulk length");
  EXPECT_EQ(error_of(kUnauthenticated, "*1\r\n$16385\r\n"), "Protocol error: unauthenticated bulk length");
  EXPECT_EQ(error_of(kUnauthenticated, "*1\r\n$-1\r\n"), "Protocol error: invalid bulk length");
}

// A request of many arguments is left often: others want the processor, and what it takes is paid for as it grows.
TEST(KvParser, PausesInALongRequestAndCanBeEndedThere) {
  constexpr std::size_t kArguments = 100'000;
  std::string text = "*" + std::to_string(kArguments) + "\r\n", error;
  for (std::size_t i = 0; i < kArguments; ++i) text += "$0\r\n\r\n";
  Request request;
  std::size_t pauses = 0, at = 0;
  Parser parser({}, [&] { return ++pauses > 0; });
  ASSERT_EQ(parser.next(text, at, request, error), Parsed::kRequest);
  EXPECT_GE(pauses, 2 * (kArguments / Parser::kArgumentsBetweenPauses));
  EXPECT_GE(parser.memory_bytes(request), kArguments * 32);
  parser.shrink(request);
  EXPECT_LT(parser.memory_bytes(request), 100'000u);
  at = pauses = 0;
  Parser ended({}, [&] { return ++pauses < 3; });
  EXPECT_EQ(ended.next(text, at, request, error), Parsed::kError);
  EXPECT_EQ(pauses, 3u);
}

TEST(KvReplies, LengthOfAReplyThatNestsOrLies) {
  std::string deep;
  for (int i = 0; i < 1'000'000; ++i) deep += "*1\r\n";
  EXPECT_EQ(reply_length(deep), 0u);
  EXPECT_EQ(reply_length(deep + ":1\r\n:2\r\n"), deep.size() + 4);
  EXPECT_EQ(reply_length("*2\r\n*2\r\n:1\r\n$1\r\nx\r\n*0\r\n+next\r\n"), 23u);
  for (const char* lie : {"*9223372036854775807\r\n*9223372036854775807\r\n*3\r\n:1\r\n", "$9223372036854775807\r\nx",
                          "$9223372036854775806\r\nx\r\n", "$5\r\nabc\r\n"})
    EXPECT_EQ(reply_length(lie), 0u) << lie;
  EXPECT_EQ(reply_length("$-1\r\n"), 5u);
  EXPECT_EQ(reply_length("*-1\r\n"), 5u);
}

// What is announced is not what is there: the least that can complete the request is known, and nothing is reserved.
TEST(KvParser, KnowsHowMuchIsMissing) {
  Parser parser;
  Request request;
  std::string error;
  std::size_t at = 0;
  const std::string head = "*2\r\n$3\r\nSET\r\n$1000\r\n";
  EXPECT_EQ(parser.next(head, at, request, error), Parsed::kIncomplete);
  EXPECT_EQ(at, 0u);
  EXPECT_EQ(parser.needed(), head.size() + 1002);
  const std::string all = head + std::string(1000, 'x') + "\r\n";
  EXPECT_EQ(parser.next(all, at, request, error), Parsed::kRequest);
  EXPECT_EQ(at, all.size());
  EXPECT_EQ(request.arguments[1].size(), 1000u);
}

// A long request that comes byte by byte is read once, not once a byte: half a million arguments in seven million
// pieces would otherwise take hours, and the test's time limit is minutes.
TEST(KvParser, EachByteIsLookedAtOnce) {
  constexpr int kArguments = 500'000;
  std::string text = "*" + std::to_string(kArguments) + "\r\n";
  for (int i = 0; i < kArguments; ++i) text += "$1\r\nx\r\n";
  Parser parser;
  Request request;
  std::string error;
  std::size_t at = 0;
  for (std::size_t end = 1; end < text.size(); ++end)
    ASSERT_EQ(parser.next(std::string_view(text).substr(0, end), at, request, error), Parsed::kIncomplete);
  EXPECT_EQ(parser.next(text, at, request, error), Parsed::kRequest);
  EXPECT_EQ(request.arguments.size(), static_cast<std::size_t>(kArguments));
}

TEST(KvParser, NumbersAreReadAsRedisReadsThem) {
  std::int64_t n = 0;
  for (const char* bad : {"", "-", "+1", "01", "-01", "-0", " 1", "1 ", "1.0", "9223372036854775808", "0x1"})
    EXPECT_FALSE(parse_integer(bad, n)) << bad;
  for (const auto& [text, value] : {std::pair<const char*, std::int64_t>{"0", 0},
                                    {"-1", -1},
                                    {"9223372036854775807", INT64_MAX},
                                    {"-9223372036854775808", INT64_MIN}}) {
    EXPECT_TRUE(parse_integer(text, n)) << text;
    EXPECT_EQ(n, value);
  }
}

TEST(KvParser, EveryKindGoesThroughInOnePieceAndInTwo) {
  const std::string text = all_kinds();
  const Read whole = read_whole(text);
  for (std::size_t split = 0; split <= text.size(); ++split)
    ASSERT_EQ(read_in_pieces(text, {split, text.size()}), whole) << split;
}

}  // namespace
}  // namespace gearbox::workloads::kv
