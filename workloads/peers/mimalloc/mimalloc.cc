// mimalloc with objects freed by hand: what a collector competes with. Each object is zeroed, as in the other peers.
#include <mimalloc.h>

#include "workloads/peers/trees.h"

namespace gearbox::peers {
namespace {

struct MimallocHeap {
  static Node* make(Node* left, Node* right) {
    auto* node = static_cast<Node*>(mi_malloc(sizeof(Node)));
    if (node == nullptr) throw Failure("mimalloc has no more memory");
    node->left = left;
    node->right = right;
    return node;
  }
  static void drop(Node* tree) {
    if (tree == nullptr) return;
    drop(tree->left);
    drop(tree->right);
    mi_free(tree);
  }
};

// As where a collector is: one object is alive at a time, and the next one replaces it.
void allocate(std::uint64_t iterations, std::size_t bytes) {
  std::uint64_t not_zeroed = 0;
  char* alive = nullptr;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    auto* made = static_cast<char*>(mi_zalloc(bytes));
    if (made == nullptr) throw Failure("mimalloc has no more memory");
    not_zeroed += static_cast<std::uint64_t>(made[bytes - 1] != 0);
    made[bytes - 1] = 1;
    keep(made);
    mi_free(alive);
    alive = made;
  }
  mi_free(alive);
  check_equal("objects that were not zeroed", not_zeroed, std::uint64_t{0});
}

Bench allocate_bench(std::size_t bytes) {
  return {1, [bytes](std::uint64_t iterations, const Machine&) { allocate(iterations, bytes); }};
}

}  // namespace
}  // namespace gearbox::peers

int main(int argc, char** argv) {
  using namespace gearbox::peers;
  const int version = mi_version();  // 209: 2.0.9
  Peer peer;
  peer.version = "mimalloc " + std::to_string(version / 100) + "." + std::to_string(version / 10 % 10) + "." +
                 std::to_string(version % 10);
  peer.benches = {{"allocate_16", allocate_bench(16)},
                  {"allocate_64", allocate_bench(64)},
                  {"allocate_node", allocate_bench(sizeof(Node))}};
  peer.workloads = {{"binary_trees", {{{"depth", 18}}, binary_trees<MimallocHeap>}}};
  return peer_main(argc, argv, peer);
}
