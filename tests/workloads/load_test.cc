// Open loads: schedules keep their rate whatever happens, latencies are charged from them, and what is computed from pauses
// and starts agrees with a slow computation of the same thing.
#include <algorithm>
#include <cmath>
#include <random>

#include "base/utilization.h"
#include "tests/workloads/workload.h"
#include "workloads/load/latencies.h"
#include "workloads/load/schedule.h"

namespace gearbox {
namespace {

using testing::failures_of;
using testing::run_workload;
using workloads::load::Arrivals;
using workloads::load::Latencies;
using workloads::load::Load;
using workloads::load::metered;
using workloads::load::Schedule;
using workloads::load::Span;

double metric(const Report& report, const std::string& name) {
  for (const auto& metric : report.metrics)
    if (metric.name == name) return metric.value;
  ADD_FAILURE() << "no metric " << name;
  return 0;
}

TEST(Schedule, FixedGapsAddUpWithoutDrift) {
  Schedule schedule(Arrivals::kFixed, 3e6, 1'000, 1);  // a third of a microsecond: no whole number of nanoseconds
  std::int64_t last = 0;
  for (int i = 0; i < 3'000'000; ++i) last = schedule.next();
  EXPECT_NEAR(static_cast<double>(last), 1e9 + 1'000, 2);
}

TEST(Schedule, PoissonGapsAreExponentialAndIndependent) {
  constexpr int kCount = 200'000;
  Schedule schedule(Arrivals::kPoisson, 1e6, 0, 7);
  std::int64_t before = 0;
  double sum = 0, squares = 0, products = 0, last = 0;
  int beyond_mean = 0;
  for (int i = 0; i < kCount; ++i) {
    const std::int64_t due = schedule.next();
    ASSERT_GE(due, before);
    const auto gap = static_cast<double>(due - before);
    sum += gap;
    squares += gap * gap;
    products += (gap - 1000) * (last - 1000) * (i > 0 ? 1 : 0);
    beyond_mean += gap > 1000 ? 1 : 0;
    last = gap;
    before = due;
  }
  const double mean = sum / kCount;
  EXPECT_NEAR(mean, 1000, 10);
  EXPECT_NEAR(std::sqrt(squares / kCount - mean * mean), 1000, 15);
  EXPECT_NEAR(static_cast<double>(beyond_mean) / kCount, std::exp(-1), 0.005);
  EXPECT_NEAR(products / kCount / 1e6, 0, 0.01);
}

TEST(Schedule, TheSameSeedGivesTheSameMoments) {
  Schedule a(Arrivals::kPoisson, 1e5, 0, 3), b(Arrivals::kPoisson, 1e5, 0, 3), other(Arrivals::kPoisson, 1e5, 0, 4);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const std::int64_t due = a.next();
    EXPECT_EQ(due, b.next());
    differs = differs || due != other.next();
  }
  EXPECT_TRUE(differs);
}

// One operation of 10 ms among those that are due each millisecond: the nine that were due meanwhile are charged, too.
TEST(Latencies, AnOpenLoadChargesWhoeverWaits) {
  Latencies open, closed;
  std::int64_t free_at = 0;
  for (int i = 0; i < 100; ++i) {
    const std::int64_t due = i * 1'000'000, began = std::max(due, free_at), took = i == 50 ? 10'000'000 : 1'000;
    free_at = began + took;
    open.record(due, began, free_at);
    closed.record_closed(began, free_at);
  }
  EXPECT_GT(open.charged().percentile(93), 2'900'000u);
  EXPECT_LT(closed.charged().percentile(99), 1'100u);
  Report report;
  open.report(report);
  ASSERT_EQ(report.hists.size(), 2u);
  EXPECT_EQ(report.hists[1].name, "service");
  EXPECT_LT(report.hists[1].histogram.percentile(99), 1'100u);
}

// The smoothed stream, computed slowly: each start is spread over its window, and the k-th request comes where the count
// reaches k + 1/2.
std::vector<double> slow_stream(const std::vector<Span>& spans, double half) {
  const double first = static_cast<double>(spans.front().began_ns), last = static_cast<double>(spans.back().began_ns);
  const auto count = [&](double t) {
    double sum = 0;
    for (const Span& span : spans) {
      const double lo = std::max(first, static_cast<double>(span.began_ns) - half);
      const double hi = std::min(last, static_cast<double>(span.began_ns) + half);
      sum += std::clamp((t - lo) / (hi - lo), 0.0, 1.0);
    }
    return sum;
  };
  std::vector<double> out;
  for (std::size_t k = 0; k < spans.size(); ++k) {
    double lo = first, hi = last;
    for (int i = 0; i < 80; ++i) (count((lo + hi) / 2) < static_cast<double>(k) + 0.5 ? lo : hi) = (lo + hi) / 2;
    out.push_back((lo + hi) / 2);
  }
  return out;
}

TEST(Metered, AgreesWithASlowComputation) {
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    std::vector<Span> spans;
    std::int64_t now = 1'000'000;
    for (int i = 0; i < 60; ++i) {
      const std::int64_t took = random() % 10 == 0 ? 200'000 + random() % 300'000 : 100 + random() % 5'000;
      spans.push_back({now, now + took});
      now += took;
    }
    const std::int64_t run = spans.back().began_ns - spans.front().began_ns;
    for (const std::int64_t window : {std::int64_t{20'000}, std::int64_t{400'000}, 2 * run, std::int64_t{0}}) {
      const auto stream = slow_stream(spans, window == 0 ? static_cast<double>(run) : static_cast<double>(window) / 2);
      std::uint64_t sum = 0;
      for (std::size_t k = 0; k < spans.size(); ++k)
        sum += static_cast<std::uint64_t>(static_cast<double>(spans[k].ended_ns) -
                                          std::min(stream[k], static_cast<double>(spans[k].began_ns)));
      const Histogram found = metered(spans, window);
      EXPECT_EQ(found.count(), spans.size());
      EXPECT_NEAR(static_cast<double>(found.sum()), static_cast<double>(sum), 100.0) << window;
    }
  }
}

// A steady program is charged what it took, whatever the window; a pause is charged to those that it kept waiting.
TEST(Metered, APauseIsChargedToTheStreamAndNotOnlyToOne) {
  std::vector<Span> steady, paused;
  for (int i = 0; i < 10'000; ++i) steady.push_back({i * 1'000, i * 1'000 + 1'000});
  std::int64_t now = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::int64_t took = i == 5'000 ? 5'000'000 : 500;
    paused.push_back({now, now + took});
    now += took;
  }
  EXPECT_LE(metered(steady, 0).percentile(99.9), 1'600u);
  EXPECT_LE(metered(paused, 1).percentile(99.9), 520u) << "a short window keeps the program's own rhythm";
  EXPECT_GT(metered(paused, 0).percentile(90), 1'000'000u);
  EXPECT_EQ(metered({}, 0).count(), 0u);
  EXPECT_EQ(metered({{5, 9}, {5, 9}}, 0).max(), 4u);
}

double slow_utilization(const std::vector<Interval>& pauses, Interval run, std::int64_t window) {
  window = std::min(window, run.end_ns - run.begin_ns);
  std::int64_t worst = 0;
  for (std::int64_t begin = run.begin_ns; begin + window <= run.end_ns; ++begin) {
    std::int64_t paused = 0;
    for (const Interval& pause : pauses)
      paused += std::max<std::int64_t>(0, std::min(pause.end_ns, begin + window) - std::max(pause.begin_ns, begin));
    worst = std::max(worst, paused);
  }
  return 1 - static_cast<double>(worst) / static_cast<double>(window);
}

TEST(MinimumUtilization, AgreesWithEveryWindow) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<Interval> pauses;
    std::int64_t at = static_cast<std::int64_t>(random() % 50) - 20;
    for (int i = 0; i < 6; ++i) {
      const std::int64_t begin = at + static_cast<std::int64_t>(random() % 40),
                         end = begin + static_cast<std::int64_t>(random() % 25);
      pauses.push_back({begin, end});
      at = end;
    }
    const Interval run{0, 200};
    for (const std::int64_t window : {1, 7, 30, 100, 200, 500})
      EXPECT_DOUBLE_EQ(minimum_utilization(pauses, run, window), slow_utilization(pauses, run, window)) << window;
  }
  EXPECT_EQ(minimum_utilization({}, {0, 10}, 5), 1.0);
  EXPECT_EQ(minimum_utilization({{0, 10}}, {0, 10}, 5), 0.0);
}

TEST(OpenLoad, EveryWorkloadThatTakesOneReachesItsRateAndChecksItsAnswers) {
  for (const char* arrivals : {"closed", "fixed", "poisson"}) {
    const auto kind = static_cast<std::uint64_t>(arrivals[0] == 'c' ? 0 : arrivals[0] == 'f' ? 1 : 2);
    SCOPED_TRACE(arrivals);
    EXPECT_EQ(
        failures_of(run_workload("echo", {"epoll", {}}, {{"connections", 8}, {"requests", 2000}, {"arrivals", kind}})),
        "");
    EXPECT_EQ(failures_of(run_workload("gc_latency", {"epoll", {}},
                                       {{"ring", 1000}, {"warmup", 4000}, {"pushes", 10'000}, {"arrivals", kind}})),
              "");
    EXPECT_EQ(failures_of(run_workload("bimodal", {"epoll", {}},
                                       {{"requests", 500}, {"short_us", 5}, {"long_us", 200}, {"arrivals", kind}})),
              "");
    EXPECT_EQ(
        failures_of(run_workload("hyperalloc", {"epoll", {}},
                                 {{"live_mib", 2}, {"allocate_mib_s", 20}, {"duration_ms", 100}, {"arrivals", kind}})),
        "");
  }
}

TEST(OpenLoad, TheRateThatIsAskedForIsOffered) {
  const Report report = run_workload(
      "gc_latency", {"epoll", {}}, {{"ring", 100}, {"warmup", 0}, {"pushes", 2000}, {"arrivals", 1}, {"rate", 10'000}});
  EXPECT_EQ(failures_of(report), "");
  EXPECT_EQ(metric(report, "offered_rate"), 10'000);
  EXPECT_LE(metric(report, "throughput"), 10'050) << "the load ran ahead of its schedule";
}

TEST(OpenLoad, WhatCannotBeIsRefusedWithAReason) {
  EXPECT_NE(failures_of(run_workload("gc_latency", {"epoll", {}}, {{"warmup", 100}, {"pushes", 10}, {"arrivals", 1}}))
                .find("warmup=100"),
            std::string::npos);
  EXPECT_NE(failures_of(run_workload("gc_latency", {"epoll", {}}, {{"metered", 1}, {"pushes", 10}, {"arrivals", 1}}))
                .find("metered"),
            std::string::npos);
  EXPECT_NE(failures_of(run_workload("hyperalloc", {"epoll", {}}, {{"rate", 0}})).find("rate"), std::string::npos);
}

TEST(OpenLoad, MeteredLatenciesAreReported) {
  const Report report =
      run_workload("gc_latency", {"epoll", {}}, {{"ring", 100}, {"warmup", 0}, {"pushes", 5000}, {"metered", 1}});
  EXPECT_EQ(failures_of(report), "");
  for (const char* name : {"metered_1ms_p99.9", "metered_10ms_p99.9", "metered_100ms_p99.9", "metered_run_p99.9"})
    EXPECT_GT(metric(report, name), 0) << name;
}

}  // namespace
}  // namespace gearbox
