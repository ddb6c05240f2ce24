// Span records: the allocator's own part of a Span, with its two bitmaps right behind it, and lists of them.
//
// A record and its bitmaps share neighbouring cache lines, so a marker that has read the span's layout has its bits
// nearby. Records lie in one reserved range with a place for each page of the heap, and a span's record is at its first
// page's: a span of n pages has n places, which is room for the bitmaps of its smallest cells. So records need no lock,
// no free list, and cannot run out whatever sizes follow each other (SR1). They are never unmapped: a stale Span* stays
// readable (interfaces/heap.h). It may read another span's bitmap there, which is why nobody keeps one over a sweep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "base/check.h"
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

// Where records are. Any thread; whoever owns the pages owns their places.
class SpanRecords {
 public:
  static constexpr std::uint32_t kWordsPerPage = kHeapPage / kGranule / 64;  // of a bitmap

  Status start(std::size_t pages) {
    pages_ = pages;
    Result<void*> memory = os::reserve(bytes(), 0, os::kPageBytes);
    if (!memory) return memory.error();
    base_ = reinterpret_cast<std::uintptr_t>(*memory);
    return Ok{};
  }
  ~SpanRecords() {
    if (base_ != 0) os::release(reinterpret_cast<void*>(base_), bytes());
  }
  // The record of a new span of `count` pages. Both bitmaps are clear.
  SpanRecord* make(std::size_t first, [[maybe_unused]] std::size_t count, std::uint32_t words) noexcept {
    GEARBOX_INVARIANT(SR1, first + count <= pages_ && words <= count * kWordsPerPage,
                      "a span of {} cell words on pages {}+{} of {}", words, first, count, pages_);
    auto* record = new (reinterpret_cast<void*>(base_ + first * kPlaceBytes)) SpanRecord;
    record->words = words;
    record->alloc_bits = reinterpret_cast<std::atomic<std::uint64_t>*>(record + 1);
    record->mark_bits = record->alloc_bits + words;
    for (std::uint32_t w = 0; w < 2 * words; ++w) record->alloc_bits[w].store(0, std::memory_order_relaxed);
    return record;
  }
  static constexpr std::size_t kPlaceBytes =
      (sizeof(SpanRecord) + 2 * kWordsPerPage * sizeof(std::uint64_t) + 63) / 64 * 64;

 private:
  std::size_t bytes() const noexcept {
    return (pages_ * kPlaceBytes + os::kPageBytes - 1) / os::kPageBytes * os::kPageBytes;
  }
  std::uintptr_t base_ = 0;
  std::size_t pages_ = 0;
};

}  // namespace gearbox::allocators::size_class_parts
