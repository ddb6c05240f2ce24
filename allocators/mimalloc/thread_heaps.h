// ThreadHeaps: the library's heaps of one M, and who may be inside the library for them.
//
// A heap is allocated from by the thread that made it (2.x and early 3.x allow no other; late 3.x would make a part of the
// heap for each), and the library counts on it that nobody else is inside for that thread meanwhile. Its owner is there all the time, whoever collects the heaps for a sleeping owner hardly ever. So the
// owner says that it is inside with a plain store, and the collection pays for the fence of both:
//
//     the owner                              whoever collects for it
//     owner_inside = true                    taken = true
//     light fence                            heavy fence
//     sees taken: leaves, and waits          waits until owner_inside is false
//     else allocates or frees                collects
//     owner_inside = false                   taken = false
//
// F5 in allocators/mimalloc.cc.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "allocators/mimalloc/library.h"
#include "base/lock.h"
#include "base/os/fence.h"

namespace gearbox::allocators::mimalloc_parts {

// Shared with the M's thread, whose end is the end of the library's heaps, too.
class ThreadHeaps {
 public:
  struct InArena {
    MimallocHeap scanned, noscan;
  };
  std::vector<InArena> in;  // by arena of the range; its heaps are made by the M's own thread, inside
  std::size_t arena = 0;    // the one that had room last

  explicit ThreadHeaps(std::size_t arenas) : in(arenas) {}

  // Each heap that there is. Between take() and give().
  template <class F>
  void for_each(F&& f) const {
    for (const InArena& heaps : in)
      for (const MimallocHeap* heap : {&heaps.scanned, &heaps.noscan})
        if (heap->whole != nullptr) f(*heap);
  }

  // The M's own thread, around its calls of the library. HOT: two plain stores and a look.
  void enter() noexcept {
    for (;;) {
      owner_inside_.store(true, std::memory_order_relaxed);
      if (asymmetric_) [[likely]]
        os::light_fence();  // partner: take()
      else
        std::atomic_thread_fence(std::memory_order_seq_cst);   // partner: take()
      if (!taken_.load(std::memory_order_acquire)) [[likely]]  // partner: give()
        return;
      leave();
      while (taken_.load(std::memory_order_acquire)) os::yield_thread();  // partner: give()
    }
  }
  void leave() noexcept { owner_inside_.store(false, std::memory_order_release); }  // partner: take()

  // Any thread that is not inside. COLD.
  void take() noexcept {
    while (taken_.exchange(true, std::memory_order_acquire)) os::yield_thread();  // partner: give()
    if (asymmetric_)
      os::heavy_fence();  // partner: enter()
    else
      std::atomic_thread_fence(std::memory_order_seq_cst);                     // partner: enter()
    while (owner_inside_.load(std::memory_order_acquire)) os::yield_thread();  // partner: leave()
  }
  void give() noexcept { taken_.store(false, std::memory_order_release); }

 private:
  const bool asymmetric_ = os::has_heavy_fence();
  std::atomic<bool> owner_inside_{false}, taken_{false};
};

// What a thread has, in all instances of this gear. It ends before the library's own end of that thread, which frees its
// heaps: whoever collects for it finds none then.
struct HeapsOfThread {
  std::vector<std::shared_ptr<ThreadHeaps>> all;
  ~HeapsOfThread() {
    for (const auto& heaps : all) {
      heaps->take();
      for (ThreadHeaps::InArena& in : heaps->in) in = {};
      heaps->give();
    }
  }
};
inline thread_local HeapsOfThread heaps_of_this_thread;  // "Process" in allocators/mimalloc.cc says why it may be one

}  // namespace gearbox::allocators::mimalloc_parts
