// The fuzzer's target without the fuzzer: its corpus, and seeded mutations of it. What libFuzzer found and was mended
// stays in the corpus, so it is tested here too.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/os/clock.h"
#include "base/os/file.h"
#include "base/random.h"
#include "tests/fuzz/resp_target.h"
#include "workloads/kv_server/glob.h"

namespace gearbox::workloads::kv {
namespace {

std::vector<std::string> corpus() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(GEARBOX_SOURCE_DIR "/tests/fuzz/corpus/resp"))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<std::string> out;
  for (const auto& file : files) {
    auto text = os::read_file(file.string());
    EXPECT_TRUE(text) << file;
    if (text) out.push_back(*text);
  }
  return out;
}

TEST(FuzzResp, TheCorpusHolds) {
  const auto all = corpus();
  EXPECT_GE(all.size(), 10u);
  for (const std::string& input : all) check_resp(input);
}

// Words that mean something to the parser: single bytes would seldom make one.
constexpr const char* kWords[] = {
    "\r\n", "$",     "*",  "*1\r\n",  "$3\r\nGET\r\n", "$0\r\n\r\n",          "-1",       "\"",
    "'",    "\\x41", "\n", "$-1\r\n", "*0\r\n",        "9223372036854775807", "$100\r\n", "*5\r\n",
    "[a-",  "^]",    "?"};

std::string mutated(std::string input, const std::vector<std::string>& all, Random& random) {
  const auto below = [&](std::size_t n) {
    return static_cast<std::size_t>(random.below(static_cast<std::uint32_t>(n)));
  };
  for (std::size_t n = 1 + below(4); n > 0; --n) {
    const std::size_t at = below(input.size() + 1);
    switch (below(6)) {
      case 0:
        input.insert(at, 1, static_cast<char>(below(256)));
        break;
      case 1:
        input.insert(at, kWords[below(std::size(kWords))]);
        break;
      case 2:
        input.erase(at, 1 + below(8));
        break;
      case 3:
        if (at < input.size()) input[at] = static_cast<char>(static_cast<unsigned char>(input[at]) ^ (1u << below(8)));
        break;
      case 4: {
        const std::string& other = all[below(all.size())];
        const std::size_t from = below(other.size() + 1);
        input.insert(at, other.substr(from, 1 + below(64)));
        break;
      }
      default:
        input.insert(at, input.substr(below(input.size() + 1), 1 + below(32)));
    }
    if (input.size() > 4096) input.resize(4096);
  }
  return input;
}

// At least this many, and more while there is time.
TEST(FuzzResp, MutationsOfTheCorpusHold) {
  constexpr int kLeast = 2000;
  constexpr std::int64_t kTimeNs = 1'500'000'000;
  std::vector<std::string> all = corpus();
  ASSERT_FALSE(all.empty());
  Random random(20'240'601);
  const std::int64_t until = os::monotonic_ns() + kTimeNs;
  for (int i = 0; i < kLeast || os::monotonic_ns() < until; ++i) {
    std::string& parent = all[random.below(static_cast<std::uint32_t>(all.size()))];
    std::string child = mutated(parent, all, random);
    check_resp(child);
    if (random.below(4) == 0) parent = std::move(child);  // walks away from the corpus
    if (i % 5000 == 4999) all = corpus();                 // but not for ever
  }
}

// By the book: every star tries every length. The other matcher has no stars to come back to.
bool matches_slowly(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*') {
    for (std::size_t i = 0; i <= text.size(); ++i)
      if (matches_slowly(pattern.substr(1), text.substr(i))) return true;
    return false;
  }
  if (text.empty()) return false;
  std::size_t end = 1;  // of the first element, which is held against one character alone
  if (pattern[0] == '\\' && pattern.size() > 1) {
    end = 2;
  } else if (pattern[0] == '[') {
    if (end < pattern.size() && pattern[end] == '^') ++end;
    for (; end < pattern.size() && pattern[end] != ']'; ++end) {
      if (pattern[end] == '\\' && end + 1 < pattern.size()) ++end;
      if (end + 2 < pattern.size() && pattern[end + 1] == '-' && pattern[end + 2] != ']') end += 2;
    }
    end = std::min(end + 1, pattern.size());
  }
  return matches(pattern.substr(0, end), text.substr(0, 1), nullptr) &&
         matches_slowly(pattern.substr(end), text.substr(1));
}

TEST(FuzzGlob, AgreesWithTheBook) {
  Random random(7);
  const std::string_view letters = "ab*?*a[]^-\\";
  int found = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string pattern, text;
    for (std::uint32_t n = random.below(8); n > 0; --n)
      pattern += letters[random.below(static_cast<std::uint32_t>(letters.size()))];
    for (std::uint32_t n = random.below(8); n > 0; --n) text += letters[random.below(2)];
    const bool expected = matches_slowly(pattern, text);
    found += expected ? 1 : 0;
    ASSERT_EQ(matches(pattern, text, nullptr), expected) << pattern << " on " << text;
  }
  EXPECT_GT(found, 10'000);
}

TEST(FuzzGlob, ElementsMeanWhatRedisMeans) {
  const auto row = [](const char* pattern, const char* yes, const char* no) {
    EXPECT_TRUE(matches(pattern, yes, nullptr)) << pattern << ' ' << yes;
    EXPECT_FALSE(matches(pattern, no, nullptr)) << pattern << ' ' << no;
  };
  row("h?llo", "hallo", "hllo");
  row("h*llo", "hllo", "hlo");
  row("h[ae]llo", "hEllo", "hillo");
  row("h[^e]llo", "hbllo", "hello");
  row("h[a-c]llo", "hbllo", "hdllo");
  row("h[c-a]llo", "hbllo", "hdllo");
  row("h\\?llo", "h?llo", "hallo");
  row("h[\\]a]llo", "h]llo", "hbllo");
  row("[a", "a", "b");
  row("\\", "\\", "a");
  row("", "", "a");
}

// The steps of a hopeless pattern are counted by the pauses: pattern times text, and no more.
TEST(FuzzGlob, StepsAreBounded) {
  static std::uint64_t pauses;
  pauses = 0;
  std::string pattern;
  for (int i = 0; i < 500; ++i) pattern += "*a";
  pattern += '!';
  const std::string text(10'000, 'a');
  EXPECT_FALSE(matches(pattern, text, [] { ++pauses; }));
  EXPECT_GT(pauses, 0u);  // a long one can be interrupted
  EXPECT_LT(pauses, pattern.size() * text.size() / 1000);
}

}  // namespace
}  // namespace gearbox::workloads::kv
