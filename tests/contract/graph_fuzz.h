// The graph fuzzer: goroutines that make, link, unlink, move and drop objects at random, and know at every moment what
// they must be able to reach.
//
// The shadow model lies half outside the heap (each stack slot's expected id) and half in data fields that no collector
// reads (the expected ids of a node's children), so a walk from a slot proves, link by link, that everything reachable
// is what it was. Freed cells are poisoned in `checked` builds, and ids are never used twice. A broken promise dies at
// once: the mutant tests look for that.
#pragma once

#include <array>
#include <memory>

#include "base/random.h"
#include "tests/contract/mock_heap.h"

namespace gearbox::testing {

struct FuzzNode {
  static constexpr std::uint32_t kChildren = 3;
  Slot children[kChildren];
  Slot blob;  // bytes without references; their first word is check_of(id)
  std::uint64_t id;
  std::uint64_t check;
  std::uint64_t child_ids[kChildren];
};
inline constexpr std::uint32_t kFuzzOffsets[4] = {0, 8, 16, 24};
inline const TypeDesc kFuzzDesc{"FuzzNode", sizeof(FuzzNode), 4, kFuzzOffsets, false};

struct FuzzPlan {
  std::uint64_t seed = 1;
  std::uint32_t threads = 2;
  std::uint32_t operations = 6000;  // each
  std::uint32_t collect_every = 500;
};

class GraphFuzz {
 public:
  GraphFuzz(MockWorld& world, const FuzzPlan& plan) : world_(world), plan_(plan) {}

  void run() {
    std::vector<std::function<void()>> bodies;
    for (std::uint32_t t = 0; t < plan_.threads; ++t) bodies.push_back([this, t] { Mutator(*this, t).run(); });
    world_.run(std::move(bodies));
  }

 private:
  static constexpr std::size_t kSlots = 48;  // of the goroutine's stack, for nodes
  static constexpr std::size_t kArraySlot =
      100;  // holds the word one past the end of an array, and nothing else holds that array
  static constexpr std::size_t kHandSlot = 110;  // where another goroutine puts what it hands over
  static constexpr std::size_t kArrayLength =
      2558;  // with a header it fills a size class, so that the word behind it is the next cell's
  static constexpr std::size_t kRootsEach = 16;

  // A fresh object on its way from one goroutine's stack to another's.
  struct Hand {
    std::atomic<std::uint64_t> id{0};  // 0: free
  };

  class Mutator {
   public:
    Mutator(GraphFuzz& fuzz, std::uint32_t thread)
        : f_(fuzz), w_(fuzz.world_), me_(thread), random_(fuzz.plan_.seed * 977 + thread) {}

    void run() {
      f_.ready_[me_].store(&MockWorld::self(), std::memory_order_release);
      for (std::uint32_t i = 0; i < f_.plan_.operations; ++i) {
        step();
        if (i % f_.plan_.collect_every == f_.plan_.collect_every - 1 && random_.below(2) == 0)
          w_.collector().collect(GcReason::kExplicit);
        if (i % 64 == 0) w_.yield();
      }
      for (std::size_t s = 0; s < kSlots; ++s) verify(s);
      f_.done_.fetch_add(1);
      f_.ready_[me_].store(nullptr);
      for (auto& slot : MockWorld::self().stack) slot.store(0, std::memory_order_relaxed);
      for (std::size_t r = 0; r < kRootsEach; ++r) w_.set_root(me_ * kRootsEach + r, nullptr);
      if (me_ != 0) return;
      // Everybody has dropped everything: nothing may be left.
      while (f_.done_.load() < f_.plan_.threads) w_.sleep_ns(100'000);
      for (auto& slot : MockWorld::self().stack) slot.store(0, std::memory_order_relaxed);
      if (collects()) {
        w_.collector().collect(GcReason::kExplicit);
        w_.collector().collect(GcReason::kExplicit);
        const std::size_t left = w_.all_objects().size();
        GEARBOX_REQUIRE(left == 0, "{} objects are left after everything was dropped", left);
        w_.with_world_stopped([&] { w_.allocator().check(); });
      }
    }

   private:
    bool collects() { return w_.collector().stats().cycles > 0; }

    FuzzNode* node(std::size_t slot) { return static_cast<FuzzNode*>(kept(slot)); }
    std::size_t any() { return random_.below(kSlots); }
    void put(std::size_t slot, FuzzNode* n, std::uint64_t id) {
      keep(slot, n);
      ids_[slot] = n != nullptr ? id : 0;
    }
    FuzzNode* make() {
      auto* n = static_cast<FuzzNode*>(w_.allocate(&kFuzzDesc, 0));
      GEARBOX_REQUIRE(n != nullptr, "out of memory");
      GEARBOX_REQUIRE(n->id == 0 && n->check == 0 && n->children[0].load() == nullptr && n->blob.load() == nullptr,
                      "a new object is not zero");
      n->id = ++next_id_ << 8 | me_;
      n->check = check_of(n->id);
      return n;
    }

    void step() {
      const std::size_t a = any(), b = any();
      const std::uint32_t k = random_.below(FuzzNode::kChildren);
      FuzzNode* na = node(a);
      FuzzNode* nb = node(b);
      switch (random_.below(16)) {
        case 0:
        case 1:
        case 2:
        case 3: {
          FuzzNode* n = make();
          put(a, n, n->id);
          break;
        }
        case 4:
        case 5:  // link
          if (na == nullptr || nb == nullptr) break;
          na->children[k].store(nb);
          na->child_ids[k] = ids_[b];
          break;
        case 6:  // load
          if (nb != nullptr) put(a, static_cast<FuzzNode*>(nb->children[k].load()), nb->child_ids[k]);
          break;
        case 7:
        case 8:  // move: to a stack that may be black, away from where the marker would have found it
          if (nb == nullptr) break;
          put(a, static_cast<FuzzNode*>(nb->children[k].load()), nb->child_ids[k]);
          if (node(b) == nullptr) break;
          nb->children[k].store(nullptr);
          nb->child_ids[k] = 0;
          break;
        case 9:
          put(a, nullptr, 0);
          break;
        case 10: {
          if (na == nullptr) break;
          const std::size_t bytes = random_.below(8) == 0 ? 8 + random_.below(90000) : 8 + random_.below(600);
          auto* blob = static_cast<std::uint64_t*>(w_.allocate(&kBytesDesc, bytes));
          GEARBOX_REQUIRE(blob != nullptr, "out of memory");
          *blob = check_of(na->id);
          na->blob.store(blob);
          break;
        }
        case 11:
          big_array();
          break;
        case 12: {  // a Root takes it, the stack lets go; and back later
          const std::size_t r = random_.below(kRootsEach);
          const std::size_t root = me_ * kRootsEach + r;
          auto* old = static_cast<FuzzNode*>(w_.root(root));
          const std::uint64_t old_id = root_ids_[r];
          w_.set_root(root, na);
          root_ids_[r] = ids_[a];
          put(a, old, old_id);
          break;
        }
        case 13:
          hand_over();
          break;
        case 14:
          take_over();
          w_.safepoint();
          break;
        case 15:
          verify(a);
          break;
      }
    }

    // The array is reachable only by the word behind its last element.
    void big_array() {
      if (auto* end = static_cast<Slot*>(kept(kArraySlot))) {
        Slot* array = end - kArrayLength;
        for (std::size_t i = 0; i < kArrayLength; i += 500) {
          auto* n = static_cast<FuzzNode*>(array[i].load());
          if (n != nullptr) check(n, array_ids_[i / 500]);
        }
      }
      if (random_.below(4) != 0) return;
      auto* array = static_cast<Slot*>(w_.allocate(&kSlotArrayDesc, kArrayLength * sizeof(Slot)));
      GEARBOX_REQUIRE(array != nullptr, "out of memory");
      keep(kArraySlot, array + kArrayLength);
      for (std::size_t i = 0; i < kArrayLength; i += 500) {
        FuzzNode* n = make();
        array[i].store(n);
        array_ids_[i / 500] = n->id;
      }
    }

    // As a channel hands a value from the sender's stack to the receiver's: no heap slot, no barrier but the explicit
    // shade.
    void hand_over() {
      const std::uint32_t to = random_.below(f_.plan_.threads);
      MockG* g = f_.ready_[to].load(std::memory_order_acquire);
      if (to == me_ || g == nullptr || f_.hands_[to].id.load(std::memory_order_acquire) != 0) return;
      std::uint64_t none = 0;
      if (!f_.hands_[to].id.compare_exchange_strong(none, 1, std::memory_order_acq_rel)) return;
      FuzzNode* parent = make();
      keep(kHandSlot + 1, parent);
      FuzzNode* child = make();
      parent->children[0].store(child);
      parent->child_ids[0] = child->id;
      w_.safepoint();
      P* p = current_p();
      const auto word = reinterpret_cast<std::uintptr_t>(parent);
      if (p->marking && !GEARBOX_MUTANT(kNoShadeAtHandoff)) p->collector->shade_words(*p, &word, 1);
      g->stack[kHandSlot].store(word, std::memory_order_release);
      keep(kHandSlot + 1, nullptr);
      f_.hands_[to].id.store(parent->id, std::memory_order_release);  // partner: take_over()
    }
    void take_over() {
      const std::uint64_t id = f_.hands_[me_].id.load(std::memory_order_acquire);
      if (id <= 1) return;
      put(any(), node(kHandSlot), id);
      keep(kHandSlot, nullptr);
      f_.hands_[me_].id.store(0, std::memory_order_release);
    }

    void check(const FuzzNode* n, std::uint64_t id) {
      GEARBOX_REQUIRE(w_.heap().contains(reinterpret_cast<std::uintptr_t>(n)), "object {} is not on the heap: {}", id,
                      static_cast<const void*>(n));
      GEARBOX_REQUIRE(n->id == id && n->check == check_of(id), "object {:#x} at {} was lost: it reads {:#x}, {:#x}", id,
                      static_cast<const void*>(n), n->id, n->check);
      const auto* blob = static_cast<const std::uint64_t*>(n->blob.load());
      GEARBOX_REQUIRE(blob == nullptr || *blob == check_of(id), "the bytes of object {:#x} were lost", id);
    }
    void verify(std::size_t slot) {
      FuzzNode* n = node(slot);
      std::uint64_t id = ids_[slot];
      for (int depth = 0; n != nullptr && depth < 30; ++depth) {
        check(n, id);
        for (std::uint32_t k = 0; k < FuzzNode::kChildren; ++k)
          if (auto* child = static_cast<FuzzNode*>(n->children[k].load())) check(child, n->child_ids[k]);
        const std::uint32_t k = random_.below(FuzzNode::kChildren);
        id = n->child_ids[k];
        n = static_cast<FuzzNode*>(n->children[k].load());
      }
    }

    GraphFuzz& f_;
    MockWorld& w_;
    const std::uint32_t me_;
    Random random_;
    std::uint64_t next_id_ = 0;
    std::array<std::uint64_t, kSlots> ids_{};
    std::array<std::uint64_t, kRootsEach> root_ids_{};
    std::array<std::uint64_t, kArrayLength / 500 + 1> array_ids_{};
  };

  MockWorld& world_;
  const FuzzPlan plan_;
  static constexpr std::size_t kMaxThreads = 8;
  std::array<Hand, kMaxThreads> hands_;
  std::array<std::atomic<MockG*>, kMaxThreads> ready_{};
  std::atomic<std::uint32_t> done_{0};
};

}  // namespace gearbox::testing
