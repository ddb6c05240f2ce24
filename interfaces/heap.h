// Heap: the layout of collected memory, as data that the collector reads without asking the allocator anything.
//
// All memory for objects lies in ONE reserved range, so "is this word a heap pointer" is one subtraction and one
// compare, and every side table is an index. Two ways to find the object that an address points into, fixed per
// allocator (`find`):
//
//   kSpans      the allocator cuts the range into spans of 8 KiB pages, each full of cells of one size. page table ->
//               Span -> divide. A cell is an object if its bit in Span::alloc_bits is set. Marks are bits by cell in
//               Span::mark_bits; after marking, the mark bitmap becomes the allocation bitmap, so sweeping touches no
//               object.
//   kStartBits  a foreign allocator places objects anywhere in the range. Each begins with an ObjectHeader and has a
//               bit in start_bits (one per 16-byte granule), set when it is published and cleared before it is freed.
//               Marks are bits by granule in mark_bits.
//
// One past the end. C++ code keeps `end` pointers: a word that points just behind an array must keep that array alive.
// So whoever allocates an array asks for one byte more than it needs (runtime/heap.h; `bytes` of an allocation includes
// that pad), and an interior lookup is enough. Single objects are not padded: a 16-byte node costs 16 bytes, and the
// compiler keeps no end pointer of one while it needs no pointer into it.
//
// Who writes what: the allocator writes spans, page table, alloc_bits and start_bits; the collector writes mark bits;
// the allocator clears or swaps them in begin_mark() and sweep. The order that makes the lookup safe against a span
// being recycled: spans are taken back only by sweep, never while phase is kMark; `Span::state` is stored with release
// last on creation and first on retirement.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "interfaces/object.h"

namespace gearbox {

inline constexpr std::size_t kGranule = 16;
inline constexpr std::size_t kHeapPage = 8192;

// Precedes the payload in cells that are not typed by their span. Payload begins right behind it.
struct alignas(16) ObjectHeader {
  std::atomic<const TypeDesc*> type{nullptr};  // stored release on publication; null: cell taken but not published
  std::uint64_t bytes = 0;                     // payload, without header and pad
};
static_assert(sizeof(ObjectHeader) == 16);

enum class SpanState : std::uint8_t { kFree, kInUse };
enum class CellKind : std::uint8_t { kNoscan, kTyped, kHeader };

// A run of pages full of cells of one size (a large object is a span with one cell). Metadata; never on the heap
// itself; never unmapped while the runtime lives, so a stale Span* is safe to read.
struct Span {
  std::atomic<SpanState> state{SpanState::kFree};
  CellKind kind = CellKind::kNoscan;
  std::uint32_t cell_bytes = 0;
  std::uint32_t cell_count = 0;
  std::uint32_t divide_magic =
      0;  // ceil(2^32 / cell_bytes): offset * magic >> 32 is the cell for offsets below 2^17; 0 when cell_count is 1
  std::uintptr_t base = 0;
  std::size_t bytes = 0;                             // pages * kHeapPage
  const TypeDesc* type = nullptr;                    // kTyped: of every cell
  std::atomic<std::uint64_t>* alloc_bits = nullptr;  // by cell; bits behind cell_count are clear
  std::atomic<std::uint64_t>* mark_bits = nullptr;   // by cell
};

enum class GcPhase : std::uint32_t { kIdle, kMark, kSweep };
enum class FindKind : std::uint8_t { kSpans, kStartBits };

struct Heap {
  std::uintptr_t base = 0;
  std::size_t bytes = 0;
  FindKind find = FindKind::kSpans;
  std::atomic<Span*>* pages = nullptr;               // kSpans: by (address - base) / kHeapPage; null where no span is
  std::atomic<std::uint64_t>* start_bits = nullptr;  // kStartBits
  std::atomic<std::uint64_t>* mark_bits = nullptr;   // kStartBits
  // kStartBits: by 64 KiB of address: granule index + 1 of the start of the object larger than 32 KiB that covers the
  // first byte there; 0 if none.
  std::atomic<std::uint64_t>* crossing = nullptr;

  std::atomic<GcPhase> phase{GcPhase::kIdle};  // changed only while the world is stopped, and by the end of the sweep
  std::atomic<std::uint64_t> live_bytes{0};    // marked by the last cycle + handed out since; the trigger looks at this
  std::atomic<std::uint64_t> in_use_bytes{0};  // pages held by objects, for statistics
  std::atomic<std::uint64_t> peak_bytes{0};    // high-water mark of live_bytes

  bool contains(std::uintptr_t word) const noexcept { return word - base < bytes; }
};

// What a word points into.
struct Object {
  std::uintptr_t cell = 0;  // first byte of the cell: header or payload
  std::uintptr_t payload = 0;
  std::size_t payload_bytes = 0;   // for typed and noscan cells: up to the end of the cell
  const TypeDesc* type = nullptr;  // null: no references inside
  std::atomic<std::uint64_t>* mark_word = nullptr;
  std::uint64_t mark_bit = 0;

  explicit operator bool() const noexcept { return cell != 0; }
  bool marked() const noexcept { return (mark_word->load(std::memory_order_relaxed) & mark_bit) != 0; }
  // Sets the mark; true for the one caller that set it.
  bool mark() const noexcept {
    if (marked()) return false;
    return (mark_word->fetch_or(mark_bit, std::memory_order_relaxed) & mark_bit) == 0;
  }
};

namespace detail {

inline Object find_in_span(const Span& span, std::uintptr_t word) noexcept {
  const std::uintptr_t offset = word - span.base;
  const auto cell = static_cast<std::uint32_t>((static_cast<std::uint64_t>(offset) * span.divide_magic) >> 32);
  if (cell >= span.cell_count) return {};  // the tail of the last page
  const std::uint64_t bit = std::uint64_t{1} << (cell % 64);
  // partner: the allocator's release when it claims cells, after it zeroed them
  if ((span.alloc_bits[cell / 64].load(std::memory_order_acquire) & bit) == 0) return {};
  Object object;
  object.cell = span.base + static_cast<std::uintptr_t>(cell) * span.cell_bytes;
  object.mark_word = &span.mark_bits[cell / 64];
  object.mark_bit = bit;
  const std::size_t cell_bytes = span.cell_count == 1 ? span.bytes : span.cell_bytes;
  if (span.kind == CellKind::kHeader) {
    const auto* header = reinterpret_cast<const ObjectHeader*>(object.cell);
    object.type = header->type.load(std::memory_order_acquire);
    object.payload = object.cell + sizeof(ObjectHeader);
    object.payload_bytes = cell_bytes - sizeof(ObjectHeader);
  } else {
    object.type = span.type;  // null for kNoscan
    object.payload = object.cell;
    object.payload_bytes = cell_bytes;
  }
  return object;
}

Object find_by_start_bits(const Heap& heap, std::uintptr_t word) noexcept;  // heap.cc

}  // namespace detail

// The object that `word` points into (its first byte, an interior byte), or none. Any word is safe. HOT while marking.
// REQUIRES: no span is being recycled, that is: phase is kMark, or the world is stopped.
inline Object find_object(const Heap& heap, std::uintptr_t word) noexcept {
  if (!heap.contains(word)) return {};
  if (heap.find == FindKind::kSpans) [[likely]] {
    Span* span = heap.pages[(word - heap.base) / kHeapPage].load(std::memory_order_acquire);
    if (span == nullptr || span->state.load(std::memory_order_acquire) != SpanState::kInUse) return {};
    return detail::find_in_span(*span, word);
  }
  return detail::find_by_start_bits(heap, word);
}

// As find_object(), for a word read from a slot of a reachable object: what such a slot refers to is allocated and
// stays so while the phase is kMark, so the allocation bit need not be fetched. HOT: most of marking is this.
[[gnu::always_inline]] inline Object find_referent(const Heap& heap, std::uintptr_t word) noexcept {
  if (!heap.contains(word)) return {};
  GEARBOX_INVARIANT(referent, find_object(heap, word),
                    "a slot of a reachable object refers to {:#x}, where no object is", word);
  if (heap.find != FindKind::kSpans) [[unlikely]]
    return detail::find_by_start_bits(heap, word);
  // partner: the allocator's releases when it made the span; the word was read with acquire after them
  const Span& span = *heap.pages[(word - heap.base) / kHeapPage].load(std::memory_order_acquire);
  const auto cell =
      static_cast<std::uint32_t>((static_cast<std::uint64_t>(word - span.base) * span.divide_magic) >> 32);
  const std::size_t cell_bytes = span.cell_count == 1 ? span.bytes : span.cell_bytes;
  Object object;
  object.cell = span.base + cell * cell_bytes;
  object.mark_word = &span.mark_bits[cell / 64];
  object.mark_bit = std::uint64_t{1} << (cell % 64);
  const bool header = span.kind == CellKind::kHeader;
  const std::size_t skip = header ? sizeof(ObjectHeader) : 0;
  object.type =
      header ? reinterpret_cast<const ObjectHeader*>(object.cell)->type.load(std::memory_order_acquire) : span.type;
  object.payload = object.cell + skip;
  object.payload_bytes = cell_bytes - skip;
  return object;
}

// Every slot of an object that may hold a reference, as addresses of words. HOT while marking.
template <class F>
inline void for_each_slot(const Object& object, F&& f) noexcept {
  const TypeDesc* type = object.type;
  if (type == nullptr || type->ref_count == 0) return;
  const std::size_t rows = type->array ? object.payload_bytes / type->bytes : 1;
  std::uintptr_t row = object.payload;
  for (std::size_t r = 0; r < rows; ++r, row += type->bytes)
    for (std::uint32_t i = 0; i < type->ref_count; ++i)
      f(reinterpret_cast<std::atomic<std::uintptr_t>*>(row + type->ref_offsets[i]));
}

}  // namespace gearbox
