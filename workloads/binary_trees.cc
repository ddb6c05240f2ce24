// binary_trees: builds and drops perfect binary trees of every even depth while one large tree stays alive. Allocation
// of small linked objects, marking of a live heap, taking back garbage. The shape of the Benchmarks Game's program
// (after Boehm's GCBench): as many nodes at every depth.
#include "interfaces/workload.h"
#include "runtime/api.h"

namespace gearbox::workloads {
namespace {

struct Node {
  Ref<Node> left, right;
  GEARBOX_REFS(Node, left, right)
};

struct Params {
  std::uint64_t depth = 18;
  std::uint64_t workers = 0;

  void visit(OptionVisitor& v) {
    v.field("depth", depth, {6, 24}, "Depth of the largest trees; they have 2^(depth+1) - 1 nodes.");
    v.field("workers", workers, {0, 256}, "Goroutines that build the trees of one depth. 0: as many as there are Ps.");
  }
};

Node* bottom_up(std::uint64_t depth) {
  Node* node = make<Node>();
  if (depth > 0) {
    node->left = bottom_up(depth - 1);
    node->right = bottom_up(depth - 1);
  }
  return node;
}

std::uint64_t count(const Node* node) { return node->left ? 1 + count(node->left) + count(node->right) : 1; }

void run(const Params& params, Report& report) {
  constexpr std::uint64_t kLeast = 4;
  const std::uint64_t workers = params.workers != 0 ? params.workers : static_cast<std::uint64_t>(gomaxprocs(0));
  const std::int64_t began = now_ns();
  const Root<Node> long_lived(bottom_up(params.depth));
  std::uint64_t nodes = count(long_lived), expected = (std::uint64_t{2} << params.depth) - 1;
  for (std::uint64_t depth = kLeast; depth <= params.depth; depth += 2) {
    const std::uint64_t trees = std::uint64_t{1} << (params.depth - depth + kLeast);
    const auto counts = make_chan<std::uint64_t>(static_cast<std::uint32_t>(workers));
    for (std::uint64_t w = 0; w < workers; ++w) {
      const std::uint64_t share = trees / workers + (w < trees % workers ? 1 : 0);
      go([depth, share, counts] {
        std::uint64_t sum = 0;
        for (std::uint64_t i = 0; i < share; ++i) sum += count(bottom_up(depth));
        counts.send(sum);
      });
    }
    std::uint64_t sum = 0;
    for (std::uint64_t w = 0; w < workers; ++w) sum += counts.recv();
    nodes += sum;
    expected += trees * ((std::uint64_t{2} << depth) - 1);
  }
  const std::int64_t elapsed = now_ns() - began;
  const std::uint64_t alive = count(long_lived);
  report.throughput(static_cast<double>(nodes), elapsed, "nodes/s");
  report.check_equal("nodes counted", nodes, expected);
  report.check_equal("nodes of the long-lived tree at the end", alive, (std::uint64_t{2} << params.depth) - 1);
}

}  // namespace

WorkloadEntry binary_trees() {
  return make_workload<Params>(
      {.name = "binary_trees",
       .summary = "Builds and drops binary trees of every even depth while a large one stays alive."},
      run);
}

}  // namespace gearbox::workloads
