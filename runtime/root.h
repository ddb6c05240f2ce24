// Roots: references held outside the heap and outside goroutine stacks.
//
// Root<T> may live anywhere: globals, standard containers, captures of std::function, other threads. It registers
// itself in one of a few sharded lists that the collector walks. Channels and closures kept in malloc memory register a
// RootBlock, whose words are looked at conservatively.
//
// The lists are the process's, not a runtime's: a Root may outlive its runtime or be made before it. A word that points
// into another runtime's heap is ignored by the collector that finds it.
//
// Barriers. A root is scanned once a cycle, at any moment of it, so it obeys the rule of heap slots: while marking is
// on, whatever is put into it and whatever leaves it is shaded.
//   R1  A Root shades its old word before every change AND before it ends: vector::pop_back() and map::erase() are
//       changes too, and what was read from the Root before may live on a stack that is black already.
//   R2  With a P, the change is one piece between two safepoints, so it lies before or behind a pause. A thread without
//       a P (a foreign one, or a goroutine inside blocking()) is not stopped by a pause. It changes roots under the
//       process's shade lock, the lock under which marking goes on and off for such threads, and leaves both words in a
//       list that the final pause drains. After that, while marking is still on, it can only copy what is marked.
//   R3  A thread without a P keeps references in Roots only: a T* in its frames is seen by nobody. Whoever copies a
//       Root while another thread changes that same Root needs a lock of their own, as for any other value.
//
// Locks. The collector holds a shard's lock while it walks; a program may hold a channel's lock while it moves a value
// with a Root inside, and take a shard's. So nothing that visit_words() does may wait for a lock that is held around
// enlist() or withdraw(). The shade lock is innermost.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "base/lock.h"
#include "interfaces/mutant.h"
#include "interfaces/object.h"

namespace gearbox {

// A piece of memory outside the heap whose words may be references.
class RootBlock {
 public:
  enum class Words : std::uint8_t {
    kReferences,  // each is null or a reference
    kAnything,    // they may also be numbers that look like one: they keep what they hit, and prove nothing
  };
  explicit RootBlock(Words words) noexcept : words_(words) {}
  RootBlock(const RootBlock&) = delete;
  RootBlock& operator=(const RootBlock&) = delete;
  // Any thread. From enlist() on a collector may call visit_words(): it is the last thing that the constructor of the
  // most derived class does.
  void enlist();
  void withdraw();  // any thread; waits for a collector that is looking at it

 protected:
  ~RootBlock() = default;

 private:
  friend struct RootShards;
  // Calls visit for the words to look at. A collector's worker or the stopped world, the shard's lock held: must not
  // wait for a lock under which anybody enlists or withdraws.
  virtual void visit_words(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) = 0;
  RootBlock* previous_ = nullptr;
  RootBlock* next_ = nullptr;
  std::uint32_t shard_ = 0;
  const Words words_;
};

namespace roots {

inline constexpr std::size_t kShardsAKind = 16;
inline constexpr std::size_t kShards = 2 * kShardsAKind;  // first those of kReferences, then those of kAnything
constexpr bool exact(std::size_t shard) noexcept { return shard < kShardsAKind; }
void visit(std::size_t shard, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context);

// What threads without a P have shaded for one runtime's collector (R2).
class ShadeList {
 public:
  ShadeList() = default;
  ~ShadeList() { close(); }
  ShadeList(const ShadeList&) = delete;
  ShadeList& operator=(const ShadeList&) = delete;
  // World stopped. From open() to close() changes of roots by threads without a P are recorded.
  void open();
  void close();
  // Hands the words over and forgets them. World stopped, on an M.
  void take(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context);

 private:
  friend struct Shades;
  void add(std::uintptr_t word);  // shade lock held
  static constexpr std::size_t kRecent = 256;
  ShadeList* next_ = nullptr;
  bool open_ = false;
  std::vector<std::uintptr_t> words_;
  std::array<std::uintptr_t, kRecent> recent_{};  // filters repetitions, so that a busy thread makes no endless list
};

// The change of a root word by a thread without a P, barrier and store in one (R2).
void set_without_p(std::atomic<std::uintptr_t>& word, std::uintptr_t value) noexcept;
// Shades the words of a block that gets or loses its content. Any thread; one load when nobody marks. No safepoint.
void shade(const void* first, std::size_t bytes) noexcept;

}  // namespace roots

template <class T>
class Root final : public RootBlock {
  static_assert(!std::is_pointer_v<T>, "a Root<T> is a T*: write Root<T>, not Root<T*>");

 public:
  Root() noexcept : RootBlock(Words::kReferences) { enlist(); }
  Root(T* value) noexcept : RootBlock(Words::kReferences) {  // NOLINT: used like a pointer
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
  ~Root() {
    if (word_.load(std::memory_order_relaxed) != 0 && !GEARBOX_MUTANT(kNoShadeAtRootEnd)) store(nullptr);  // R1
    withdraw();
  }

  T* load() const noexcept { return reinterpret_cast<T*>(word_.load(std::memory_order_acquire)); }
  void store(T* value) noexcept {
    const auto word = reinterpret_cast<std::uintptr_t>(value);
    const Inside inside;
    P* p = current_p();
    if (p == nullptr && !GEARBOX_MUTANT(kNoShadeWithoutP)) [[unlikely]]
      return roots::set_without_p(word_, word);
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
