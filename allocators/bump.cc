// bump: the null member. Every cell is used once, in the order of addresses, and nothing is ever taken back.
//
// Idea.       What does an allocator cost at all? This one has no free lists, no locks on its way, no zeroing (the
//             kernel's pages are zero), and no sweep. What remains is the interface: windows, refills, page faults. It
//             serves collector=none, and the heap's range is its end.
// Structure.  A P takes chunks of pages from one shared counter and cuts them into spans, one window at a time. Spans
//             exist only so that find_object() works as everywhere; their bitmaps lie behind the Span in a table of
//             their own that is as monotone as the heap.
// Invariants. B1  Pages below next_page_ belong to exactly one span, or to the chunk of one P.
// Threads.    refill and allocate_large: the owner of a P; all they share is two counters. begin_*, enumerate: the
//             world is stopped.
// Rejected.   One pointer for all sizes: an object could not be found from an interior word without a bit an object,
//             and that is a cost no other member's inline path has.
// Cost.       Refill: a few nanoseconds; page faults dominate (about 0.1 ns a byte).
// Weak spot.  Memory. Marking works, but begin_mark() clears mark bits in the pause, O(heap): no collector that frees
//             is ever combined with it.
#include <algorithm>
#include <bit>
#include <memory>
#include <new>
#include <vector>

#include "base/check.h"
#include "base/os/memory.h"
#include "interfaces/allocator.h"
#include "interfaces/processor.h"
#include "interfaces/registry.h"
#include "interfaces/world.h"

namespace gearbox::allocators {
namespace {

struct Options {
  std::uint64_t chunk_kib = 1024;

  void visit(OptionVisitor& v) {
    v.field("chunk_kib", chunk_kib, {128, 65536}, "KiB of pages a P takes from the shared counter at once.");
  }
};

constexpr std::size_t kSpanCells = 64;            // at least; a claim is one word of the bitmap
constexpr std::size_t kMaxSpanBytes = 128 << 10;  // the division by multiplication is exact up to here

struct Chunk {
  std::size_t next = 0, end = 0;  // pages
};
struct Cache {
  Span* span[kWindows] = {};
  std::uint32_t word[kWindows] = {};
  Chunk chunk;
};

class Bump final : public Allocator {
 public:
  Bump(World&, const Options& options) : options_(options) {}
  ~Bump() override {
    if (page_table_ != nullptr) os::release(page_table_, table_bytes_);
    if (records_ != 0) os::release(reinterpret_cast<void*>(records_), records_bytes_);
  }

  Status start(Heap& heap) override {
    heap_ = &heap;
    pages_ = heap.bytes / kHeapPage;
    table_bytes_ = (pages_ * sizeof(page_table_[0]) + os::kPageBytes - 1) / os::kPageBytes * os::kPageBytes;
    records_bytes_ = pages_ * kRecordBytes;
    Result<void*> table = os::reserve(table_bytes_, 0, os::kPageBytes);
    if (!table) return table.error();
    page_table_ = static_cast<std::atomic<Span*>*>(*table);
    Result<void*> records = os::reserve(records_bytes_, 0, os::kPageBytes);
    if (!records) return records.error();
    records_ = reinterpret_cast<std::uintptr_t>(*records);
    heap.find = FindKind::kSpans;
    heap.pages = page_table_;
    return Ok{};
  }
  void p_added(P& p) override {
    caches_.push_back(std::make_unique<Cache>());
    p.cache.impl = caches_.back().get();
    ps_.push_back(&p);
  }
  void p_removed(P& p) override {
    return_cells(p);
    ps_.erase(std::find(ps_.begin(), ps_.end(), &p));
    p.cache.impl = nullptr;
  }
  void* refill(P& p, std::uint32_t index, const TypeDesc* type, std::size_t) override {
    Cache& cache = *static_cast<Cache*>(p.cache.impl);
    Window& window = p.cache.windows[index];
    if (window.free != 0) {  // the caller came back from the collector on another P
      const int cell = std::countr_zero(window.free);
      window.free &= window.free - 1;
      return reinterpret_cast<void*>(window.base + static_cast<std::size_t>(cell) * window.stride);
    }
    Span*& span = cache.span[index];
    std::uint32_t& word = cache.word[index];
    if (span == nullptr || word * 64 >= span->cell_count) {
      if ((span = next_span(cache, index, type)) == nullptr) return nullptr;
      word = 0;
    }
    const std::uint32_t left = span->cell_count - word * 64;
    const std::uint64_t cells = left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
    const std::uint64_t bytes = static_cast<std::uint64_t>(std::popcount(cells)) * span->cell_bytes;
    if (heap_->phase.load(std::memory_order_relaxed) == GcPhase::kMark)
      span->mark_bits[word].fetch_or(cells, std::memory_order_relaxed);
    span->alloc_bits[word].store(cells, std::memory_order_release);  // partner: find_in_span()
    window = {cells & (cells - 1), span->base + std::uintptr_t{word} * 64 * span->cell_bytes, span->cell_bytes, 0};
    ++word;
    account(p, bytes, static_cast<std::uint64_t>(std::popcount(cells)));
    return reinterpret_cast<void*>(window.base);
  }
  void* allocate_large(P& p, const TypeDesc* type, std::size_t bytes) override {
    const bool scanned = type != nullptr && type->ref_count != 0;
    const std::size_t need = bytes + (scanned ? sizeof(ObjectHeader) : 0);
    if (need > heap_->bytes) return nullptr;
    const std::size_t pages = (need + kHeapPage - 1) / kHeapPage;
    const std::size_t first = take(pages);
    if (first == kNone) return nullptr;
    Span* span = make_span(first, pages, 1);
    span->kind = scanned ? CellKind::kHeader : CellKind::kNoscan;
    if (heap_->phase.load(std::memory_order_relaxed) == GcPhase::kMark)
      span->mark_bits[0].store(1, std::memory_order_relaxed);
    span->alloc_bits[0].store(1, std::memory_order_release);  // partner: find_in_span()
    publish(*span);
    account(p, span->bytes, 1);
    return reinterpret_cast<void*>(span->base);
  }
  void begin_mark() override {
    for (P* p : ps_) return_cells(*p);
    for_each_span([](Span& span) {
      for (std::uint32_t w = 0; w * 64 < span.cell_count; ++w) span.mark_bits[w].store(0, std::memory_order_relaxed);
    });
  }
  void begin_sweep() override {
    for (P* p : ps_) return_cells(*p);
  }
  bool sweep(P&, std::size_t) override { return false; }
  bool sweep_done() const override { return true; }
  void finish_sweep() override {}
  void enumerate(void (*visit)(void*, const Object&), void* context) override {
    for_each_span([&](Span& span) {
      for (std::uint32_t w = 0; w * 64 < span.cell_count; ++w) {
        std::uint64_t bits = span.alloc_bits[w].load(std::memory_order_relaxed);
        const std::uintptr_t base = span.base + std::uintptr_t{w} * 64 * span.cell_bytes;
        for (P* p : ps_)
          for (const Window& window : p->cache.windows)
            if (window.free != 0 && window.base == base) bits &= ~window.free;
        for (; bits != 0; bits &= bits - 1)
          visit(context, detail::find_in_span(
                             span, base + static_cast<std::uintptr_t>(std::countr_zero(bits)) * span.cell_bytes));
      }
    });
  }
  bool release_free_memory(std::uint64_t) override { return false; }  // nothing is ever free
  AllocatorStats stats() const override {
    const std::uint64_t in_use = heap_->in_use_bytes.load(std::memory_order_relaxed);
    return {.in_use_bytes = in_use,
            .metadata_bytes = in_use / kHeapPage * (kRecordBytes + sizeof(page_table_[0])),
            .freed_bytes = 0,
            .freed_objects = 0};
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};
  static constexpr std::size_t kWords = kHeapPage / kGranule / 64;  // of a bitmap, for each page of the span
  static constexpr std::size_t kRecordBytes = (sizeof(Span) + 2 * kWords * sizeof(std::uint64_t) + 63) / 64 * 64;

  // The first of `pages` pages, or kNone.
  std::size_t take(std::size_t pages) noexcept {
    std::size_t first = next_page_.load(std::memory_order_relaxed);
    do {
      if (pages_ - first < pages) return kNone;  // the tail stays for smaller wishes
    } while (!next_page_.compare_exchange_weak(first, first + pages, std::memory_order_relaxed));
    return first;
  }
  // A span's record is at its first page's place in the table, so its bitmaps have the room of all its pages.
  Span* make_span(std::size_t first, std::size_t pages, std::size_t cells) noexcept {
    auto* span = new (reinterpret_cast<void*>(records_ + first * kRecordBytes)) Span;
    span->base = heap_->base + first * kHeapPage;
    span->bytes = pages * kHeapPage;
    span->cell_count = static_cast<std::uint32_t>(cells);
    span->alloc_bits = reinterpret_cast<std::atomic<std::uint64_t>*>(span + 1);
    span->mark_bits = span->alloc_bits + (cells + 63) / 64;
    return span;
  }
  void publish(Span& span) noexcept {
    const std::size_t first = (span.base - heap_->base) / kHeapPage;
    for (std::size_t page = first; page < first + span.bytes / kHeapPage; ++page)
      page_table_[page].store(&span, std::memory_order_release);     // partner: find_object()
    span.state.store(SpanState::kInUse, std::memory_order_release);  // partner: find_object()
    heap_->in_use_bytes.fetch_add(span.bytes, std::memory_order_relaxed);
  }
  Span* next_span(Cache& cache, std::uint32_t index, const TypeDesc* type) noexcept {
    const std::size_t cell =
        size_class_bytes(index >= kTypedWindow ? size_class_of(type->bytes) : index % kSizeClasses);
    const std::size_t bytes = std::min(kMaxSpanBytes, cell * kSpanCells);
    const std::size_t pages = (bytes + kHeapPage - 1) / kHeapPage;
    Chunk& chunk = cache.chunk;
    if (chunk.end - chunk.next < pages) {
      // A small range is not given to one P whole.
      const std::size_t wanted = std::max(pages, std::min(options_.chunk_kib * 1024 / kHeapPage, pages_ / 64));
      if (std::size_t first = take(wanted); first != kNone) {
        chunk = {first, first + wanted};
      } else if (first = take(pages); first != kNone) {  // the last pages of the range
        chunk = {first, first + pages};
      } else {
        return nullptr;
      }
    }
    Span* span = make_span(chunk.next, pages, pages * kHeapPage / cell);
    chunk.next += pages;
    span->kind = index >= kTypedWindow    ? CellKind::kTyped
                 : index >= kHeaderWindow ? CellKind::kHeader
                                          : CellKind::kNoscan;
    span->type = index >= kTypedWindow ? type : nullptr;
    span->cell_bytes = static_cast<std::uint32_t>(cell);
    span->divide_magic = static_cast<std::uint32_t>(((std::uint64_t{1} << 32) + cell - 1) / cell);
    publish(*span);
    return span;
  }
  void account(P& p, std::uint64_t bytes, std::uint64_t objects) noexcept {
    p.cache.allocated_bytes += bytes;
    p.cache.allocated_objects += objects;
    const std::uint64_t live = heap_->live_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    std::uint64_t peak = heap_->peak_bytes.load(std::memory_order_relaxed);
    while (live > peak && !heap_->peak_bytes.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
    }
  }
  // Cells not handed out are lost, as all cells are; the bits say so, that a lookup does not find them.
  void return_cells(P& p) noexcept {
    Cache& cache = *static_cast<Cache*>(p.cache.impl);
    for (std::uint32_t i = 0; i < kWindows; ++i) {
      Window& window = p.cache.windows[i];
      Span* span = cache.span[i];
      if (span != nullptr && window.free != 0) {
        const std::size_t word = (window.base - span->base) / window.stride / 64;
        span->alloc_bits[word].fetch_and(~window.free, std::memory_order_relaxed);
        span->mark_bits[word].fetch_and(~window.free, std::memory_order_relaxed);
      }
      window = Window{};
    }
    p.cache.tiny = 0;
    p.cache.tiny_left = 0;
  }
  template <class F>
  void for_each_span(F&& f) {
    const std::size_t end = next_page_.load(std::memory_order_relaxed);
    for (std::size_t page = 0; page < end;) {
      Span* span = page_table_[page].load(std::memory_order_relaxed);
      if (span != nullptr) f(*span);
      page += span != nullptr ? span->bytes / kHeapPage : 1;
    }
  }

  const Options options_;
  Heap* heap_ = nullptr;
  std::size_t pages_ = 0;
  std::atomic<Span*>* page_table_ = nullptr;
  std::size_t table_bytes_ = 0;
  std::uintptr_t records_ = 0;
  std::size_t records_bytes_ = 0;
  std::atomic<std::size_t> next_page_{1};  // not at the base: interfaces/allocator.h
  std::vector<P*> ps_;                     // changed only while the world is stopped
  std::vector<std::unique_ptr<Cache>> caches_;
};

}  // namespace

AllocatorEntry bump() {
  return make_entry<Bump, Options>(EntryFacts<AllocatorTraits>{
      .name = "bump",
      .summary = "Null member: every cell is used once, nothing is taken back. For collector=none.",
      .traits = {.can_free = false, .native_spans = true, .concurrent_sweep = false},
  });
}

}  // namespace gearbox::allocators
