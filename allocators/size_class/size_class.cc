// size_class: spans of equal cells, found by division; Go's mcache -> mcentral -> mheap with bitmaps instead of free
// lists.
//
// Idea.       A span is a run of 8 KiB pages cut into cells of one size and one kind: without references, with a
//             header, or all of one type (then the type is the span's and a cell needs no header). Which cells are
//             taken is a bitmap by cell. A P claims up to 64 cells at once, one word of that bitmap, and hands them out
//             by counting trailing zeros. After a mark the mark bitmap becomes the allocation bitmap, so a sweep is a
//             copy of words and touches no object, dead or alive.
// Structure.  Cache (one a P): the span each window claims from, and how far it got. Central (one a window, and one for
//             large objects): lists of swept spans with holes, of full ones, and of spans not yet swept. PageHeap: free
//             pages. SpanRecords: where Span structs come from. A span in a Cache is on no list; its alloc_bits belong
//             to that P. Mark bits are the collector's, and any P's that claims in kMark.
// Invariants. Z1  A cell that may hold references is zero from before its allocation bit is set: a stale word that
//                 finds it, finds nulls.
//             Z2  A marked cell is an allocated cell.
//             Z3  Outside kMark every swept span's mark bits are clear (the sweep clears each word as it copies it, so
//                 no pause ever has to).
//             Z4  unswept_ counts the spans on unswept lists plus those being swept now.
//             Z5  Pages are never taken back while phase is kMark.
// Empty.      A span that the sweep finds empty stays with its window, which is likely to want it again soon: through
//             the page heap it would cost two searches, a page table and a record each way. Pages that another window
//             needs come from there before the heap grows, and what is still unused a cycle later goes back.
// Threads.    refill, allocate_large, sweep: the owner of a P, several at once; locks are per window, and one in the
//             page heap. begin_*, enumerate, check: the world is stopped. A record's fields are written before state is
//             set to kInUse, and that before any word can point into the span.
// Rejected.   A free list through the cells: the sweep would touch every dead cell, and a stale word would find links.
//             Claiming single cells: the atomic traffic of mark and accounting would come once an object instead of
//             once in 64. Sweeping in the order of addresses over all windows: a refill wants spans of its own kind,
//             and finds them on its own list.
// Cost.       Hit: inline, no call. Refill: some ten nanoseconds and the zeroing, for up to 64 cells. Sweep: two loads,
//             two stores a word.
// Weak spot.  Every type among the first ones has spans of its own, so a program that makes a few objects of each of
//             many types holds a span a type.
#include <algorithm>
#include <cstring>

#include "allocators/size_class/state.h"
#include "base/check.h"
#include "base/os/clock.h"
#include "interfaces/mutant.h"
#include "interfaces/registry.h"

namespace gearbox::allocators {
namespace size_class_parts {

Status SizeClass::start(Heap& heap) {
  heap_ = &heap;
  const std::size_t pages = heap.bytes / kHeapPage;
  page_table_bytes_ = (pages * sizeof(page_table_[0]) + os::kPageBytes - 1) / os::kPageBytes * os::kPageBytes;
  Result<void*> table = os::reserve(page_table_bytes_, 0, os::kPageBytes);
  if (!table) return table.error();
  page_table_ = static_cast<std::atomic<Span*>*>(*table);  // the kernel's zeroes are null pointers
  if (Status made = records_.start(pages); !made) return made;
  page_heap_.start(heap.base, pages);
  heap.find = FindKind::kSpans;
  heap.pages = page_table_;
  return Ok{};
}

void SizeClass::p_added(P& p) {
  caches_.push_back(std::make_unique<Cache>());
  p.cache.impl = caches_.back().get();
  ps_.push_back(&p);
}

void SizeClass::p_removed(P& p) {
  return_cells(p, false);
  ps_.erase(std::find(ps_.begin(), ps_.end(), &p));
  p.cache.impl = nullptr;
}

// ---- handing out

void SizeClass::lay_out(Central& central, std::uint32_t window, const TypeDesc* type) {
  std::size_t cell;
  if (window >= kTypedWindow) {
    GEARBOX_REQUIRE(type != nullptr && !type->array, "window {} serves one type, and none or an array was given",
                    window);
    cell = size_class_bytes(size_class_of(type->bytes));
    central.kind = CellKind::kTyped;
    central.type = type;
  } else {
    cell = size_class_bytes(window % kSizeClasses);
    central.kind = window < kHeaderWindow ? CellKind::kNoscan : CellKind::kHeader;
  }
  const std::size_t few_cells = cell <= kMaxSpanBytes / 8 ? 8 : 4;
  std::size_t bytes = std::max<std::size_t>(options_.span_kib << 10, cell * few_cells);
  bytes = (bytes + kHeapPage - 1) / kHeapPage * kHeapPage;
  while (bytes % cell > bytes / 8 && bytes < kMaxSpanBytes) bytes += kHeapPage;
  central.pages = static_cast<std::uint32_t>(bytes / kHeapPage);
  central.cell_count = static_cast<std::uint32_t>(bytes / cell);
  // Large cells: a refill costs the same for three of them as for twelve.
  const std::size_t claim = options_.claim_bytes * (cell >= 512 ? 4 : 1);
  central.cells_a_claim = static_cast<std::uint32_t>(std::clamp<std::size_t>(claim / cell, 1, 64));
  known_[window / 64].fetch_or(std::uint64_t{1} << (window % 64), std::memory_order_relaxed);
  central.cell_bytes = static_cast<std::uint32_t>(cell);
}

void* SizeClass::refill(P& p, std::uint32_t index, const TypeDesc* type, std::size_t bytes) {
  Cache& cache = cache_of(p);
  Window& window = p.cache.windows[index];
  Central& central = centrals_[index];
  SpanRecord*& span = cache.span[index];
  // A caller that came back from the collector on another P may find cells in this one's window.
  while (window.free == 0 && (span == nullptr || !claim(p, *span, cache.word[index], window, central))) {
    if (span != nullptr) {
      Guard<SpinLock> hold(central.lock);
      central.full.push(span);
    }
    span = next_span(p, index, type);
    cache.word[index] = 0;
    if (span == nullptr) {
      cache.used[index / 64] &= ~(std::uint64_t{1} << (index % 64));
      return nullptr;
    }
    cache.used[index / 64] |= std::uint64_t{1} << (index % 64);
  }
  GEARBOX_INVARIANT(refill, central.type == type || index < kTypedWindow, "window {} serves {}, not {}", index,
                    central.type->name, type->name);
  GEARBOX_INVARIANT(refill,
                    bytes + (central.kind == CellKind::kHeader ? sizeof(ObjectHeader) : 0) <= central.cell_bytes,
                    "{} bytes do not fit in cells of {}", bytes, central.cell_bytes);
  (void)bytes;
  const int cell = std::countr_zero(window.free);
  window.free &= window.free - 1;
  void* address = reinterpret_cast<void*>(window.base + static_cast<std::size_t>(cell) * window.stride);
  if (window.needs_zero != 0) std::memset(address, 0, window.stride);
  return address;
}

// Claims the next free cells of the span, at most a word of the bitmap. HOT among the slow: once in up to 64
// allocations.
bool SizeClass::claim(P& p, SpanRecord& span, std::uint32_t& word, Window& window, const Central& central) {
  for (; word < span.words; ++word) {
    const std::uint64_t taken = span.alloc_bits[word].load(std::memory_order_relaxed);
    std::uint64_t cells = ~taken & valid_cells(span, word);
    if (cells == 0) continue;
    if (static_cast<std::uint32_t>(std::popcount(cells)) > central.cells_a_claim) {
      std::uint64_t rest = cells;
      for (std::uint32_t i = 0; i < central.cells_a_claim; ++i) rest &= rest - 1;
      cells &= ~rest;
    }
    const std::size_t stride = central.cell_bytes;
    const std::uintptr_t base = span.base + word * 64 * stride;
    const bool scanned = central.kind != CellKind::kNoscan;
    if (scanned && !span.fresh)  // Z1
      for_each_run(cells, [&](int first, int length) {
        std::memset(reinterpret_cast<void*>(base + first * stride), 0, length * stride);
      });
    if (heap_->phase.load(std::memory_order_relaxed) == GcPhase::kMark && !GEARBOX_MUTANT(kAllocateWhite))
      span.mark_bits[word].fetch_or(cells, std::memory_order_relaxed);
    span.alloc_bits[word].store(
        taken | cells, std::memory_order_release);  // partner: find_in_span(); after the zeroes, after the marks
    window.free = cells;
    window.base = base;
    window.stride = static_cast<std::uint32_t>(stride);
    window.needs_zero = !scanned && !span.fresh ? 1 : 0;
    const auto count = static_cast<std::uint64_t>(std::popcount(cells));
    p.cache.allocated_objects += count;
    account(p, cache_of(p), count * stride);
    return true;
  }
  return false;
}

void SizeClass::account(P& p, Cache& cache, std::uint64_t bytes) {
  p.cache.allocated_bytes += bytes;
  cache.unflushed_bytes += bytes;
  if (cache.unflushed_bytes >= kFlushBytes) flush_account(cache);
}

void SizeClass::flush_account(Cache& cache) {
  const std::uint64_t live =
      heap_->live_bytes.fetch_add(cache.unflushed_bytes, std::memory_order_relaxed) + cache.unflushed_bytes;
  cache.unflushed_bytes = 0;
  std::uint64_t peak = heap_->peak_bytes.load(std::memory_order_relaxed);
  while (live > peak && !heap_->peak_bytes.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
}

// Runs a refill's piece of sweeping, which the collector does not see; two looks at the clock would cost a fair part of
// it, so that only some are clocked.
template <class F>
void SizeClass::clock_refill_sweep(Cache& cache, F&& sweep) {
  if (cache.refill_sweeps++ % kClockedSweeps != 0) return sweep();
  const std::int64_t began = os::monotonic_ns();
  sweep();
  const std::int64_t took = os::monotonic_ns() - began;
  cache.refill_sweep_ns.store(cache.refill_sweep_ns.load(std::memory_order_relaxed) + took * kClockedSweeps,
                              std::memory_order_relaxed);
}

// A swept span of that window with holes, or a new one; null when the range is full.
SpanRecord* SizeClass::next_span(P& p, std::uint32_t window, const TypeDesc* type) {
  Central& central = centrals_[window];
  Cache& cache = cache_of(p);
  for (;;) {
    SpanRecord* span;
    {
      Guard<SpinLock> hold(central.lock);
      if (central.cell_bytes == 0) lay_out(central, window, type);
      if ((span = central.holes.pop()) != nullptr) return span;
      if (options_.lazy_sweep) {
        span = central.unswept.pop();
        fetch(central.unswept.front());
      }
      if (span == nullptr && (span = central.empty.pop()) != nullptr) {
        empty_spans_.fetch_sub(1, std::memory_order_relaxed);
        return span;
      }
    }
    if (span == nullptr) break;
    Swept swept;
    clock_refill_sweep(cache, [&] { swept = sweep_bitmap(cache, *span); });
    finish_span();
    if (swept.live < span->cell_count) return span;
    Guard<SpinLock> hold(central.lock);
    central.full.push(span);
  }
  // Before the heap grows, pay for it: other sizes may hold whole pages of garbage that nobody has looked at yet.
  if (!sweep_done()) clock_refill_sweep(cache, [&] { sweep(p, options_.sweep_ahead); });
  if (SpanRecord* span = make_span(cache, central, window, central.pages)) return span;
  // The range is full. What is left of the sweep may hold pages, or spans of this window.
  while (sweep(p, 64)) {
  }
  if (SpanRecord* span = make_span(cache, central, window, central.pages)) return span;
  Guard<SpinLock> hold(central.lock);
  return central.holes.pop();
}

// Pages that were given back, or that windows keep in empty spans, before fresh ones: but only a few spans are given
// back for it, so that one allocation does not pay for a whole heap's tidying.
PageRun SizeClass::take_pages(std::size_t pages) {
  constexpr int kBatches = 4;
  // The phase does not become kMark here: that needs a safepoint of this P.
  const bool may_give = heap_->phase.load(std::memory_order_relaxed) != GcPhase::kMark;  // Z5
  for (int batch = 0;; ++batch) {
    if (const PageRun run = page_heap_.take(pages, false); run.count != 0) return run;
    if (!may_give || batch == kBatches || !give_empty_spans()) break;
  }
  PageRun run = page_heap_.take(pages, true);
  while (run.count == 0 && may_give && give_empty_spans()) run = page_heap_.take(pages, false);
  return run;
}

// Gives some empty spans of one window to the page heap. False when there were none. REQUIRES: phase is not kMark.
bool SizeClass::give_empty_spans() {
  constexpr std::size_t kBatch = 16;
  if (empty_spans_.load(std::memory_order_relaxed) == 0) return false;
  const std::uint32_t start = give_cursor_.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < kWindows; ++i) {
    const std::uint32_t window = (start + i) % kWindows;
    if ((known_[window / 64].load(std::memory_order_relaxed) >> (window % 64) & 1) == 0) continue;
    Central& central = centrals_[window];
    SpanList taken;
    {
      Guard<SpinLock> hold(central.lock);
      while (taken.count() < kBatch && !central.empty.empty()) taken.push(central.empty.pop());
    }
    if (taken.empty()) continue;
    empty_spans_.fetch_sub(taken.count(), std::memory_order_relaxed);
    give_cursor_.store(window, std::memory_order_relaxed);
    while (SpanRecord* span = taken.pop()) free_span(*span);
    return true;
  }
  return false;
}

SpanRecord* SizeClass::make_span(Cache& cache, const Central& central, std::uint32_t window, std::size_t pages) {
  const PageRun run = take_pages(pages);
  if (run.count == 0) return nullptr;
  const std::uint32_t cells = window == kLarge ? 1 : central.cell_count;
  SpanRecord* span = records_.make(run.first, run.count, (cells + 63) / 64);
  span->base = heap_->base + run.first * kHeapPage;
  span->bytes = run.count * kHeapPage;
  span->window = window;
  span->fresh = run.zero;
  span->cell_count = cells;
  add(cache.spans_made, 1);
  heap_->in_use_bytes.fetch_add(span->bytes, std::memory_order_relaxed);
  if (window == kLarge) return span;  // its caller knows the rest
  span->kind = central.kind;
  span->type = central.type;
  span->cell_bytes = central.cell_bytes;
  span->divide_magic =
      static_cast<std::uint32_t>(((std::uint64_t{1} << 32) + central.cell_bytes - 1) / central.cell_bytes);
  publish(*span);
  return span;
}

// Lets find_object() see the span. Fields are complete; the state comes last, so that a stale word that is looked up
// meanwhile finds all or nothing.
void SizeClass::publish(SpanRecord& span) {
  const std::size_t first = (span.base - heap_->base) / kHeapPage;
  for (std::size_t page = first; page < first + span.bytes / kHeapPage; ++page)
    page_table_[page].store(&span, std::memory_order_release);     // partner: find_object()
  span.state.store(SpanState::kInUse, std::memory_order_release);  // partner: find_object()
}

void* SizeClass::allocate_large(P& p, const TypeDesc* type, std::size_t bytes) {
  const bool scanned = type != nullptr && type->ref_count != 0;
  const std::size_t need = bytes + (scanned ? sizeof(ObjectHeader) : 0);
  if (need > heap_->bytes) return nullptr;
  const std::size_t pages = (need + kHeapPage - 1) / kHeapPage;
  Central& central = centrals_[kLarge];
  Cache& cache = cache_of(p);
  if (!sweep_done()) clock_refill_sweep(cache, [&] { sweep(p, options_.sweep_ahead); });
  SpanRecord* span = make_span(cache, central, kLarge, pages);
  if (span == nullptr && !sweep_done()) {
    while (sweep(p, 64)) {
    }
    span = make_span(cache, central, kLarge, pages);
  }
  if (span == nullptr) return nullptr;
  span->kind = scanned ? CellKind::kHeader : CellKind::kNoscan;
  span->type = nullptr;
  span->cell_bytes = 0;
  span->divide_magic = 0;
  if (!span->fresh) std::memset(reinterpret_cast<void*>(span->base), 0, span->bytes);
  span->fresh = false;
  if (heap_->phase.load(std::memory_order_relaxed) == GcPhase::kMark && !GEARBOX_MUTANT(kAllocateWhite))
    span->mark_bits[0].store(1, std::memory_order_relaxed);
  span->alloc_bits[0].store(1, std::memory_order_release);  // partner: find_in_span()
  publish(*span);
  {
    Guard<SpinLock> hold(central.lock);
    central.full.push(span);
    known_[kLarge / 64].fetch_or(std::uint64_t{1} << (kLarge % 64), std::memory_order_relaxed);
  }
  p.cache.allocated_objects += 1;
  account(p, cache, span->bytes);
  flush_account(cache);
  return reinterpret_cast<void*>(span->base);
}

// ---- taking back

// Empties P's windows; cells not handed out become free again. World stopped. Spans go back to their Central as swept
// ones with holes.
void SizeClass::return_cells(P& p, bool lose_black) {
  Cache& cache = cache_of(p);
  std::uint64_t bytes = 0;
  for_each_bit(cache.used, [&](std::uint32_t i) {
    SpanRecord* span = cache.span[i];
    Window& window = p.cache.windows[i];
    if (window.free != 0) {
      const std::size_t word = (window.base - span->base) / window.stride / 64;
      const std::uint64_t keep = ~window.free;
      span->alloc_bits[word].fetch_and(keep, std::memory_order_relaxed);
      span->mark_bits[word].fetch_and(lose_black ? 0 : keep, std::memory_order_relaxed);
      const auto count = static_cast<std::uint64_t>(std::popcount(window.free));
      bytes += count * window.stride;
      p.cache.allocated_objects -= count;
    }
    window = Window{};
    cache.span[i] = nullptr;
    Guard<SpinLock> hold(centrals_[i].lock);
    centrals_[i].holes.push(span);
  });
  for (std::uint64_t& word : cache.used) word = 0;
  p.cache.tiny = 0;  // its cell may be dead after this cycle, and nobody would know that it is still being filled
  p.cache.tiny_left = 0;
  p.cache.allocated_bytes -= bytes;
  flush_account(cache);
  heap_->live_bytes.fetch_sub(bytes, std::memory_order_relaxed);
}

void SizeClass::begin_mark() {
  GEARBOX_REQUIRE(sweep_done(), "a mark begins, and {} spans of the last sweep are not done",
                  unswept_.load(std::memory_order_relaxed));
  for (P* p : ps_) return_cells(*p, false);
  // Mark bits are clear already (Z3).
}

void SizeClass::begin_sweep() {
  for (P* p : ps_) return_cells(*p, GEARBOX_MUTANT(kSweepLosesBlack));
  std::uint64_t spans = 0;
  for_each_bit(known_, [&](std::uint32_t i) {
    Central& central = centrals_[i];
    GEARBOX_INVARIANT(Z4, central.unswept.empty(), "spans of the last sweep are left");
    central.unswept.append(central.holes);
    central.unswept.append(central.full);
    central.unswept.append(central.empty);  // last: they are given back
    spans += central.unswept.count();
  });
  empty_spans_.store(0, std::memory_order_relaxed);
  unswept_.store(spans, std::memory_order_relaxed);  // the world's restart publishes it
  sweep_cursor_.store(0, std::memory_order_relaxed);
}

// The mark bitmap becomes the allocation bitmap. By the one thread that took the span off its list.
SizeClass::Swept SizeClass::sweep_bitmap(Cache& cache, SpanRecord& span) {
  auto [live, dead] = Swept{};
  for (std::uint32_t w = 0; w < span.words; ++w) {
    const std::uint64_t allocated = span.alloc_bits[w].load(std::memory_order_relaxed);
    const std::uint64_t marked = span.mark_bits[w].load(std::memory_order_relaxed);
    GEARBOX_INVARIANT(Z2, (marked & ~allocated) == 0, "span {:#x} word {}: marked {:#x}, allocated {:#x}", span.base, w,
                      marked, allocated);
    live += static_cast<std::uint32_t>(std::popcount(marked));
    dead += static_cast<std::uint32_t>(std::popcount(allocated & ~marked));
#if defined(GEARBOX_CHECKED)
    const std::size_t stride = span.cell_count == 1 ? span.bytes : span.cell_bytes;
    for_each_run(allocated & ~marked, [&](int first, int length) {
      std::memset(reinterpret_cast<void*>(span.base + (w * 64 + first) * stride), kPoison, length * stride);
    });
#endif
    if (allocated != marked) span.alloc_bits[w].store(marked, std::memory_order_relaxed);
    if (marked != 0) span.mark_bits[w].store(0, std::memory_order_relaxed);  // Z3
  }
  if (dead != 0) span.fresh = false;
  add(cache.freed_objects, dead);
  add(cache.freed_bytes, dead * (span.cell_count == 1 ? span.bytes : std::uint64_t{span.cell_bytes}));
  add(cache.spans_swept, 1);
  return {live, dead};
}

// The next span's record and bitmaps, while this one is being swept.
void SizeClass::fetch(const SpanRecord* next) {
  if (next == nullptr) return;
  const auto* bytes = reinterpret_cast<const char*>(next);
  for (std::size_t line = 0; line < sizeof(SpanRecord) + 64; line += 64) __builtin_prefetch(bytes + line, 1);
}

SpanRecord* SizeClass::pop_unswept() {
  for (;;) {
    std::uint32_t at = sweep_cursor_.load(std::memory_order_relaxed);
    if (at > kLarge) return nullptr;
    if ((known_[at / 64].load(std::memory_order_relaxed) >> (at % 64) & 1) != 0) {
      Guard<SpinLock> hold(centrals_[at].lock);
      if (SpanRecord* span = centrals_[at].unswept.pop()) {
        fetch(centrals_[at].unswept.front());
        return span;
      }
    }
    sweep_cursor_.compare_exchange_strong(at, at + 1, std::memory_order_relaxed);
  }
}

bool SizeClass::sweep(P& p, std::size_t units) {
  Cache& cache = cache_of(p);
  for (; units > 0; --units) {
    SpanRecord* span = pop_unswept();
    if (span == nullptr) return false;
    file_swept(*span, sweep_bitmap(cache, *span));
    finish_span();
  }
  return true;
}

void SizeClass::file_swept(SpanRecord& span, Swept swept) {
  Central& central = centrals_[span.window];
  if (swept.live == 0) {
    // Without a dead cell it was empty before, and nobody wanted it for a cycle.
    if (swept.dead == 0 || span.window == kLarge) return free_span(span);
    empty_spans_.fetch_add(1, std::memory_order_relaxed);
    Guard<SpinLock> hold(central.lock);
    central.empty.push(&span);
    return;
  }
  Guard<SpinLock> hold(central.lock);
  (swept.live < span.cell_count ? central.holes : central.full).push(&span);
}

void SizeClass::free_span(SpanRecord& span) {
  GEARBOX_INVARIANT(Z5, heap_->phase.load(std::memory_order_relaxed) != GcPhase::kMark,
                    "span {:#x} is freed while marking", span.base);
  span.state.store(SpanState::kFree,
                   std::memory_order_release);  // first: a lookup that still has the record finds nothing
  const std::size_t first = (span.base - heap_->base) / kHeapPage, pages = span.bytes / kHeapPage;
  for (std::size_t page = first; page < first + pages; ++page)
    page_table_[page].store(nullptr, std::memory_order_relaxed);
  heap_->in_use_bytes.fetch_sub(span.bytes, std::memory_order_relaxed);
  page_heap_.give(first, pages);  // and with them the record's place
}

void SizeClass::finish_sweep() {
  // A refill on another P may be in the middle of its span; it reaches no safepoint before that is done.
  while (!sweep_done()) os::yield_thread();
}

}  // namespace size_class_parts

AllocatorEntry size_class() {
  return make_entry<size_class_parts::SizeClass, size_class_parts::Options>(EntryFacts<AllocatorTraits>{
      .name = "size_class",
      .summary = "Spans of equal cells, claimed 64 at a time; the mark bitmap becomes the allocation bitmap (Go's).",
      .traits = {.can_free = true, .native_spans = true, .concurrent_sweep = true},
  });
}

}  // namespace gearbox::allocators
