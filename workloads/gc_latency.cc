// gc_latency: a ring of messages; each push allocates a message of 1 KiB, fills it, and drops the oldest one. Every
// push is timed: what the collector and the allocator's refills do to one goroutine's latency. The shape of gc_latency
// in Go's x/benchmarks: ring of 200 000 x 1 KiB without references.
//
// With arrivals=closed, as Go's, a pause is one slow push among millions and no percentile reaches it. With an open load
// (load/schedule.h) each push that was due in the pause is charged. `metered` charges a closed load afterwards.
#include <cstring>

#include "interfaces/workload.h"
#include "runtime/api.h"
#include "workloads/load/latencies.h"
#include "workloads/load/schedule.h"

namespace gearbox::workloads {
namespace {

constexpr std::uint64_t kFewestForPeak = 1000;

struct Params {
  std::uint64_t ring = 200'000;
  std::uint64_t message_bytes = 1024;
  std::uint64_t warmup = 1'000'000;
  std::uint64_t pushes = 5'000'000;
  std::uint64_t goroutines = 0;
  bool metered = false;
  load::Load load;

  void visit(OptionVisitor& v) {
    v.field("ring", ring, {1, 10'000'000}, "Messages alive at a time.");
    v.field("message_bytes", message_bytes, {16, 65536}, "Bytes of a message, all written.");
    v.field("warmup", warmup, {0, 1'000'000'000}, "Pushes before the timed ones.");
    v.field("pushes", pushes, {1, 1'000'000'000}, "Timed pushes.");
    v.field("goroutines", goroutines, {0, 1'000'000},
            "Goroutines that wait meanwhile: stacks for the collector to scan, and for a stop to count.");
    v.field(
        "metered", metered,
        "With arrivals=closed: p99.9 of metered latency over windows of 1, 10 and 100 ms and the whole run. Takes 16 "
        "bytes a push.");
    load.visit(v);
  }
};

class Ring {
 public:
  explicit Ring(const Params& params) : params_(params), slots_(make_array<Ref<char>>(params.ring).data()) {}
  void push() {
    char* message = make_bytes(params_.message_bytes);
    std::memset(message, static_cast<int>(pushed_ & 0xff), params_.message_bytes);
    slots_.load()[pushed_ % params_.ring] = message;
    ++pushed_;
  }
  // Messages that should be alive and do not hold what was written into all of them.
  std::uint64_t damaged() const {
    std::uint64_t count = 0;
    for (std::uint64_t i = pushed_ - std::min(pushed_, params_.ring); i < pushed_; ++i) {
      const char* message = slots_.load()[i % params_.ring];
      const char expected = static_cast<char>(i & 0xff);
      count += message[0] != expected || std::memcmp(message, message + 1, params_.message_bytes - 1) != 0 ? 1 : 0;
    }
    return count;
  }

 private:
  const Params& params_;
  const Root<Ref<char>> slots_;
  std::uint64_t pushed_ = 0;
};

// Returns how long it took. The end of a push is the beginning of the next.
std::int64_t push_closed(Ring& ring, std::uint64_t pushes, load::Latencies& latencies, std::vector<load::Span>* spans) {
  const std::int64_t began = now_ns();
  std::int64_t last = began;
  for (std::uint64_t i = 0; i < pushes; ++i) {
    ring.push();
    const std::int64_t now = now_ns();
    latencies.record_closed(last, now);
    if (spans != nullptr) (*spans)[i] = {last, now};
    last = now;
  }
  return last - began;
}

std::int64_t push_open(Ring& ring, std::uint64_t pushes, const load::Load& load, double rate,
                       load::Latencies& latencies) {
  const std::int64_t began = now_ns();
  load::Schedule schedule(load.arrivals, rate, began, load.arrival_seed);
  for (std::uint64_t i = 0; i < pushes; ++i) {
    const std::int64_t due = schedule.next();
    load::wait_until(due, load::Waiting::kLooks);
    const std::int64_t start = now_ns();
    ring.push();
    latencies.record(due, start, now_ns());
  }
  return now_ns() - began;
}

void run(const Params& params, Report& report) {
  if (params.load.open() && params.load.rate == 0 && params.warmup < 2 * kFewestForPeak)
    return report.check(
        "rate", false,
        fmt::format("the peak is measured over the second half of warmup={}: that is fewer than {} pushes; "
                    "set rate, or a longer warmup",
                    params.warmup, kFewestForPeak));
  if (params.load.open() && params.metered)
    return report.check("metered", false,
                        "metered=on is for arrivals=closed; an open load is charged from its schedule");
  Ring ring(params);
  const auto gate = make_chan<std::uint64_t>();
  WaitGroup waiting;
  waiting.add(static_cast<std::int64_t>(params.goroutines));
  for (std::uint64_t i = 0; i < params.goroutines; ++i)
    go([&waiting, gate] {
      gate.recv();
      waiting.done();
    });
  std::vector<load::Span> spans(params.metered ? params.pushes : 0);  // touched before the clock starts
  const std::uint64_t first_half = params.warmup / 2, second_half = params.warmup - first_half;
  for (std::uint64_t i = 0; i < first_half; ++i) ring.push();
  const std::int64_t half_time = now_ns();
  for (std::uint64_t i = 0; i < second_half; ++i) ring.push();
  const double peak = load::per_second(second_half, now_ns() - half_time);

  load::Latencies latencies;
  std::int64_t elapsed = 0;
  if (params.load.open()) {
    const double rate = load::rate_of(params.load, peak);
    elapsed = push_open(ring, params.pushes, params.load, rate, latencies);
    report.metric("offered_rate", "pushes/s", "higher", rate);
  } else {
    elapsed = push_closed(ring, params.pushes, latencies, params.metered ? &spans : nullptr);
  }
  gate.close();
  waiting.wait();

  report.throughput(static_cast<double>(params.pushes), elapsed, "pushes/s");
  latencies.report(report);
  if (params.metered) load::report_metered(report, spans);
  report.check_equal("damaged messages", ring.damaged(), std::uint64_t{0});
}

}  // namespace

WorkloadEntry gc_latency() {
  return make_workload<Params>(
      {.name = "gc_latency",
       .summary = "Time of every push into a ring of 1 KiB messages while the oldest become garbage.",
       .headline = "p99.9"},
      run);
}

}  // namespace gearbox::workloads
