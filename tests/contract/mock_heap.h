// Objects for tests of allocators and collectors: nodes that carry their own identity and a checksum of it, so that a
// node that was freed, reused or overwritten while somebody could still reach it is recognised.
#pragma once

#include <atomic>
#include <cstdint>

#include "tests/contract/mock_world.h"

namespace gearbox::testing {

// A Ref<T> to anything.
class Slot {
 public:
  void* load() const { return ref_.load(); }
  void store(void* value) { ref_.store(static_cast<Anything*>(value)); }

 private:
  struct Anything {};
  Ref<Anything> ref_;
};

template <int kRefs, int kWords>
struct NodeOf {
  Slot refs[kRefs];
  std::uint64_t id;
  std::uint64_t check;
  std::uint64_t fill[kWords];
};
using Pair = NodeOf<2, 1>;     // 40 bytes
using Wide = NodeOf<8, 40>;    // 400 bytes
using Huge = NodeOf<3, 5000>;  // larger than kMaxSmallBytes

inline constexpr std::uint32_t kEightOffsets[8] = {0, 8, 16, 24, 32, 40, 48, 56};
inline const TypeDesc kPairDesc{"Pair", sizeof(Pair), 2, kEightOffsets, false};
inline const TypeDesc kWideDesc{"Wide", sizeof(Wide), 8, kEightOffsets, false};
inline const TypeDesc kHugeDesc{"Huge", sizeof(Huge), 3, kEightOffsets, false};
inline const TypeDesc kSlotArrayDesc{"Slot[]", sizeof(Slot), 1, kEightOffsets, true};
inline const TypeDesc kBytesDesc{"bytes", 1, 0, nullptr, true};

inline constexpr std::uint64_t check_of(std::uint64_t id) { return id * 0x9e3779b97f4a7c15ULL + 0x1234567; }

// The goroutine's stack, by slot.
inline void keep(std::size_t slot, const void* p) {
  MockWorld::self().stack[slot].store(reinterpret_cast<std::uintptr_t>(p), std::memory_order_relaxed);
}
inline void* kept(std::size_t slot) {
  return reinterpret_cast<void*>(MockWorld::self().stack[slot].load(std::memory_order_relaxed));
}

template <class Node>
Node* make_node(MockWorld& world, const TypeDesc& desc, std::uint64_t id) {
  auto* node = static_cast<Node*>(world.allocate(&desc, 0));
  if (node == nullptr) return nullptr;
  node->id = id;
  node->check = check_of(id);
  return node;
}
inline Pair* make_pair_node(MockWorld& world, std::uint64_t id) { return make_node<Pair>(world, kPairDesc, id); }
inline bool sane(const Pair* node, std::uint64_t id) { return node->id == id && node->check == check_of(id); }

}  // namespace gearbox::testing
