#include "runtime/root.h"

namespace gearbox {

struct RootShards {
  struct Shard {
    Mutex lock;  // a futex: a collector holds it while it walks thousands
    RootBlock* first = nullptr;
  };
  // Leaked on purpose: Roots in globals are destroyed after any static of ours would be.
  static Shard* shards() {
    static auto* all = new Shard[roots::kShards];
    return all;
  }
  static void visit(std::size_t shard, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) {
    Shard& s = shards()[shard];
    Guard<Mutex> hold(s.lock);
    for (RootBlock* block = s.first; block != nullptr; block = block->next_) block->visit_words(visit, context);
  }
  static void enlist(RootBlock* block) {
    block->shard_ =
        static_cast<std::uint32_t>((reinterpret_cast<std::uintptr_t>(block) >> 6) * 0x9e3779b1u >> 7) % roots::kShards;
    Shard& s = shards()[block->shard_];
    Guard<Mutex> hold(s.lock);
    block->next_ = s.first;
    block->previous_ = nullptr;
    if (s.first != nullptr) s.first->previous_ = block;
    s.first = block;
  }
  static void withdraw(RootBlock* block) {
    Shard& s = shards()[block->shard_];
    Guard<Mutex> hold(s.lock);
    (block->previous_ != nullptr ? block->previous_->next_ : s.first) = block->next_;
    if (block->next_ != nullptr) block->next_->previous_ = block->previous_;
  }
};

void RootBlock::enlist() { RootShards::enlist(this); }
void RootBlock::withdraw() { RootShards::withdraw(this); }

namespace roots {
void visit(std::size_t shard, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) {
  RootShards::visit(shard, visit, context);
}
}  // namespace roots

}  // namespace gearbox
