// Roots: references held outside the heap and outside goroutine stacks.
//
// Root<T> may live anywhere: globals, standard containers, captures of std::function, other threads. It registers
// itself in one of a few sharded lists that the collector walks. Channels and everything else that keeps values in
// malloc memory register a RootBlock, whose words are looked at conservatively under the block's own lock.
//
// The lists are the process's, not a runtime's: a Root may outlive its runtime or be made before it. A word that points
// into another runtime's heap is ignored by the collector that finds it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/lock.h"
#include "interfaces/object.h"

namespace gearbox {

// A piece of memory outside the heap whose words may be references.
class RootBlock {
 public:
  RootBlock() = default;
  RootBlock(const RootBlock&) = delete;
  RootBlock& operator=(const RootBlock&) = delete;
  void enlist();    // any thread
  void withdraw();  // any thread; waits for a collector that is looking at it

 protected:
  ~RootBlock() = default;

 private:
  friend struct RootShards;
  // Calls visit for the words to look at, under whatever lock keeps them still. A collector's worker or the stopped
  // world.
  virtual void visit_words(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) = 0;
  RootBlock* previous_ = nullptr;
  RootBlock* next_ = nullptr;
  std::uint32_t shard_ = 0;
};

namespace roots {
inline constexpr std::size_t kShards = 16;
void visit(std::size_t shard, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context);
}  // namespace roots

template <class T>
class Root final : public RootBlock {
 public:
  Root() noexcept { enlist(); }
  Root(T* value) noexcept {  // NOLINT: used like a pointer
    enlist();
    store(value);
  }
  Root(const Root& other) noexcept : Root(other.load()) {}
  Root& operator=(const Root& other) noexcept {
    store(other.load());
    return *this;
  }
  Root& operator=(T* value) noexcept {
    store(value);
    return *this;
  }
  ~Root() { withdraw(); }

  T* load() const noexcept { return reinterpret_cast<T*>(word_.load(std::memory_order_acquire)); }
  void store(T* value) noexcept {
    const auto word = reinterpret_cast<std::uintptr_t>(value);
    // Null on threads that are no Ms: they may drop references and copy Roots, which are scanned anyway.
    P* p = current_p();
    if (p != nullptr && p->marking) write_barrier(*p, word_.load(std::memory_order_relaxed), word);
    word_.store(word, std::memory_order_release);
  }
  operator T*() const noexcept { return load(); }  // NOLINT
  T* operator->() const noexcept { return load(); }
  T& operator*() const noexcept { return *load(); }

 private:
  void visit_words(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) override {
    const std::uintptr_t word = word_.load(std::memory_order_acquire);
    visit(context, &word, 1);
  }
  std::atomic<std::uintptr_t> word_{0};
};

}  // namespace gearbox
