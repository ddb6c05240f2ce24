#include "workloads/kv_server/glob.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <utility>

namespace gearbox::workloads::kv {
namespace {

constexpr std::uint32_t kStepsBetweenPauses = 4096;

int lower(char c) { return std::tolower(static_cast<unsigned char>(c)); }

class Matcher {
 public:
  Matcher(std::string_view pattern, void (*pause)()) : pattern_(pattern), pause_(pause) {}

  bool matches(std::string_view text) {
    constexpr std::size_t kNone = std::string_view::npos;
    std::size_t p = 0, t = 0;
    std::size_t after_star = kNone, star_text = 0;  // behind the last star, and where its text ends so far
    while (t < text.size()) {
      if (p < pattern_.size() && pattern_[p] == '*') {
        while (p < pattern_.size() && pattern_[p] == '*') ++p, step();
        if (p == pattern_.size()) return true;
        after_star = p;
        star_text = t;
      } else if (p < pattern_.size() && one(p, text[t])) {
        ++t;
      } else if (after_star != kNone) {
        p = after_star;
        t = ++star_text;
      } else {
        return false;
      }
      step();
    }
    for (; p < pattern_.size() && pattern_[p] == '*'; ++p) step();
    return p == pattern_.size();
  }

 private:
  void step() {
    if (++steps_ % kStepsBetweenPauses == 0 && pause_ != nullptr) pause_();
  }

  // Whether c matches the element of the pattern at p, which is then moved behind it.
  bool one(std::size_t& p, char c) {
    if (pattern_[p] == '[') return one_of(p, c);
    if (pattern_[p] == '\\' && p + 1 < pattern_.size())
      ++p;
    else if (pattern_[p] == '?')
      return ++p, true;
    return lower(pattern_[p++]) == lower(c);
  }

  // A class that is not closed ends with the pattern, as in Redis.
  bool one_of(std::size_t& p, char c) {
    const bool inverted = ++p < pattern_.size() && pattern_[p] == '^';
    if (inverted) ++p;
    bool found = false;
    for (; p < pattern_.size() && pattern_[p] != ']'; ++p) {
      step();
      if (pattern_[p] == '\\' && p + 1 < pattern_.size()) ++p;
      int low = lower(pattern_[p]), high = low;
      if (p + 2 < pattern_.size() && pattern_[p + 1] == '-' && pattern_[p + 2] != ']') {
        high = lower(pattern_[p += 2]);
        if (low > high) std::swap(low, high);
      }
      found |= low <= lower(c) && lower(c) <= high;
    }
    p = std::min(p + 1, pattern_.size());
    return found != inverted;
  }

  const std::string_view pattern_;
  void (*const pause_)();
  std::uint32_t steps_ = 0;
};

}  // namespace

bool matches(std::string_view pattern, std::string_view text, void (*pause)()) {
  return Matcher(pattern, pause).matches(text);
}

}  // namespace gearbox::workloads::kv
