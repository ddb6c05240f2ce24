#include "workloads/load/schedule.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "runtime/api.h"

namespace gearbox::workloads::load {
namespace {
// Longer than a timer is usually late on an idle machine, and short beside the gaps of a load that parks at all.
constexpr std::int64_t kLookNs = 100 * kMicrosecond;
}  // namespace

void Load::visit(OptionVisitor& v) {
  v.field("arrivals", arrivals, {"closed", "fixed", "poisson"},
          "When an operation begins: after the one before it, at equal distances, or as independent users come.");
  v.field("rate", rate, {0, 1'000'000'000},
          "Operations a second with arrivals=fixed or poisson. 0: load_pct of what a closed load reaches first.");
  v.field("load_pct", load_pct, {1, 1000}, "Per cent of the peak, where rate is 0.");
  v.field("arrival_seed", arrival_seed, {0, UINT64_MAX}, "Seed of the gaps of arrivals=poisson.");
}

double per_second(std::uint64_t operations, std::int64_t elapsed_ns) {
  return static_cast<double>(operations) * 1e9 / static_cast<double>(std::max<std::int64_t>(elapsed_ns, 1));
}

double rate_of(const Load& load, double peak_per_s) {
  const double rate =
      load.rate != 0 ? static_cast<double>(load.rate) : peak_per_s * static_cast<double>(load.load_pct) / 100;
  return std::max(rate, 1e-3);
}

Schedule::Schedule(Arrivals arrivals, double rate_per_s, std::int64_t begin_ns, std::uint64_t seed)
    : arrivals_(arrivals), gap_ns_(1e9 / rate_per_s), due_ns_(0), begin_ns_(begin_ns), random_(seed) {
  GEARBOX_REQUIRE(rate_per_s > 0, "a schedule needs a rate above 0, has {}", rate_per_s);
}

std::int64_t Schedule::next() {
  double gap = gap_ns_;
  if (arrivals_ == Arrivals::kPoisson) {
    const double uniform = (static_cast<double>(random_() >> 11) + 0.5) * 0x1p-53;  // in (0, 1)
    gap *= -std::log(uniform);
  }
  due_ns_ += gap;
  return begin_ns_ + static_cast<std::int64_t>(due_ns_);
}

void wait_until(std::int64_t due_ns, Waiting waiting) {
  const std::int64_t awake_ns = waiting == Waiting::kLooks ? kLookNs : 0;
  for (std::int64_t early = due_ns - now_ns(); early > 0; early = due_ns - now_ns())
    if (early > awake_ns) gearbox::sleep(early - awake_ns);
}

}  // namespace gearbox::workloads::load
