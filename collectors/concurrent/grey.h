// Grey objects: marked, not yet scanned; in chunks that pass between markers.
//
// A marker owns one chunk at a time and works on it without any lock. Full chunks go to the pool, and what is left at
// the end of any piece of work goes there too: so outside such a piece no grey object is hidden in a P, and the end of
// marking needs to ask only the pool and the write buffers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/lock.h"
#include "interfaces/object.h"

namespace gearbox::collectors::concurrent_parts {

// The low bit of `at` says that it is a piece of an array: its end is looked up when it is scanned.
struct Grey {
  std::uintptr_t at;
  const TypeDesc* type;
};

struct Chunk {
  static constexpr std::uint32_t kCapacity = 255;
  Chunk* next = nullptr;
  std::uint32_t count = 0;
  Grey entries[kCapacity];
};

// Any thread.
class GreyPool {
 public:
  ~GreyPool() {
    for (Chunk* list : {full_, spare_})
      while (list != nullptr) delete std::exchange(list, list->next);
  }
  // Without the lock, so it may be over when it is used; exact while the world is stopped.
  std::size_t chunks() const noexcept { return chunks_.load(std::memory_order_acquire); }  // partner: count()

  Chunk* spare() {
    {
      Guard<SpinLock> hold(lock_);
      if (Chunk* chunk = spare_; chunk != nullptr) {
        spare_ = chunk->next;
        return chunk;
      }
    }
    return new Chunk;
  }
  void put(Chunk* chunk) noexcept {
    Guard<SpinLock> hold(lock_);
    link(chunk);
  }
  // What is in chunk joins the newest one of the pool where it fits, so that many small pieces of work do not make many
  // small chunks. Returns the chunk, empty, or null when it was taken.
  Chunk* put_rest(Chunk* chunk) noexcept {
    Guard<SpinLock> hold(lock_);
    if (full_ != nullptr && full_->count + chunk->count <= Chunk::kCapacity) {
      std::memcpy(full_->entries + full_->count, chunk->entries, chunk->count * sizeof(Grey));
      full_->count += chunk->count;
      chunk->count = 0;
      return chunk;
    }
    link(chunk);
    return nullptr;
  }
  Chunk* take() noexcept {
    if (chunks() == 0) return nullptr;
    Guard<SpinLock> hold(lock_);
    Chunk* chunk = full_;
    if (chunk != nullptr) {
      full_ = chunk->next;
      count(chunks() - 1);
    }
    return chunk;
  }
  void recycle(Chunk* chunk) noexcept {
    Guard<SpinLock> hold(lock_);
    chunk->count = 0;
    chunk->next = spare_;
    spare_ = chunk;
  }

 private:
  void link(Chunk* chunk) noexcept {
    chunk->next = full_;
    full_ = chunk;
    count(chunks() + 1);
  }
  // Release: whoever sees that the last chunk is gone sees the Marker that took it (Marking::run_dry).
  void count(std::size_t chunks) noexcept { chunks_.store(chunks, std::memory_order_release); }
  SpinLock lock_;
  Chunk* full_ = nullptr;
  Chunk* spare_ = nullptr;
  std::atomic<std::size_t> chunks_{0};  // written under the lock
};

}  // namespace gearbox::collectors::concurrent_parts
