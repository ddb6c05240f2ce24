// binary_trees, as workloads/binary_trees.cc and the peer in Go have it: what allocates and what frees is the peer's.
#pragma once

#include <atomic>
#include <thread>

#include "workloads/peers/peer.h"

namespace gearbox::peers {

struct Node {
  Node *left, *right;
};

inline std::uint64_t count(const Node* node) {
  return node->left != nullptr ? 1 + count(node->left) + count(node->right) : 1;
}

// Heap: a thread's way to the library; made and dropped on the thread that uses it.
//   Node* make(Node* left, Node* right);
//   void drop(Node* tree);  // the whole tree; empty where a collector does it
template <class Heap>
Node* bottom_up(Heap& heap, std::uint64_t depth) {
  if (depth == 0) return heap.make(nullptr, nullptr);
  Node* left = bottom_up(heap, depth - 1);
  Node* right = bottom_up(heap, depth - 1);
  return heap.make(left, right);
}

template <class Heap>
Values binary_trees(const Params& params, const Machine& machine) {
  constexpr std::uint64_t kLeast = 4;
  const std::uint64_t depth = params.at("depth"), workers = machine.procs;
  if (depth < 6 || depth > 24) throw Failure("depth is " + std::to_string(depth) + "; it is from 6 to 24");
  const auto nodes_of = [](std::uint64_t of_depth) { return (std::uint64_t{2} << of_depth) - 1; };
  Heap heap;
  const std::int64_t began = now_ns();
  Node* long_lived = bottom_up(heap, depth);
  std::uint64_t nodes = count(long_lived), expected = nodes_of(depth);
  for (std::uint64_t d = kLeast; d <= depth; d += 2) {
    const std::uint64_t trees = std::uint64_t{1} << (depth - d + kLeast);
    std::atomic<std::uint64_t> sum{0};
    std::vector<std::thread> threads;
    for (std::uint64_t w = 0; w < workers; ++w) {
      const std::uint64_t share = trees / workers + (w < trees % workers ? 1 : 0);
      threads.emplace_back([&sum, d, share] {
        Heap mine;
        std::uint64_t counted = 0;
        for (std::uint64_t i = 0; i < share; ++i) {
          Node* tree = bottom_up(mine, d);
          counted += count(tree);
          mine.drop(tree);
        }
        sum.fetch_add(counted, std::memory_order_relaxed);  // join() below orders it before the load
      });
    }
    for (auto& thread : threads) thread.join();
    nodes += sum.load(std::memory_order_relaxed);
    expected += trees * nodes_of(d);
  }
  const std::int64_t elapsed_ns = now_ns() - began;
  check_equal("nodes counted", nodes, expected);
  check_equal("nodes of the long-lived tree at the end", count(long_lived), nodes_of(depth));
  heap.drop(long_lived);
  return {{"throughput", static_cast<double>(nodes) * 1e9 / static_cast<double>(elapsed_ns)}};
}

}  // namespace gearbox::peers
