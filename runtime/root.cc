#include "runtime/root.h"

#include <algorithm>
#include <utility>

#include "interfaces/collector.h"

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
    block->shard_ = static_cast<std::uint32_t>((reinterpret_cast<std::uintptr_t>(block) >> 6) * 0x9e3779b1u >> 7) %
                    roots::kShardsAKind;
    if (block->words_ == RootBlock::Words::kAnything) block->shard_ += roots::kShardsAKind;
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

void RootBlock::enlist() {
  const Inside inside;
  RootShards::enlist(this);
}
void RootBlock::withdraw() {
  const Inside inside;
  RootShards::withdraw(this);
}

namespace roots {

void visit(std::size_t shard, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) {
  RootShards::visit(shard, visit, context);
}

// The open lists of all runtimes, and the lock of R2. Leaked for the same reason as the shards.
struct Shades {
  Mutex lock;  // a futex: a foreign thread may lose its CPU while it holds it
  ShadeList* first = nullptr;

  static Shades& all() {
    static auto* the = new Shades;
    return *the;
  }
  void add(std::uintptr_t word) {
    for (ShadeList* list = first; list != nullptr; list = list->next_) list->add(word);
  }
};

void ShadeList::open() {
  Shades& all = Shades::all();
  Guard<Mutex> hold(all.lock);
  if (std::exchange(open_, true)) return;
  next_ = all.first;
  all.first = this;
}

void ShadeList::close() {
  Shades& all = Shades::all();
  Guard<Mutex> hold(all.lock);
  if (!std::exchange(open_, false)) return;
  ShadeList** at = &all.first;
  while (*at != this) at = &(*at)->next_;
  *at = next_;
  words_.clear();
  recent_.fill(0);
}

void ShadeList::add(std::uintptr_t word) {
  std::uintptr_t& recent = recent_[(word >> 4) % kRecent];
  if (word == 0 || recent == word) return;
  recent = word;
  words_.push_back(word);
}

void ShadeList::take(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) {
  std::vector<std::uintptr_t> words;
  {
    Guard<Mutex> hold(Shades::all().lock);
    words.swap(words_);
    recent_.fill(0);
  }
  if (!words.empty()) visit(context, words.data(), words.size());
}

void set_without_p(std::atomic<std::uintptr_t>& word, std::uintptr_t value) noexcept {
  Shades& all = Shades::all();
  Guard<Mutex> hold(all.lock);
  all.add(word.load(std::memory_order_relaxed));
  all.add(value);
  word.store(value, std::memory_order_release);
}

void shade(const void* first, std::size_t bytes) noexcept {
  const Inside inside;
  const auto* words = static_cast<const std::uintptr_t*>(first);
  const std::size_t count = bytes / sizeof(std::uintptr_t);
  if (P* p = current_p(); p != nullptr) {
    if (p->marking) p->collector->shade_words(*p, words, count);
    return;
  }
  Shades& all = Shades::all();
  Guard<Mutex> hold(all.lock);
  for (std::size_t i = 0; i < count; ++i) all.add(words[i]);
}

}  // namespace roots

}  // namespace gearbox
