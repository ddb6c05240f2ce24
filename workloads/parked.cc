// parked: very many goroutines that wait on one channel, and are let go by closing it. What making one costs, and how much
// memory it keeps while it does nothing.
#include "base/os/memory.h"
#include "interfaces/workload.h"
#include "runtime/api.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t goroutines = 1'000'000;

  void visit(OptionVisitor& v) {
    v.field("goroutines", goroutines, {1, 10'000'000}, "Goroutines that wait at the same time.");
  }
};

void run(const Params& params, Report& report) {
  const auto gate = make_chan<std::uint64_t>();
  std::atomic<std::uint64_t> passed{0};
  WaitGroup waiting, gone;
  const auto n = static_cast<std::int64_t>(params.goroutines);
  waiting.add(n);
  gone.add(n);
  const std::uint64_t resident_before = os::resident_bytes();
  const std::int64_t began = now_ns();
  for (std::int64_t i = 0; i < n; ++i) {
    go([&, gate] {
      waiting.done();
      if (!gate.recv_ok().ok) passed.fetch_add(1, std::memory_order_relaxed);
      gone.done();
    });
  }
  waiting.wait();
  const std::int64_t made = now_ns();
  const std::uint64_t resident = os::resident_bytes();
  gate.close();
  gone.wait();
  const std::int64_t ended = now_ns();
  const auto count = static_cast<double>(params.goroutines);
  report.throughput(count, ended - began, "goroutines/s");
  report.metric("spawn", "ns", "lower", static_cast<double>(made - began) / count);
  report.metric("release", "ns", "lower", static_cast<double>(ended - made) / count);
  report.metric("resident", "bytes", "lower",
                static_cast<double>(resident > resident_before ? resident - resident_before : 0) / count);
  report.check_equal("goroutines that saw the channel close", passed.load(), params.goroutines);
}

}  // namespace

WorkloadEntry parked() {
  return make_workload<Params>(
      {.name = "parked", .summary = "Very many goroutines that wait on one channel: what each costs to make and keep."},
      run);
}

}  // namespace gearbox::workloads
