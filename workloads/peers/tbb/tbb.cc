// oneTBB, as a bound: its tasks have no stack of their own and cannot wait for one another in the middle, except by
// running other tasks on top of themselves. So they cost less than anything that parks, and do less.
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_invoke.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>
#include <oneapi/tbb/version.h>

#include <array>

#include "workloads/peers/peer.h"

namespace gearbox::peers {
namespace {

// A task a call.
std::uint64_t fib(std::uint64_t n) {
  if (n < 2) return n;
  std::uint64_t one = 0, two = 0;
  tbb::parallel_invoke([&] { one = fib(n - 1); }, [&] { two = fib(n - 2); });
  return one + two;
}

std::uint64_t skynet(std::uint64_t first, std::uint64_t leaves) {
  if (leaves == 1) return first;
  const std::uint64_t children = std::min<std::uint64_t>(leaves, 10);
  std::array<std::uint64_t, 10> sums{};
  tbb::task_group group;
  std::uint64_t given = 0;
  for (std::uint64_t i = 0; i < children; ++i) {
    const std::uint64_t share = leaves / children + (i < leaves % children ? 1 : 0);
    group.run([&sum = sums[i], at = first + given, share] { sum = skynet(at, share); });
    given += share;
  }
  group.wait();
  std::uint64_t sum = 0;
  for (const std::uint64_t each : sums) sum += each;
  return sum;
}

}  // namespace
}  // namespace gearbox::peers

int main(int argc, char** argv) {
  using namespace gearbox::peers;
  Peer peer;
  peer.version = std::string("oneTBB ") + TBB_runtime_version();
  peer.benches["fib_27"] = {1, [](std::uint64_t iterations, const Machine&) {
                              for (std::uint64_t i = 0; i < iterations; ++i)
                                check_equal("fib(27)", fib(27), std::uint64_t{196418});
                            }};
  peer.workloads["skynet"] = {
      {{"leaves", 1'000'000}}, [](const Params& params, const Machine&) {
        const std::uint64_t leaves = params.at("leaves");
        if (leaves == 0 || leaves > 1'000'000'000) throw Failure("leaves is from 1 to 1000000000");
        const std::int64_t began = now_ns();
        const std::uint64_t sum = skynet(0, leaves);
        const std::int64_t elapsed_ns = now_ns() - began;
        check_equal("sum of all leaves", sum, leaves * (leaves - 1) / 2);
        return Values{{"throughput", static_cast<double>(leaves) * 1e9 / static_cast<double>(elapsed_ns)}};
      }};
  peer.inside = [](const Machine& machine, const std::function<void()>& program) {
    const tbb::global_control threads(tbb::global_control::max_allowed_parallelism, machine.procs);
    tbb::task_arena arena(static_cast<int>(machine.procs));
    arena.execute(program);
  };
  return peer_main(argc, argv, peer);
}
