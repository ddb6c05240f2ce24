#include "workloads/load/latencies.h"

#include <algorithm>
#include <limits>

namespace gearbox::workloads::load {

namespace {
std::uint64_t span(std::int64_t from_ns, std::int64_t to_ns) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(to_ns - from_ns, 0));
}
}  // namespace

void Latencies::record(std::int64_t due_ns, std::int64_t began_ns, std::int64_t ended_ns) {
  if (!service_) service_.emplace();
  charged_.record(span(std::min(due_ns, began_ns), ended_ns));
  service_->record(span(began_ns, ended_ns));
}

void Latencies::record_closed(std::int64_t began_ns, std::int64_t ended_ns) noexcept {
  charged_.record(span(began_ns, ended_ns));
}

void Latencies::merge(const Latencies& other) {
  charged_ += other.charged_;
  if (!other.service_) return;
  if (!service_) service_.emplace();
  *service_ += *other.service_;
}

void Latencies::report(Report& report) const {
  constexpr double kPercentiles[] = {50, 99, 99.9, 99.99};
  constexpr const char* kNames[] = {"p50", "p99", "p99.9", "p99.99"};
  for (int i = 0; i < 4; ++i)
    report.metric(kNames[i], "ns", "lower", static_cast<double>(charged_.percentile(kPercentiles[i])));
  report.histogram("latency", "ns", charged_);
  if (service_) report.histogram("service", "ns", *service_);
}

// A start is smoothed by spreading it evenly over a window around it, cut at the ends of the run. The smoothed count of
// starts is then made of straight pieces, which change their slope where a window opens or shuts; windows open in the order
// of the starts, and shut in that order. The k-th request of the stream comes where the count reaches k + 1/2.
Histogram metered(const std::vector<Span>& spans, std::int64_t window_ns) {
  Histogram out;
  if (spans.empty()) return out;
  const double first = 0, last = static_cast<double>(spans.back().began_ns - spans.front().began_ns);
  if (last <= 0) {
    for (const Span& one : spans) out.record(span(one.began_ns, one.ended_ns));
    return out;
  }
  const double half = window_ns == 0 ? last : std::max(0.5, static_cast<double>(window_ns) / 2);
  const auto began = [&](std::size_t i) { return static_cast<double>(spans[i].began_ns - spans[0].began_ns); };
  const auto opens = [&](std::size_t i) { return std::max(first, began(i) - half); };
  const auto shuts = [&](std::size_t i) { return std::min(last, began(i) + half); };
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const std::size_t count = spans.size();
  std::size_t opened = 0, shut = 0;
  double at = first, passed = 0, slope = 0;
  for (std::size_t k = 0; k < count; ++k) {
    const double wanted = static_cast<double>(k) + 0.5;
    double place = last;
    while (opened < count || shut < count) {
      const double to_open = opened < count ? opens(opened) : kNever, to_shut = shut < count ? shuts(shut) : kNever;
      const double next = std::min(to_open, to_shut), there = passed + slope * (next - at);
      if (slope > 0 && there >= wanted) {
        place = at + (wanted - passed) / slope;
        break;
      }
      passed = there;
      at = next;
      if (to_open <= to_shut) {
        slope += 1 / (shuts(opened) - opens(opened));
        ++opened;
      } else {
        slope -= 1 / (shuts(shut) - opens(shut));
        if (++shut == opened) slope = 0;  // what rounding left
      }
    }
    const double due = std::min(place, began(k));
    out.record(
        static_cast<std::uint64_t>(std::max(static_cast<double>(spans[k].ended_ns - spans[0].began_ns) - due, 0.0)));
  }
  return out;
}

void report_metered(Report& report, const std::vector<Span>& spans) {
  constexpr std::int64_t kWindowsMs[] = {1, 10, 100, 0};
  for (const std::int64_t ms : kWindowsMs)
    report.metric(ms == 0 ? "metered_run_p99.9" : fmt::format("metered_{}ms_p99.9", ms), "ns", "lower",
                  static_cast<double>(metered(spans, ms * 1'000'000).percentile(99.9)));
}

}  // namespace gearbox::workloads::load
