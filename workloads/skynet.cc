// skynet: a tree of goroutines with ten children each; the leaves send their number up, every inner node the sum of its
// children. Spawning, joining over channels, and the memory of a million goroutines. Source:
// github.com/atemerev/skynet.
#include "interfaces/workload.h"
#include "runtime/api.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t leaves = 1'000'000;

  void visit(OptionVisitor& v) {
    v.field("leaves", leaves, {1, 10'000'000}, "Leaves of the tree. Each inner node has ten children or fewer.");
  }
};

void node(const Chan<std::uint64_t>& up, std::uint64_t first, std::uint64_t leaves) {
  if (leaves == 1) {
    up.send(first);
    return;
  }
  const std::uint64_t children = leaves < 10 ? leaves : 10;
  const auto down = make_chan<std::uint64_t>(static_cast<std::uint32_t>(children));
  std::uint64_t given = 0;
  for (std::uint64_t i = 0; i < children; ++i) {
    const std::uint64_t share = leaves / children + (i < leaves % children ? 1 : 0);
    go([down, at = first + given, share] { node(down, at, share); });
    given += share;
  }
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < children; ++i) sum += down.recv();
  up.send(sum);
}

void run(const Params& params, Report& report) {
  const auto root = make_chan<std::uint64_t>();
  const std::int64_t began = now_ns();
  go([&params, root] { node(root, 0, params.leaves); });
  const std::uint64_t sum = root.recv();
  report.throughput(static_cast<double>(params.leaves), now_ns() - began, "leaves/s");
  report.check_equal("sum of all leaves", sum, params.leaves * (params.leaves - 1) / 2);
}

}  // namespace

WorkloadEntry skynet() {
  return make_workload<Params>(
      {.name = "skynet", .summary = "A tree of goroutines, ten children each, that adds up the numbers of its leaves."},
      run);
}

}  // namespace gearbox::workloads
