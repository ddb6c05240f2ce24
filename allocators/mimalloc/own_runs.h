// OwnRuns: blocks that the library's arenas cannot hold, as runs of pages of a piece of the heap's range.
//
// Idea.     Where the library has arenas of slices, a block of more than a few MiB goes to the kernel with a mapping of
//           its own. That would lie outside the heap's range, so the kernel's part is played here: first fit by address,
//           the pages go back when the block is freed, and read as zero when they are taken again.
// Threads.  Any; one lock. A block is at least most_block_bytes() long, so the lock is taken once in megabytes.
// Cost.     As a mapping of its own: page faults over the whole block, at every allocation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>

#include "base/check.h"
#include "base/os/memory.h"

namespace gearbox::allocators {

class OwnRuns {
 public:
  // COLD, once, before any other call. bytes 0: holds nothing.
  void begin(std::uintptr_t base, std::size_t bytes) {
    base_ = base;
    bytes_ = bytes;
    if (bytes != 0) free_[base] = bytes;
  }
  bool contains(std::uintptr_t block) const noexcept { return block - base_ < bytes_; }

  // Zeroed, at a page; nullptr: no run is long enough.
  void* take(std::size_t bytes) {
    bytes = rounded(bytes);
    std::lock_guard hold(lock_);
    for (auto run = free_.begin(); run != free_.end(); ++run) {
      const auto [at, length] = *run;
      if (length < bytes) continue;
      free_.erase(run);
      if (length > bytes) free_[at + bytes] = length - bytes;
      return reinterpret_cast<void*>(at);
    }
    return nullptr;
  }

  // bytes as at take().
  void give(std::uintptr_t at, std::size_t bytes) {
    bytes = rounded(bytes);
    os::discard(reinterpret_cast<void*>(at), bytes);
    std::lock_guard hold(lock_);
    auto after = free_.lower_bound(at);
    GEARBOX_REQUIRE(after == free_.end() || at + bytes <= after->first, "a run at {:#x} is given twice", at);
    if (after != free_.end() && after->first == at + bytes) {
      bytes += after->second;
      after = free_.erase(after);
    }
    if (after != free_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == at) {
        before->second += bytes;
        return;
      }
    }
    free_[at] = bytes;
  }

 private:
  static std::size_t rounded(std::size_t bytes) noexcept {
    return (bytes + os::kPageBytes - 1) / os::kPageBytes * os::kPageBytes;
  }

  std::uintptr_t base_ = 0;
  std::size_t bytes_ = 0;
  std::mutex lock_;
  std::map<std::uintptr_t, std::size_t> free_;  // start -> bytes; no two touch
};

}  // namespace gearbox::allocators
