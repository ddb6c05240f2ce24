// DescriptorLock: who may use a descriptor, and whether it is closed. Go's fdMutex.
//
// One word holds the closed bit, one lock bit and one waiting bit a direction, and the number of references. An
// operation locks its direction and holds a reference, in one read-modify-write; what needs only the descriptor takes a
// reference. The open descriptor itself is a reference, which close() gives back: who gives back the last one closes
// the poller's Conn (N1 in net.h).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "runtime/runtime.h"
#include "runtime/sync.h"

namespace gearbox::net {

constexpr int index_of(Direction direction) noexcept { return static_cast<int>(direction); }

// One word and, for the rare case of two operations in one direction, a line.
class DescriptorLock {
 public:
  // False: closed.
  bool acquire(Direction direction) noexcept {
    const std::uint32_t locked = kLocked << index_of(direction);
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    for (;;) {
      if ((word & kClosed) != 0) return false;
      if ((word & locked) != 0) return acquire_slow(direction);
      if (word_.compare_exchange_weak(word, (word | locked) + kReference, std::memory_order_acquire,
                                      std::memory_order_relaxed))
        return true;
    }
  }
  // True: the caller was the last one of a closed descriptor and closes the poller's Conn (N1).
  bool release(Direction direction) noexcept {
    const std::uint32_t locked = kLocked << index_of(direction), waiting = kWaiting << index_of(direction);
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    for (;;) {
      if ((word & waiting) != 0) return release_slow(direction);
      if (word_.compare_exchange_weak(word, (word & ~locked) - kReference, std::memory_order_acq_rel,
                                      std::memory_order_relaxed))
        return is_last((word & ~locked) - kReference);
    }
  }
  // False: it was closed before.
  bool close() noexcept {
    GList woken;
    lines_lock_.lock();
    const std::uint32_t was = word_.fetch_or(kClosed, std::memory_order_seq_cst);  // partner: Socket::await()
    if ((was & kClosed) == 0) {
      word_.fetch_and(~(kWaiting | kWaiting << 1), std::memory_order_relaxed);
      for (auto& line : lines_)
        while (auto* node = line.pop_front()) woken.push_back(node->g);
    }
    lines_lock_.unlock();
    while (G* g = woken.pop_front()) current_runtime().ready(g);
    return (was & kClosed) == 0;
  }
  // A reference without a direction: the descriptor stays open meanwhile, and nobody is waited for. False: closed.
  bool acquire_reference() noexcept {
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    do {
      if ((word & kClosed) != 0) return false;
    } while (
        !word_.compare_exchange_weak(word, word + kReference, std::memory_order_acquire, std::memory_order_relaxed));
    return true;
  }
  // Gives back such a reference, or that of the open descriptor itself. True as for release().
  bool drop() noexcept { return is_last(word_.fetch_sub(kReference, std::memory_order_acq_rel) - kReference); }
  bool closed() const noexcept { return (word_.load(std::memory_order_seq_cst) & kClosed) != 0; }

 private:
  static constexpr std::uint32_t kClosed = 1, kLocked = 2, kWaiting = 8, kReference = 32;
  static bool is_last(std::uint32_t word) noexcept { return (word & kClosed) != 0 && word < kReference; }

  [[gnu::noinline]] bool acquire_slow(Direction direction) noexcept {
    const std::uint32_t locked = kLocked << index_of(direction), waiting = kWaiting << index_of(direction);
    gearbox::detail::ParkedNode node;
    node.g = current_goroutine();
    lines_lock_.lock();
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    for (;;) {
      if ((word & kClosed) != 0) {
        lines_lock_.unlock();
        return false;
      }
      if ((word & locked) == 0) {
        if (!word_.compare_exchange_weak(word, (word | locked) + kReference, std::memory_order_acquire)) continue;
        lines_lock_.unlock();
        return true;
      }
      if (word_.compare_exchange_weak(word, word | waiting, std::memory_order_relaxed)) break;
    }
    lines_[index_of(direction)].push_back(node);
    current_runtime().park_and_unlock(lines_lock_, "network connection in use");
    return node.handed;  // with the lock and the reference of whoever had it; else closed
  }
  [[gnu::noinline]] bool release_slow(Direction direction) noexcept {
    lines_lock_.lock();
    auto& line = lines_[index_of(direction)];
    auto* node = line.pop_front();
    if (line.empty()) word_.fetch_and(~(kWaiting << index_of(direction)), std::memory_order_relaxed);
    if (node == nullptr) {  // close() was faster and has sent them away
      lines_lock_.unlock();
      return release(direction);
    }
    node->handed = true;
    Goroutine* g = node->g;
    lines_lock_.unlock();
    current_runtime().ready(g);
    return false;
  }

  std::atomic<std::uint32_t> word_{kReference};
  SpinLock lines_lock_;
  std::array<gearbox::detail::ParkedList, 2> lines_;
};

}  // namespace gearbox::net
