// What looks at the whole heap: enumeration, checks, statistics.
#include <unordered_map>

#include "allocators/size_class/state.h"
#include "base/check.h"

namespace gearbox::allocators::size_class_parts {

void SizeClass::enumerate(void (*visit)(void*, const Object&), void* context) {
  std::unordered_map<std::uintptr_t, std::uint64_t>
      in_windows;  // claimed, not handed out: by the address of the bitmap word's first cell
  for (P* p : ps_)
    for (const Window& window : p->cache.windows)
      if (window.free != 0) in_windows[window.base] = window.free;
  for (std::size_t page = 0; page < page_heap_.frontier();) {
    const Span* span = page_table_[page].load(std::memory_order_relaxed);
    if (span == nullptr) {
      ++page;
      continue;
    }
    const auto& record = *static_cast<const SpanRecord*>(span);
    const std::size_t stride = record.cell_count == 1 ? record.bytes : record.cell_bytes;
    for (std::uint32_t w = 0; w < record.words; ++w) {
      std::uint64_t bits = record.alloc_bits[w].load(std::memory_order_relaxed);
      if (auto spare = in_windows.find(record.base + w * 64 * stride); spare != in_windows.end())
        bits &= ~spare->second;
      for (; bits != 0; bits &= bits - 1)
        visit(context, detail::find_in_span(record, record.base + (w * 64 + std::countr_zero(bits)) * stride));
    }
    page += record.bytes / kHeapPage;
  }
}

AllocatorStats SizeClass::stats() const {
  AllocatorStats stats;
  stats.in_use_bytes = heap_->in_use_bytes.load(std::memory_order_relaxed);
  stats.metadata_bytes = page_heap_.frontier() * (SpanRecords::kPlaceBytes + sizeof(page_table_[0]));
  for (const auto& cache : caches_) {
    stats.freed_bytes += cache->freed_bytes.load(std::memory_order_relaxed);
    stats.freed_objects += cache->freed_objects.load(std::memory_order_relaxed);
    stats.refill_sweep_ns += cache->refill_sweep_ns.load(std::memory_order_relaxed);
  }
  return stats;
}

void SizeClass::counters(CounterVisitor& v) const {
  std::uint64_t swept = 0, made = 0;
  for (const auto& cache : caches_) {
    swept += cache->spans_swept.load(std::memory_order_relaxed);
    made += cache->spans_made.load(std::memory_order_relaxed);
  }
  v.counter("spans_made", made, "Spans cut from the page heap.");
  v.counter("spans_swept", swept, "Spans swept, by refills and by the collector.");
}

void SizeClass::check() const {
  page_heap_.check();
  const bool marks_clear = heap_->phase.load(std::memory_order_relaxed) == GcPhase::kIdle;
  std::size_t held = 0;
  for (std::size_t page = 0; page < page_heap_.frontier();) {
    const auto* span = static_cast<const SpanRecord*>(page_table_[page].load(std::memory_order_relaxed));
    if (span == nullptr) {
      ++page;
      continue;
    }
    GEARBOX_REQUIRE(span->base == heap_->base + page * kHeapPage && span->bytes % kHeapPage == 0,
                    "page {} lies in span {:#x}", page, span->base);
    for (std::uint32_t w = 0; w < span->words; ++w) {
      const std::uint64_t allocated = span->alloc_bits[w].load(std::memory_order_relaxed);
      const std::uint64_t marked = span->mark_bits[w].load(std::memory_order_relaxed);
      GEARBOX_REQUIRE((allocated & ~valid_cells(*span, w)) == 0, "span {:#x}: bits behind its last cell", span->base);
      GEARBOX_REQUIRE((marked & ~allocated) == 0, "Z2: span {:#x} word {}: marked cells are not allocated", span->base,
                      w);
      GEARBOX_REQUIRE(!marks_clear || marked == 0, "Z3: span {:#x} word {}: marks between two cycles", span->base, w);
    }
    held += span->bytes;
    page += span->bytes / kHeapPage;
  }
  GEARBOX_REQUIRE(held == heap_->in_use_bytes.load(std::memory_order_relaxed),
                  "spans hold {} bytes, the account says {}", held,
                  heap_->in_use_bytes.load(std::memory_order_relaxed));
  GEARBOX_REQUIRE(PageHeap::kFirstPage + held / kHeapPage + page_heap_.free_pages() == page_heap_.frontier(),
                  "pages are lost: {} held, {} free, {} in all", held / kHeapPage, page_heap_.free_pages(),
                  page_heap_.frontier());
}

}  // namespace gearbox::allocators::size_class_parts
