#include "base/nearest.h"

#include <algorithm>
#include <cctype>

namespace gearbox {
namespace {

std::string lower(std::string_view word) {
  std::string out(word);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string wanted = lower(word);
  std::string best;
  std::size_t best_distance = ~std::size_t{0};
  bool best_is_prefix = false;
  for (const auto& candidate : candidates) {
    const std::string c = lower(candidate);
    std::size_t distance = edit_distance(wanted, c);
    // A prefix is what people type when they expect completion: "conc" is near "concurrent" whatever the distance says.
    const bool prefix = !wanted.empty() && c.starts_with(wanted);
    if (prefix) distance = std::min<std::size_t>(distance, 1);
    if (distance < best_distance ||
        (distance == best_distance && prefix && !best_is_prefix)) {  // "of" is an unfinished "off", not a wrong "on"
      best_distance = distance;
      best_is_prefix = prefix;
      best = candidate;
    }
  }
  return best_distance * 2 <= std::max(wanted.size(), best.size()) ? best : std::string();
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string near = nearest(word, candidates);
  return near.empty() ? std::string() : "; did you mean '" + near + "'?";
}

}  // namespace gearbox
