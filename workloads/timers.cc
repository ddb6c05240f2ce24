// timers: many goroutines that sleep, each several times for its own span. Arming and firing timers, parking and
// readying, and how late they wake.
//
// Each goroutine's wake-ups are due at moments fixed at its beginning, one span after the other, whatever became of those
// before: an open load (load/schedule.h). While the world stands still wake-ups go on becoming due, and each is charged. One
// that is due already when its turn comes does not sleep.
#include "base/random.h"
#include "interfaces/workload.h"
#include "runtime/api.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t goroutines = 100'000;
  std::uint64_t sleeps = 20;
  std::uint64_t shortest_us = 50'000;
  std::uint64_t spread_us = 150'000;
  std::uint64_t seed = 1;

  void visit(OptionVisitor& v) {
    v.field("goroutines", goroutines, {1, 2'000'000}, "Goroutines that sleep at the same time.");
    v.field("sleeps", sleeps, {1, 100'000}, "Sleeps of each.");
    v.field("shortest_us", shortest_us, {1, 10'000'000}, "Shortest sleep, microseconds.");
    v.field("spread_us", spread_us, {0, 10'000'000}, "The longest sleep is this much longer, microseconds.");
    v.field("seed", seed, {0, UINT64_MAX}, "Seed of the spans.");
  }
};

void run(const Params& params, Report& report) {
  WaitGroup all;
  std::atomic<std::uint64_t> early{0}, woken{0}, overdue{0};
  GoMutex merge;
  Histogram lateness;
  all.add(static_cast<std::int64_t>(params.goroutines));
  const std::int64_t began = now_ns();
  for (std::uint64_t n = 0; n < params.goroutines; ++n) {
    go([&, n] {
      Random random(params.seed * 1'000'003 + n);
      std::uint64_t too_early = 0, past = 0;
      std::int64_t late[16];
      int filled = 0;
      const auto flush = [&] {
        merge.lock();
        while (filled > 0) lateness.record(static_cast<std::uint64_t>(late[--filled]));
        merge.unlock();
      };
      std::int64_t due = now_ns();
      for (std::uint64_t i = 0; i < params.sleeps; ++i) {
        due += static_cast<std::int64_t>(params.shortest_us + random() % (params.spread_us + 1)) * kMicrosecond;
        const std::int64_t left = due - now_ns();
        if (left > 0) gearbox::sleep(left);
        past += left > 0 ? 0 : 1;
        const std::int64_t over = now_ns() - due;
        too_early += over < 0 ? 1 : 0;
        late[filled++] = over > 0 ? over : 0;
        if (filled == 16) flush();
      }
      flush();
      early.fetch_add(too_early, std::memory_order_relaxed);
      overdue.fetch_add(past, std::memory_order_relaxed);
      woken.fetch_add(params.sleeps, std::memory_order_relaxed);
      all.done();
    });
  }
  all.wait();
  const std::uint64_t sleeps = params.goroutines * params.sleeps;
  report.throughput(static_cast<double>(sleeps), now_ns() - began, "sleeps/s");
  report.histogram("latency", "ns", lateness);
  report.metric("late_p50", "ns", "lower", static_cast<double>(lateness.percentile(50)));
  report.metric("late_p99", "ns", "lower", static_cast<double>(lateness.percentile(99)));
  report.metric("overdue", "%", "lower", 100 * static_cast<double>(overdue.load()) / static_cast<double>(sleeps));
  report.check_equal("sleeps that ended", woken.load(), sleeps);
  report.check_equal("sleeps that ended too early", early.load(), std::uint64_t{0});
}

}  // namespace

WorkloadEntry timers() {
  return make_workload<Params>({.name = "timers",
                                .summary = "Many goroutines sleep for spans of their own; how many wake, and how late.",
                                .headline = "late_p99"},
                               run);
}

}  // namespace gearbox::workloads
