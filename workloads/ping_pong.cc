// ping_pong: two goroutines pass a number back and forth over two unbuffered channels. The cost of a dependent wake-up:
// park, ready, switch.
#include "interfaces/workload.h"
#include "runtime/api.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t rounds = 5'000'000;
  std::uint64_t pairs = 1;

  void visit(OptionVisitor& v) {
    v.field("rounds", rounds, {1, 1'000'000'000}, "Round trips of each pair.");
    v.field("pairs", pairs, {1, 10'000}, "Pairs that play at the same time.");
  }
};

void run(const Params& params, Report& report) {
  const auto total = make_chan<std::uint64_t>();
  const std::int64_t began = now_ns();
  for (std::uint64_t pair = 0; pair < params.pairs; ++pair) {
    go([=] {
      const auto ping = make_chan<std::uint64_t>(), pong = make_chan<std::uint64_t>();
      go([=] {
        for (std::uint64_t value : ping) pong.send(value + 1);
      });
      std::uint64_t sum = 0;
      for (std::uint64_t i = 0; i < params.rounds; ++i) {
        ping.send(i);
        sum += pong.recv();
      }
      ping.close();
      total.send(sum);
    });
  }
  std::uint64_t sum = 0;
  for (std::uint64_t pair = 0; pair < params.pairs; ++pair) sum += total.recv();
  const std::int64_t elapsed = now_ns() - began;
  report.throughput(static_cast<double>(params.rounds * params.pairs), elapsed, "round trips/s");
  report.check_equal("sum of the numbers that came back", sum,
                     params.pairs * (params.rounds * (params.rounds + 1) / 2));
}

}  // namespace

WorkloadEntry ping_pong() {
  return make_workload<Params>(
      {.name = "ping_pong", .summary = "Two goroutines pass a number back and forth over unbuffered channels."}, run);
}

}  // namespace gearbox::workloads
