// G: a goroutine, and what the gears may know of it.
//
// A G is never freed while the runtime lives, only reused; a pointer to a G is therefore always safe to read. It has a
// stack from its first run to its end. Fields are grouped by who may touch them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace gearbox {

struct M;
struct P;

using PId = std::uint32_t;
inline constexpr PId kNoP = ~PId{0};

enum class GStatus : std::uint8_t {
  kDead,      // on a free list
  kRunnable,  // in exactly one queue, context saved
  kRunning,   // on an M, context not valid
  kWaiting,   // parked, context saved, in no scheduler queue
  kSyscall,   // in a blocking system call, context saved at its entry
  kStopped,   // running as far as anyone can tell, but held at a safepoint while the world is stopped; context saved
};

// Where a concurrent stack scan stands (interfaces/collector.h, "Stacks"). A G keeps it together with the number of the
// scan it belongs to, its epoch: what an older one left means unscanned. So a new scan begins for all Gs at once, by
// counting the epoch up, and no G, dead or alive, is touched.
enum class ScanState : std::uint8_t { kUnscanned, kScanning, kScanned };
constexpr std::uint32_t scan_word(std::uint32_t epoch, ScanState state) noexcept {
  return epoch << 2 | static_cast<std::uint32_t>(state);
}
// Slots of goroutines are walked in groups of so many (World::visit_gs).
inline constexpr std::size_t kSlotsAGroup = 16;

// What a switch keeps. Everything else is spilled to the stack by the compiler, so the live words of a switched-out G
// are those in [sp - 128, stack_hi): 128 bytes for the red zone.
struct Context {
  void* sp = nullptr;
  void* pc = nullptr;
  void* bp = nullptr;
};

struct alignas(64) G {
  // ---- read by anyone, written by the runtime
  Context context;  // valid when status is not kRunning or kDead
  std::atomic<GStatus> status{GStatus::kDead};
  bool system = false;                        // a runtime's own goroutine: not counted, not a reason to stay alive
  std::atomic<std::uint32_t> scan{0};         // scan_word()
  const char* wait_reason = "";               // while kWaiting: a constant string for traces ("chan receive")
  std::uint64_t id = 0;                       // unique in the runtime, never reused
  std::uintptr_t stack_lo = 0, stack_hi = 0;  // usable stack [lo, hi); both 0 until it first runs

  // ---- the queue that holds it (a scheduler, a wait list of a poller): one at a time
  G* next = nullptr;
  std::uint64_t policy_words[2] = {0, 0};  // the scheduler's own, zero at spawn

  // ---- the runtime's own
  M* m = nullptr;         // the M it runs on; null otherwise
  M* locked_m = nullptr;  // lock_os_thread()
  void (*entry)(void*) = nullptr;
  void* closure = nullptr;
  void* wait_word = nullptr;                        // what woke it (a waiter record of a channel, say)
  void* panics = nullptr;                           // innermost panic in flight
  void* exception_globals[2] = {nullptr, nullptr};  // __cxa_eh_globals while switched out
  int saved_errno = 0;
  std::uint32_t saved_inside = 0;  // current_inside() while switched out
  std::uint32_t slot = 0;          // its number in the table of goroutines
  std::uint32_t no_preempt = 0;
  bool goexit = false;
  std::uint64_t parent_id = 0;
  void* creator_pc = nullptr;
  const void* making = nullptr;  // `checked` builds: the heap object under construction, and its type
  const void* making_type = nullptr;
};

// An intrusive first-in first-out list through G::next. Not thread-safe.
class GList {
 public:
  bool empty() const noexcept { return head_ == nullptr; }
  std::uint64_t size() const noexcept { return size_; }
  void push_back(G* g) noexcept {
    g->next = nullptr;
    (tail_ != nullptr ? tail_->next : head_) = g;
    tail_ = g;
    ++size_;
  }
  void push_front(G* g) noexcept {
    g->next = head_;
    head_ = g;
    if (tail_ == nullptr) tail_ = g;
    ++size_;
  }
  G* pop_front() noexcept {
    G* g = head_;
    if (g == nullptr) return nullptr;
    head_ = g->next;
    if (head_ == nullptr) tail_ = nullptr;
    g->next = nullptr;
    --size_;
    return g;
  }
  // Appends all of other, which becomes empty.
  void append(GList& other) noexcept {
    if (other.empty()) return;
    (tail_ != nullptr ? tail_->next : head_) = other.head_;
    tail_ = other.tail_;
    size_ += other.size_;
    other = GList();
  }
  // The first, or null; for walks through G::next.
  G* front() const noexcept { return head_; }

 private:
  G* head_ = nullptr;
  G* tail_ = nullptr;
  std::uint64_t size_ = 0;
};

}  // namespace gearbox
