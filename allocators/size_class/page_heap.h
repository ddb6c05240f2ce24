// Page heap: which pages of the range are free. Best fit over coalesced runs, O(log n) a call.
//
// Free runs are kept twice, by address (to merge neighbours) and by length (to find the shortest that fits); behind the
// frontier lies memory that nobody has touched. Runs know whether they read as zero, so that a span carved from fresh
// or given-back pages need not be zeroed again.
//
// Invariant H1: no two free runs touch, and both indexes hold the same runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "base/lock.h"

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
  }
  // grow: from behind the frontier, if nothing that was given back fits.
  PageRun take(std::size_t count, bool grow);
  void give(std::size_t first, std::size_t count);
  // Gives every free run back to the kernel. Returns the bytes that were not there already.
  std::size_t release();
  std::size_t frontier() const noexcept {
    return frontier_;
  }                                         // pages below it have been handed out once; world stopped
  std::size_t free_pages() const noexcept;  // below the frontier; world stopped
  void check() const;                       // world stopped

 private:
  struct Rest {
    std::size_t count;
    bool zero;
  };
  using ByAddress = std::map<std::size_t, Rest>;
  void insert(std::size_t first, Rest rest);
  void erase(ByAddress::iterator run);

  mutable Mutex lock_;  // guards all below; held over the node allocations and, in release(), over the system calls
  std::uintptr_t base_ = 0;
  std::size_t pages_ = 0;
  std::size_t frontier_ = 0;
  ByAddress by_address_;
  std::set<std::pair<std::size_t, std::size_t>> by_count_;  // (count, first)
};

}  // namespace gearbox::allocators::size_class_parts
