// Options in text: every end of every range of everything that is registered, and every way to write them wrong.
#include "harness/option_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "base/nearest.h"
#include "base/os/file.h"
#include "harness/choice.h"
#include "harness/sha256.h"

namespace gearbox::harness {
namespace {

struct Owned {
  std::string name;
  std::function<std::unique_ptr<OptionSet>()> make;
};
std::vector<Owned> everything_with_options() {
  std::vector<Owned> out;
  for (std::size_t family = 0; family < kFamilies.size(); ++family)
    for (const auto& gear : gears_of(family))
      out.push_back({std::string(kFamilies[family]) + " " + gear.name, gear.make_options});
  for (const auto& w : all_workloads()) out.push_back({"workload " + std::string(w.name), w.make_params});
  out.push_back(
      {"the runtime", [] { return std::unique_ptr<OptionSet>(std::make_unique<TypedOptions<RuntimeOptions>>()); }});
  return out;
}

TEST(OptionText, DefaultsLieInTheirOwnRangesAndNamesAreUnique) {
  for (const auto& owner : everything_with_options()) {
    std::vector<std::string> names;
    for (const auto& info : options_of(*owner.make())) {
      auto set = owner.make();
      EXPECT_TRUE(set_options(*set, {{info.name, info.value}}, owner.name))
          << owner.name << " " << info.name << "=" << info.value;
      EXPECT_EQ(std::count(names.begin(), names.end(), info.name), 0)
          << owner.name << " declares " << info.name << " twice";
      EXPECT_FALSE(info.text.empty()) << owner.name << " " << info.name << " has no text";
      names.push_back(info.name);
    }
  }
}

TEST(OptionText, BothEndsOfEveryRangeAreTakenAndWhatLiesBeyondIsRefused) {
  for (const auto& owner : everything_with_options()) {
    for (const auto& info : options_of(*owner.make())) {
      std::vector<std::string> good = info.levels,
                               bad = {"",    " ",        "-1", "+1", "1.5", "0x10", "99999999999999999999999",
                                      "on ", "nonsense", "1 ", "NaN"};
      if (info.kind == OptionInfo::Kind::kInteger) {
        good = {std::to_string(info.range.low), std::to_string(info.range.high)};
        if (info.range.low > 0) bad.push_back(std::to_string(info.range.low - 1));
        if (info.range.high < UINT64_MAX) bad.push_back(std::to_string(info.range.high + 1));
        bad.push_back(good[1] + "x");
      }
      for (const auto& value : good) {
        auto set = owner.make();
        ASSERT_TRUE(set_options(*set, {{info.name, value}}, owner.name))
            << owner.name << " " << info.name << "=" << value;
        for (const auto& now : options_of(*set))
          if (now.name == info.name) EXPECT_EQ(now.value, value);
      }
      for (const auto& value : bad) {
        auto set = owner.make();
        auto status = set_options(*set, {{info.name, value}}, owner.name);
        ASSERT_FALSE(status) << owner.name << " " << info.name << " took '" << value << "'";
        EXPECT_NE(status.error().message.find(info.name), std::string::npos) << status.error().message;
        EXPECT_NE(status.error().message.find(owner.name), std::string::npos) << status.error().message;
      }
    }
  }
}

TEST(OptionText, MalformedTextsAreRefusedWithTheTextInTheSentence) {
  for (const char* text : {"", ",", "a", "a=", "=1", "a=1,", ",a=1", "a=1,,b=2", "a=1,a=2"}) {
    auto pairs = split_pairs(text, "scheduler x", text);
    ASSERT_FALSE(pairs) << text;
    EXPECT_NE(pairs.error().message.find(std::string("'") + text + "'"), std::string::npos) << pairs.error().message;
  }
  auto pairs = split_pairs("a=1,b=two=2", "x", "x");
  ASSERT_TRUE(pairs);
  EXPECT_EQ(join_pairs(*pairs), "a=1,b=two=2");
}

TEST(OptionText, AnUnfinishedWordIsNearerThanAWrongOne) {
  EXPECT_EQ(nearest("of", {"on", "off"}), "off");
  EXPECT_EQ(nearest("gpm", {"global_queue", "gmp"}), "gmp");
  EXPECT_EQ(nearest("zzzzzz", {"on", "off"}), "");
}

TEST(OptionText, UnknownGearsNameTheNearest) {
  for (std::size_t family = 0; family < kFamilies.size(); ++family) {
    for (const auto& gear : gears_of(family)) {
      auto wrong = canonical_gear(family, gear.name + "x");
      ASSERT_FALSE(wrong);
      EXPECT_NE(wrong.error().message.find(gear.name), std::string::npos) << wrong.error().message;
      EXPECT_FALSE(canonical_gear(family, gear.name + ":"));
      EXPECT_FALSE(canonical_gear(family, " " + gear.name));
      EXPECT_EQ(*canonical_gear(family, gear.name), gear.name);
    }
    EXPECT_FALSE(canonical_gear(family, ""));
  }
}

TEST(OptionText, CanonicalFormLeavesDefaultsOut) {
  for (std::size_t family = 0; family < kFamilies.size(); ++family)
    for (const auto& gear : gears_of(family))
      for (const auto& info : options_of(*gear.make_options()))
        EXPECT_EQ(*canonical_gear(family, gear.name + ":" + info.name + "=" + info.value), gear.name);
}

TEST(OptionText, ProcsTakesBothEndsOnly) {
  for (const char* good : {"1", "2", "256"}) EXPECT_TRUE(parse_procs(good)) << good;
  for (const char* bad : {"", "0", "257", "-1", "1x", "x", "18446744073709551617", " 1"})
    EXPECT_FALSE(parse_procs(bad)) << bad;
}

// The page is a build product that readers see: stale, it lies about ranges.
TEST(OptionsPage, DocsOptionsIsWhatTheBinaryPrints) {
  auto page = os::read_file(GEARBOX_SOURCE_DIR "/docs/OPTIONS.md");
  ASSERT_TRUE(page) << page.error().message << "; make it with: ./gearbox options > docs/OPTIONS.md";
  std::FILE* pipe = ::popen("\"" GEARBOX_BINARY_DIR "/gearbox-bin\" options", "r");
  ASSERT_NE(pipe, nullptr);
  std::string printed;
  char buffer[4096];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) printed.append(buffer, n);
  EXPECT_EQ(::pclose(pipe), 0);
  EXPECT_TRUE(printed == *page) << "docs/OPTIONS.md is stale; renew it with: ./gearbox options > docs/OPTIONS.md";
}

TEST(Sha256, MatchesThePublishedExamples) {
  const auto hex = [](std::string_view text) {
    Sha256 hash;
    hash.add(text);
    return hash.hex();
  };
  EXPECT_EQ(hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace gearbox::harness
