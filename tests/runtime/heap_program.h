// Programs on the collected heap: nodes that carry a seal, so that one that was freed or overwritten while somebody
// could still reach it is recognised; and what the tests of roots, heaps and mutants have in common.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/runtime/program.h"

namespace gearbox::testing {

struct Node {
  std::uint64_t id = 0, seal = 0;
  Ref<Node> edges[4];
  GEARBOX_REFS(Node, edges)
  static std::uint64_t seal_of(std::uint64_t id) { return id * 0x9e3779b97f4a7c15ULL ^ 0x5ea1; }
  explicit Node(std::uint64_t n) : id(n), seal(seal_of(n)) {}
  bool intact() const { return seal == seal_of(id); }
};

struct Case {
  std::string allocator, collector;
};
inline std::vector<Case> legal() {
  std::vector<Case> cases;
  for (const auto& a : all_allocators())
    for (const auto& c : all_collectors())
      if (!why_illegal(all_schedulers().front(), a, c, all_pollers().front(), 1))
        cases.push_back({std::string(a.name), std::string(c.name)});
  return cases;
}

class HeapProgram : public ::testing::TestWithParam<Case> {
 public:
  static std::string case_name(const ::testing::TestParamInfo<Case>& info) {
    return info.param.allocator + "_" + info.param.collector;
  }

 protected:
  Program setup(std::uint64_t procs = 2) const {
    Program s;
    s.allocator = GetParam().allocator;
    s.collector = GetParam().collector;
    s.options.procs = procs;
    s.options.heap_mib = 4096;
    return s;
  }
  bool collects() const { return GetParam().collector != "none"; }
};

inline Node* chain(int length) {
  Node* head = nullptr;
  for (int i = length; i > 0; --i) {
    Node* n = make<Node>(static_cast<std::uint64_t>(i));
    n->edges[0] = head;
    head = n;
  }
  return head;
}
inline int intact_length(const Node* n) {
  int length = 0;
  for (; n != nullptr && n->intact(); n = n->edges[0]) ++length;
  return length;
}
inline void litter(int n) {
  for (int i = 0; i < n; ++i) {
    keep_alive(make<Node>(1u));
    if (i % 16 == 0) keep_alive(make_bytes(100 + static_cast<std::size_t>(i) % 3000));
  }
}

// Each goroutine owns a table of roots and a shadow of what hangs on it; objects are made, linked, unlinked, dropped,
// sent to others, carried into new goroutines. Every object carries a seal, so an object that was freed while reachable
// is noticed when it is next walked over (freed cells are poisoned in `checked` builds).
inline void mutate(std::uint64_t seed, int steps, const Chan<Node*>& mail, std::atomic<std::uint64_t>& damaged,
                   std::atomic<std::uint64_t>& walked) {
  Random random(seed);
  constexpr std::uint32_t kSlots = 24;
  Root<Node> table[kSlots];
  std::map<const Node*, std::uint64_t> shadow;
  const auto look = [&](const Node* n, int depth, auto& self) -> void {
    if (n == nullptr || depth == 0) return;
    walked.fetch_add(1, std::memory_order_relaxed);
    if (!n->intact()) {
      damaged.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    for (const auto& edge : n->edges) self(edge, depth - 1, self);
  };
  for (int step = 0; step < steps; ++step) {
    Root<Node>& slot = table[random.below(kSlots)];
    Root<Node>& other = table[random.below(kSlots)];
    switch (random.below(10)) {
      case 0:
      case 1: {
        Node* n = make<Node>(random());
        n->edges[random.below(4)] = slot;
        slot = n;
        break;
      }
      case 2:
        if (slot.load() != nullptr) slot->edges[random.below(4)] = other;
        break;
      case 3:
        if (slot.load() != nullptr) slot->edges[random.below(4)] = nullptr;
        break;
      case 4:
        if (slot.load() != nullptr) {  // move a subtree: the only reference passes through this stack
          Node* moved = slot->edges[1].exchange(nullptr);
          gosched();
          if (other.load() != nullptr) other->edges[2] = moved;
        }
        break;
      case 5:
        slot = nullptr;
        break;
      case 6: {
        Node* out = slot;
        slot = nullptr;
        select(on_send(mail, out, [] {}), on_recv(mail, [&](Node* in) { other = in; }), otherwise([&] { slot = out; }));
        break;
      }
      case 7: {
        Node* carried = slot;
        slot = nullptr;
        const auto back = make_chan<Node*>();
        go([carried, back] {
          Node* n = make<Node>(7u);
          n->edges[3] = carried;
          back.send(n);
        });
        slot = back.recv();
        break;
      }
      case 8:
        keep_alive(make_bytes(random.below(20'000)));
        break;
      default:
        look(slot, 4, look);
        break;
    }
  }
  for (const auto& slot : table) look(slot, 6, look);
}

// ---- moments of a cycle. On a goroutine.

// Returns soon after a mark has begun, this goroutine's stack scanned. False: none began within some time.
inline bool wait_for_mark() {
  while (current_p()->marking) gosched();
  for (int i = 0; i < 2'000'000 && !current_p()->marking; ++i) gosched();
  return current_p()->marking;
}
// Returns when the sweep of the running cycle, if one runs, is over: what was unmarked is gone.
inline void wait_for_sweep() {
  while (current_p()->marking || current_runtime().heap().phase.load() != GcPhase::kIdle) gosched();
}
// Overwrites what earlier calls have left below this frame.
[[gnu::noinline]] inline void scrub_stack() {
  volatile std::uintptr_t words[512];
  for (auto& word : words) word = 0;
}

}  // namespace gearbox::testing
