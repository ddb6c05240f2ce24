// Span records: the allocator's own part of a Span, with its two bitmaps right behind it, and lists of them.
//
// A record and its bitmaps share neighbouring cache lines, so a marker that has read the span's layout has its bits
// nearby. Records are carved from one reserved range, are never unmapped, and go back to a free list by number of
// bitmap words: a stale Span* stays readable (interfaces/heap.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "base/lock.h"
#include "base/os/memory.h"
#include "base/result.h"
#include "interfaces/heap.h"

namespace gearbox::allocators::size_class_parts {

struct SpanRecord : Span {
  SpanRecord* next = nullptr;  // in the one list that holds it; guarded by that list's lock
  std::uint32_t window = 0;    // which Central it belongs to; kWindows for large objects
  std::uint32_t words = 0;     // of each bitmap
  bool fresh = false;          // cells never claimed read as zero. Owner or sweeper only
};

// First in, first out, with O(1) append of a whole list: the begin of a sweep is a few pointer moves a class, whatever
// the heap's size.
class SpanList {
 public:
  bool empty() const noexcept { return head_ == nullptr; }
  std::size_t count() const noexcept { return count_; }
  SpanRecord* front() const noexcept { return head_; }
  void push(SpanRecord* span) noexcept {
    span->next = nullptr;
    (tail_ != nullptr ? tail_->next : head_) = span;
    tail_ = span;
    ++count_;
  }
  SpanRecord* pop() noexcept {
    SpanRecord* span = head_;
    if (span == nullptr) return nullptr;
    head_ = span->next;
    if (head_ == nullptr) tail_ = nullptr;
    --count_;
    return span;
  }
  void append(SpanList& other) noexcept {
    if (other.empty()) return;
    (tail_ != nullptr ? tail_->next : head_) = other.head_;
    tail_ = other.tail_;
    count_ += other.count_;
    other = SpanList();
  }

 private:
  SpanRecord* head_ = nullptr;
  SpanRecord* tail_ = nullptr;
  std::size_t count_ = 0;
};

// Where records come from. Any thread.
class SpanRecords {
 public:
  static constexpr std::uint32_t kWordsPerPage = kHeapPage / kGranule / 64;
  static constexpr std::uint32_t kMaxWords = 16 * kWordsPerPage;  // spans of small cells have up to 16 pages

  Status start(std::size_t pages) {
    bytes_ = pages * bytes_for(kWordsPerPage);
    Result<void*> memory = os::reserve(bytes_, 0, os::kPageBytes);
    if (!memory) return memory.error();
    base_ = reinterpret_cast<std::uintptr_t>(*memory);
    next_ = base_;
    return Ok{};
  }
  ~SpanRecords() {
    if (base_ != 0) os::release(reinterpret_cast<void*>(base_), bytes_);
  }
  // Bitmaps are clear, everything else is as the last owner left it. There are as many records as pages, so it never
  // runs dry.
  SpanRecord* make(std::uint32_t words) noexcept {
    Guard<SpinLock> hold(lock_);
    SpanRecord* record = free_[words].pop();
    if (record == nullptr) {
      record = new (reinterpret_cast<void*>(next_)) SpanRecord;
      next_ += bytes_for(words);
      record->words = words;
      record->alloc_bits = reinterpret_cast<std::atomic<std::uint64_t>*>(record + 1);
      record->mark_bits = record->alloc_bits + words;
    }
    for (std::uint32_t w = 0; w < 2 * words; ++w) record->alloc_bits[w].store(0, std::memory_order_relaxed);
    return record;
  }
  void recycle(SpanRecord* record) noexcept {
    Guard<SpinLock> hold(lock_);
    free_[record->words].push(record);
  }
  std::size_t used_bytes() const noexcept { return next_ - base_; }

 private:
  static constexpr std::size_t bytes_for(std::uint32_t words) noexcept {
    return (sizeof(SpanRecord) + 2 * words * sizeof(std::uint64_t) + 63) / 64 * 64;
  }
  SpinLock lock_;
  SpanList free_[kMaxWords + 1];
  std::uintptr_t base_ = 0, next_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace gearbox::allocators::size_class_parts
