// gc_latency: a ring of messages; each push allocates a message of 1 KiB, fills it, and drops the oldest one. Every
// push is timed: what the collector and the allocator's refills do to one goroutine's latency. The shape of gc_latency
// in Go's x/benchmarks: ring of 200 000 x 1 KiB without references.
#include <cstring>

#include "interfaces/workload.h"
#include "runtime/api.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t ring = 200'000;
  std::uint64_t message_bytes = 1024;
  std::uint64_t warmup = 1'000'000;
  std::uint64_t pushes = 5'000'000;
  std::uint64_t goroutines = 0;

  void visit(OptionVisitor& v) {
    v.field("ring", ring, {1, 10'000'000}, "Messages alive at a time.");
    v.field("message_bytes", message_bytes, {16, 65536}, "Bytes of a message, all written.");
    v.field("warmup", warmup, {0, 1'000'000'000}, "Pushes before the timed ones.");
    v.field("pushes", pushes, {1, 1'000'000'000}, "Timed pushes.");
    v.field("goroutines", goroutines, {0, 1'000'000},
            "Goroutines that wait meanwhile: stacks for the collector to scan, and for a stop to count.");
  }
};

void run(const Params& params, Report& report) {
  const Root<Ref<char>> ring(make_array<Ref<char>>(params.ring).data());
  Histogram latency;
  const auto gate = make_chan<std::uint64_t>();
  WaitGroup waiting;
  waiting.add(static_cast<std::int64_t>(params.goroutines));
  for (std::uint64_t i = 0; i < params.goroutines; ++i)
    go([&waiting, gate] {
      gate.recv();
      waiting.done();
    });
  const auto push = [&](std::uint64_t i) {
    char* message = make_bytes(params.message_bytes);
    std::memset(message, static_cast<int>(i & 0xff), params.message_bytes);
    ring.load()[i % params.ring] = message;
  };
  for (std::uint64_t i = 0; i < params.warmup; ++i) push(i);
  const std::int64_t began = now_ns();
  std::int64_t last = began;
  for (std::uint64_t i = params.warmup; i < params.warmup + params.pushes; ++i) {
    push(i);
    const std::int64_t now = now_ns();
    latency.record(static_cast<std::uint64_t>(now - last));
    last = now;
  }
  const std::int64_t elapsed = last - began;
  gate.close();
  waiting.wait();

  // Every message that should be alive still holds what was written into all of it.
  const std::uint64_t end = params.warmup + params.pushes;
  const std::uint64_t alive = std::min(end, params.ring);
  std::uint64_t damaged = 0;
  for (std::uint64_t i = end - alive; i < end; ++i) {
    const char* message = ring.load()[i % params.ring];
    const char expected = static_cast<char>(i & 0xff);
    damaged += message[0] != expected || std::memcmp(message, message + 1, params.message_bytes - 1) != 0 ? 1 : 0;
  }
  report.throughput(static_cast<double>(params.pushes), elapsed, "pushes/s");
  constexpr double kPercentiles[] = {50, 99, 99.9, 99.99};
  constexpr const char* kNames[] = {"p50", "p99", "p99.9", "p99.99"};
  for (int i = 0; i < 4; ++i)
    report.metric(kNames[i], "ns", "lower", static_cast<double>(latency.percentile(kPercentiles[i])));
  report.histogram("latency", "ns", latency);
  report.check_equal("damaged messages", damaged, std::uint64_t{0});
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
