// MimallocRanges: the process's address ranges that the library has been given, for one instance at a time each.
//
// Why.      The library's state belongs to the process: an arena can never be removed, and there is a limit to their
//           number. So a range that an instance is done with is kept and given to a later one, with all its blocks freed.
// Threads.  Any; one lock. COLD: at an instance's beginning and end.
#pragma once

#include <deque>
#include <mutex>
#include <vector>

#include "allocators/mimalloc/library.h"
#include "allocators/mimalloc/own_runs.h"

namespace gearbox::allocators {

struct MimallocRange {
  std::uintptr_t base = 0;
  std::size_t bytes = 0;                         // arenas, and what own has behind them
  std::vector<MimallocLibrary::Arena> arenas{};  // side by side from base on
  OwnRuns own{};                                 // for blocks above library().most_block_bytes()
  bool taken = false;
};

class MimallocRanges {
 public:
  static MimallocRanges& of_process();

  // Opens the library when this is the first call that finds a supported one.
  Result<ForeignLibrary> open();
  // After open() has succeeded once.
  const MimallocLibrary& library() const noexcept { return library_; }

  // A range in which a heap of limit_bytes has room. Opens the library.
  Result<MimallocRange*> take(std::size_t limit_bytes);
  void give(MimallocRange& range);  // every block in it is free

 private:
  Status open_locked();

  std::mutex lock_;
  MimallocLibrary library_;
  bool open_ = false;
  std::deque<MimallocRange> ranges_;  // they do not move
};

}  // namespace gearbox::allocators
