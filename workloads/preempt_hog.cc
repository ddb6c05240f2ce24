// preempt_hog: loops that call nothing of the runtime, beside goroutines that want a little time often. How late a sleep
// of a millisecond ends, and how long a collection takes to stop loops that pass no safepoint. Every loop ends by itself,
// so that the workload ends without preemption, too.
#include "base/os/clock.h"
#include "interfaces/workload.h"
#include "runtime/api.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t hogs = 4;
  std::uint64_t hog_ms = 500;
  std::uint64_t probes = 1;
  std::uint64_t probe_us = 1000;
  std::uint64_t gc_every_ms = 50;

  void visit(OptionVisitor& v) {
    v.field("hogs", hogs, {1, 10'000}, "Goroutines that compute without a safepoint.");
    v.field("hog_ms", hog_ms, {1, 600'000}, "Milliseconds of wall time that each computes for, from its first turn.");
    v.field("probes", probes, {1, 1'000}, "Goroutines that sleep again and again while the others compute.");
    v.field("probe_us", probe_us, {10, 1'000'000}, "Microseconds of each of their sleeps.");
    v.field("gc_every_ms", gc_every_ms, {0, 600'000}, "Milliseconds between two collections. 0: none.");
  }
};

// A generator of numbers whose period no compiler sees through; about 100 us between two looks at the clock, which is a
// call into the kernel's shared page and no safepoint (now_ns() is one).
[[gnu::noinline]] std::uint64_t compute_until(std::int64_t until_ns) {
  std::uint64_t state = 1;
  while (os::monotonic_ns() < until_ns)
    for (int i = 0; i < 50'000; ++i) state = state * 6364136223846793005u + 1442695040888963407u;
  return state;
}

void run(const Params& params, Report& report) {
  std::atomic<std::uint64_t> hogs_left{params.hogs}, mixed{0};
  WaitGroup hogs, probes;
  hogs.add(static_cast<std::int64_t>(params.hogs));
  probes.add(static_cast<std::int64_t>(params.probes));
  GoMutex merge;
  Histogram lateness, collections;
  std::uint64_t early = 0;
  const std::int64_t began = now_ns();
  for (std::uint64_t i = 0; i < params.probes; ++i)
    go([&] {
      const auto span = static_cast<std::int64_t>(params.probe_us) * kMicrosecond;
      do {
        const std::int64_t before = now_ns();
        gearbox::sleep(span);
        const std::int64_t over = now_ns() - before - span;
        merge.lock();
        lateness.record(static_cast<std::uint64_t>(over > 0 ? over : 0));
        early += over < 0 ? 1 : 0;
        merge.unlock();
      } while (hogs_left.load(std::memory_order_relaxed) != 0);
      probes.done();
    });
  for (std::uint64_t i = 0; i < params.hogs; ++i)
    go([&] {
      mixed.fetch_xor(compute_until(now_ns() + static_cast<std::int64_t>(params.hog_ms) * kMillisecond),
                      std::memory_order_relaxed);
      hogs_left.fetch_sub(1, std::memory_order_relaxed);
      hogs.done();
    });
  while (params.gc_every_ms != 0 && hogs_left.load(std::memory_order_relaxed) != 0) {
    gearbox::sleep(static_cast<std::int64_t>(params.gc_every_ms) * kMillisecond);
    const std::int64_t before = now_ns();
    gc();
    collections.record(static_cast<std::uint64_t>(now_ns() - before));
  }
  hogs.wait();
  probes.wait();
  report.metric("late_p99", "ns", "lower", static_cast<double>(lateness.percentile(99)));
  report.metric("late_p50", "ns", "lower", static_cast<double>(lateness.percentile(50)));
  report.metric("late_max", "ns", "lower", static_cast<double>(lateness.max()));
  if (collections.count() != 0) report.metric("gc_p50", "ns", "lower", static_cast<double>(collections.percentile(50)));
  report.metric("elapsed", "s", "lower", static_cast<double>(now_ns() - began) * 1e-9);
  report.histogram("latency", "ns", lateness);
  if (collections.count() != 0) report.histogram("gc_call", "ns", collections);
  report.check_equal("sleeps that ended too early", early, std::uint64_t{0});
  report.check_equal("hogs that have not ended", hogs_left.load(), std::uint64_t{0});
}

}  // namespace

WorkloadEntry preempt_hog() {
  return make_workload<Params>(
      {.name = "preempt_hog",
       .summary = "Loops without a safepoint beside goroutines that sleep a millisecond; how late those wake.",
       .headline = "late_p99"},
      run);
}

}  // namespace gearbox::workloads
