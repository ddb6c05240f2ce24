// The member's state: what every part of it works on. The essay is in size_class.cc.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <iterator>
#include <memory>
#include <vector>

#include "allocators/size_class/page_heap.h"
#include "allocators/size_class/span_record.h"
#include "base/lock.h"
#include "base/os/memory.h"
#include "interfaces/allocator.h"
#include "interfaces/processor.h"
#include "interfaces/world.h"

namespace gearbox::allocators::size_class_parts {

inline constexpr std::uint32_t kLarge = kWindows;        // index of the Central of large objects
inline constexpr std::size_t kMaxSpanBytes = 128 << 10;  // the division by multiplication is exact up to here
inline constexpr std::size_t kFlushBytes = 16 << 10;  // what a P may have claimed and not yet added to Heap::live_bytes
inline constexpr std::uint32_t kClockedSweeps = 16;   // of so many sweeps by refills one is clocked and counts for all
inline constexpr unsigned char kPoison = 0xDB;

struct Options {
  std::uint64_t claim_bytes = 4096;
  std::uint64_t span_kib = 8;
  std::uint64_t sweep_ahead = 8;
  bool lazy_sweep = true;

  void visit(OptionVisitor& v) {
    v.field("claim_bytes", claim_bytes, {16, 65536},
            "Most bytes of cells a P claims at once, in one word of the bitmap; at least one cell. Four times that for "
            "cells from 512 bytes on.");
    v.field("span_kib", span_kib, {8, 128},
            "Smallest span. Larger spans are fetched and swept less often, and hold more unused cells of a rare size.");
    v.field("sweep_ahead", sweep_ahead, {0, 1024},
            "Spans of other sizes a P sweeps before it takes fresh pages, while a sweep is under way.");
    v.field("lazy_sweep", lazy_sweep,
            "A P that needs cells sweeps spans of their size first. Off: only the collector's own sweep does.");
  }
};

// One P's part. Fields belong to the P's owner; the counters are read by stats().
struct Cache {
  std::uint64_t used[kWindows / 64] = {};  // bit i: span[i] is not null. A pause visits only those
  SpanRecord* span[kWindows] = {};
  std::uint32_t word[kWindows] = {};  // of the span's bitmap: the next to claim from
  std::uint64_t unflushed_bytes = 0;
  std::uint32_t refill_sweeps = 0;  // counts, for the samples
  std::atomic<std::int64_t> refill_sweep_ns{0};
  std::atomic<std::uint64_t> freed_bytes{0}, freed_objects{0}, spans_swept{0}, spans_made{0};
};

inline void add(std::atomic<std::uint64_t>& counter,
                std::uint64_t n) noexcept {  // one writer, so no locked instruction
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

struct alignas(64) Central {
  SpinLock lock;  // guards the lists
  // empty: swept spans without a live cell, kept for this window until another needs pages or a cycle has gone by.
  SpanList holes, full, unswept, empty;
  // The layout of its spans, written under the lock by the first refill; cell_bytes 0 until then.
  std::uint32_t cell_bytes = 0, cell_count = 0, pages = 0, cells_a_claim = 0;
  CellKind kind = CellKind::kNoscan;
  const TypeDesc* type = nullptr;
};

// Calls f(index) for each one in a row of words.
template <class Words, class F>
void for_each_bit(const Words& words, F&& f) {
  for (std::uint32_t w = 0; w < std::size(words); ++w)
    for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1)
      f(w * 64 + static_cast<std::uint32_t>(std::countr_zero(bits)));
}

inline std::uint64_t valid_cells(const SpanRecord& span, std::uint32_t word) noexcept {
  const std::uint32_t left = span.cell_count - word * 64;
  return left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
}

// Calls f(first bit, length) for each run of ones.
template <class F>
void for_each_run(std::uint64_t bits, F&& f) {
  while (bits != 0) {
    const int first = std::countr_zero(bits);
    const int length = std::countr_one(bits >> first);
    f(first, length);
    if (first + length >= 64) return;
    bits &= ~std::uint64_t{0} << (first + length);
  }
}

class SizeClass final : public Allocator {
 public:
  SizeClass(World&, const Options& options) : options_(options) {}
  ~SizeClass() override {
    if (page_table_ != nullptr) os::release(page_table_, page_table_bytes_);
  }

  Status start(Heap& heap) override;
  void p_added(P& p) override;
  void p_removed(P& p) override;
  void* refill(P& p, std::uint32_t window, const TypeDesc* type, std::size_t bytes) override;
  void* allocate_large(P& p, const TypeDesc* type, std::size_t bytes) override;
  void begin_mark() override;
  void begin_sweep() override;
  bool sweep(P& p, std::size_t units) override;
  bool sweep_done() const override {
    return unswept_.load(std::memory_order_acquire) == 0;  // partner: finish_span()
  }
  void finish_sweep() override;
  void enumerate(void (*visit)(void*, const Object&), void* context) override;
  // A step: empty spans that windows keep first, then pages.
  bool release_free_memory(std::uint64_t keep_bytes) override {
    const std::uint64_t in_use = heap_->in_use_bytes.load(std::memory_order_relaxed);
    if (in_use > keep_bytes && heap_->phase.load(std::memory_order_relaxed) != GcPhase::kMark && give_empty_spans())
      return true;
    return page_heap_.release(in_use < keep_bytes ? (keep_bytes - in_use) / kHeapPage : 0);
  }
  AllocatorStats stats() const override;
  void counters(CounterVisitor& v) const override;
  void check() const override;

 private:
  Cache& cache_of(P& p) noexcept { return *static_cast<Cache*>(p.cache.impl); }
  void lay_out(Central& central, std::uint32_t window, const TypeDesc* type);
  bool claim(P& p, SpanRecord& span, std::uint32_t& word, Window& window, const Central& central);
  SpanRecord* next_span(P& p, std::uint32_t window, const TypeDesc* type);
  SpanRecord* make_span(Cache& cache, const Central& central, std::uint32_t window, std::size_t pages);
  void publish(SpanRecord& span);
  PageRun take_pages(std::size_t pages);
  bool give_empty_spans();
  struct Swept {
    std::uint32_t live = 0, dead = 0;  // cells
  };
  template <class F>
  void clock_refill_sweep(Cache& cache, F&& sweep);
  static void fetch(const SpanRecord* next);
  Swept sweep_bitmap(Cache& cache, SpanRecord& span);
  void finish_span() noexcept { unswept_.fetch_sub(1, std::memory_order_release); }  // partner: sweep_done()
  SpanRecord* pop_unswept();
  void file_swept(SpanRecord& span, Swept swept);
  void free_span(SpanRecord& span);
  void account(P& p, Cache& cache, std::uint64_t bytes);
  void flush_account(Cache& cache);
  void return_cells(P& p, bool lose_black);

  const Options options_;
  Heap* heap_ = nullptr;
  std::atomic<Span*>* page_table_ = nullptr;
  std::size_t page_table_bytes_ = 0;
  PageHeap page_heap_;
  SpanRecords records_;
  Central centrals_[kWindows + 1];
  // Bit i: centrals_[i] ever had a span. Set under its lock; read in pauses and, as a hint, by sweeps.
  std::atomic<std::uint64_t> known_[kWindows / 64 + 1] = {};
  std::atomic<std::size_t> empty_spans_{0};    // on all empty lists
  std::atomic<std::uint32_t> give_cursor_{0};  // where the next search for them begins
  std::atomic<std::uint64_t> unswept_{0};
  std::atomic<std::uint32_t> sweep_cursor_{kWindows + 1};  // Centrals before it have nothing left to sweep
  std::vector<P*> ps_;                                     // changed only while the world is stopped
  std::vector<std::unique_ptr<Cache>> caches_;             // of all Ps there ever were, for stats
};

}  // namespace gearbox::allocators::size_class_parts
