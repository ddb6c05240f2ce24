// Page heap: which pages of the range are free. Best fit over coalesced runs, O(log n) a call.
//
// Free runs are kept twice, by address (to merge neighbours) and by length (to find the shortest that fits); behind the
// frontier lies memory that nobody has touched. A bit by page says that it may hold dirt, so that a span carved from
// fresh or given-back pages need not be zeroed again, and that release() knows what is resident.
//
// release() goes through the free runs from the top of the range down, one piece a call; the piece is not free while
// the kernel takes it, and comes back clean.
//
// Invariants. H1  No two free runs touch, and both indexes hold the same runs.
//             H2  dirty_free_ counts the free pages whose bit is set; pages that are out have theirs set when they
//                 come back.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/lock.h"
#include "interfaces/heap.h"

namespace gearbox::allocators::size_class_parts {

struct PageRun {
  std::size_t first = 0, count = 0;  // in pages of kHeapPage; count 0: there was no such run
  bool zero = false;                 // reads as zero
};

// Any thread; the lock is inside. Metadata lives on the C++ heap.
class PageHeap {
 public:
  void start(std::uintptr_t base, std::size_t pages) noexcept {
    base_ = base;
    pages_ = pages;
    frontier_.store(kFirstPage, std::memory_order_relaxed);
  }
  // grow: from behind the frontier, if nothing that was given back fits.
  PageRun take(std::size_t count, bool grow);
  void give(std::size_t first, std::size_t count);
  // If more than keep_pages free pages may be resident: gives a piece of them back to the kernel. True: call again.
  bool release(std::size_t keep_pages);
  // Pages below it have been handed out once. Any thread; what is seen may be old.
  std::size_t frontier() const noexcept { return frontier_.load(std::memory_order_relaxed); }
  std::size_t free_pages() const noexcept;  // below the frontier; world stopped
  void check() const;                       // world stopped

  // No object begins at the heap's base (interfaces/allocator.h, "The base").
  static constexpr std::size_t kFirstPage = 1;

 private:
  static constexpr std::size_t kPiecePages = (std::size_t{4} << 20) / kHeapPage;  // of one release()
  using ByAddress = std::map<std::size_t, std::size_t>;                           // first -> count
  void insert(std::size_t first, std::size_t count);
  void erase(ByAddress::iterator run);
  void join(std::size_t first, std::size_t count);
  bool dirty(std::size_t page) const noexcept { return (dirty_[page / 64] >> page % 64 & 1) != 0; }
  std::size_t count_dirty(std::size_t first, std::size_t count) const noexcept;
  void set_dirty(std::size_t first, std::size_t count, bool dirty) noexcept;

  mutable Mutex lock_;  // guards all below; held over the node allocations, never over a system call of ours
  std::uintptr_t base_ = 0;
  std::size_t pages_ = 0;
  std::atomic<std::size_t> frontier_{0};  // written under lock_
  ByAddress by_address_;
  std::set<std::pair<std::size_t, std::size_t>> by_count_;  // (count, first)
  std::vector<std::uint64_t> dirty_;                        // bits of the pages below the frontier
  std::size_t dirty_free_ = 0;
  std::size_t release_below_ = 0;  // where release() goes on; 0: from the top
};

}  // namespace gearbox::allocators::size_class_parts
