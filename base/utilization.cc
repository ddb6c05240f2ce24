#include "base/utilization.h"

#include <algorithm>

#include "base/check.h"

namespace gearbox {
namespace {

// The time in pauses from the run's beginning to any moment.
class Paused {
 public:
  Paused(const std::vector<Interval>& pauses, Interval run) {
    std::int64_t sum = 0;
    for (const Interval& pause : pauses) {
      const Interval inside{std::max(pause.begin_ns, run.begin_ns), std::min(pause.end_ns, run.end_ns)};
      if (inside.begin_ns >= inside.end_ns) continue;
      pauses_.push_back(inside);
      before_.push_back(sum);
      sum += inside.end_ns - inside.begin_ns;
    }
  }
  std::int64_t until(std::int64_t at) const {
    const auto after = std::upper_bound(pauses_.begin(), pauses_.end(), at,
                                        [](std::int64_t t, const Interval& pause) { return t < pause.begin_ns; });
    if (after == pauses_.begin()) return 0;
    const auto i = static_cast<std::size_t>(after - pauses_.begin()) - 1;
    return before_[i] + std::min(at, pauses_[i].end_ns) - pauses_[i].begin_ns;
  }
  const std::vector<Interval>& pauses() const { return pauses_; }

 private:
  std::vector<Interval> pauses_;
  std::vector<std::int64_t> before_;
};

}  // namespace

// As a window slides, the time paused in it grows and shrinks in straight pieces, so the worst window begins where a pause
// begins or ends where a pause ends.
double minimum_utilization(const std::vector<Interval>& pauses, Interval run, std::int64_t window_ns) {
  GEARBOX_REQUIRE(run.begin_ns < run.end_ns && window_ns > 0, "run {} to {}, window {}", run.begin_ns, run.end_ns,
                  window_ns);
  const std::int64_t window = std::min(window_ns, run.end_ns - run.begin_ns);
  const Paused paused(pauses, run);
  std::int64_t worst = 0;
  const auto look = [&](std::int64_t begin) {
    begin = std::clamp(begin, run.begin_ns, run.end_ns - window);
    worst = std::max(worst, paused.until(begin + window) - paused.until(begin));
  };
  for (const Interval& pause : paused.pauses()) {
    look(pause.begin_ns);
    look(pause.end_ns - window);
  }
  return 1 - static_cast<double>(worst) / static_cast<double>(window);
}

}  // namespace gearbox
