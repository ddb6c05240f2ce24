// Marker: the inner loop of marking, for workers, assists, write buffers and stack scans alike.
//
// Made for one piece of work that reaches no safepoint: it takes a chunk, greys and scans, and its destructor gives
// what is left to the pool. Those that take work from the pool are counted in Marking::active while they live, so that
// "pool empty and nobody active" means that marking has run dry, but for short pieces under way.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "base/sanitize.h"
#include "collectors/concurrent/grey.h"
#include "interfaces/heap.h"
#include "interfaces/processor.h"

namespace gearbox::collectors::concurrent_parts {

// Of an array, scanned at once; the rest goes back as one entry, so that a budget holds in the middle of it and others
// can take that part.
inline constexpr std::size_t kArrayPieceBytes = 4 << 10;
inline constexpr std::size_t kRing = 16;

// What all markers of a cycle share.
struct Marking {
  Heap* heap = nullptr;
  GreyPool pool;
  std::size_t prefetch = 8;
  // Low half: Markers at work. High half: how many there ever were, so that two equal readings with nobody at work prove
  // that nobody was in between (run_dry()). Short pieces are not counted.
  std::atomic<std::uint64_t> active{0};
  static constexpr std::uint64_t kBorn = std::uint64_t{1} << 32, kAliveMask = kBorn - 1;
  std::atomic<std::uint64_t> marked_bytes{0}, marked_objects{0}, work_bytes{0};  // this cycle

  // True if, at one moment during the call, nothing was grey but in write buffers and short pieces. Any thread.
  bool run_dry() const noexcept {
    const std::uint64_t before = active.load(std::memory_order_acquire);  // partner: ~Marker()
    return (before & kAliveMask) == 0 && pool.chunks() == 0 &&
           active.load(std::memory_order_acquire) == before;  // partner: Marker(), ahead of any take()
  }
};

// A short piece (a write buffer, a few words, a stack) takes nothing from the pool and is not counted. Mutators that
// shade all the time have one under way at almost every moment, and a mark that waits for a moment without would not
// end. It need not wait: the second pause begins when they are over, and finds in the pool what they left.
enum class Piece : std::uint8_t { kWork, kShort };

class Marker {
 public:
  explicit Marker(Marking& marking, Piece piece = Piece::kWork) noexcept
      : marking_(marking), counted_(piece == Piece::kWork) {
    if (counted_) marking_.active.fetch_add(Marking::kBorn + 1, std::memory_order_acq_rel);  // partner: run_dry()
  }
  ~Marker() {
    if (chunk_ != nullptr) {
      if (chunk_->count != 0) chunk_ = marking_.pool.put_rest(chunk_);
      if (chunk_ != nullptr) marking_.pool.recycle(chunk_);
    }
    if (marked_objects_ != 0) {
      marking_.marked_bytes.fetch_add(marked_bytes_, std::memory_order_relaxed);
      marking_.marked_objects.fetch_add(marked_objects_, std::memory_order_relaxed);
    }
    if (const std::uint64_t work = work_bytes(); work != 0)
      marking_.work_bytes.fetch_add(work, std::memory_order_relaxed);
    if (counted_) marking_.active.fetch_sub(1, std::memory_order_acq_rel);  // after the rest was put
  }
  Marker(const Marker&) = delete;
  Marker& operator=(const Marker&) = delete;

  void grey_word(std::uintptr_t word) {
    if (!marking_.heap->contains(word)) return;
    if (const Object object = find_object(*marking_.heap, word)) grey(object);
  }
  [[gnu::always_inline]] void grey(const Object& object) {
    if (!object.mark()) return;
    marked_bytes_ += object.payload + object.payload_bytes - object.cell;
    ++marked_objects_;
    if (object.type == nullptr || object.type->ref_count == 0) return;
    push({object.payload | (object.type->array ? 1 : 0), object.type});
  }
  // Stacks and roots: words that may change while we read them (roots), of frames that may hold anything (stacks).
  GEARBOX_NO_SANITIZE("address", "thread")
  static void look_at_words(void* self, const std::uintptr_t* first, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::uintptr_t word = *static_cast<const volatile std::uintptr_t*>(first + i);
      static_cast<Marker*>(self)->grey_word(word);
    }
  }

  // Scans until nothing is left here or in the pool (false), or `work` more was done or p is wanted elsewhere (true). p
  // may be null, then only the budget counts. HOT.
  bool drain(const P* p, std::uint64_t work);
  // What budgets, debts and shares are measured in: bytes of objects marked, and of slots looked at, since a slot costs
  // its time whether or not what it refers to was marked already.
  std::uint64_t work_bytes() const noexcept { return marked_bytes_ + slots_ * sizeof(std::uintptr_t); }
  bool empty() const noexcept { return chunk_ == nullptr || chunk_->count == 0; }

 private:
  [[gnu::always_inline]] void push(Grey grey) {
    if (chunk_ != nullptr && chunk_->count != Chunk::kCapacity) [[likely]] {
      chunk_->entries[chunk_->count++] = grey;
      return;
    }
    push_slow(grey);
  }
  [[gnu::noinline]] void push_slow(Grey grey) {
    if (chunk_ == nullptr) {
      chunk_ = marking_.pool.spare();
    } else if (chunk_->count == Chunk::kCapacity) {
      marking_.pool.put(chunk_);
      chunk_ = marking_.pool.spare();
    }
    chunk_->entries[chunk_->count++] = grey;
  }
  bool pop(Grey& grey) {
    if (empty()) {
      Chunk* more = marking_.pool.take();
      if (more == nullptr) return false;
      if (chunk_ != nullptr) marking_.pool.recycle(chunk_);
      chunk_ = more;
    }
    grey = chunk_->entries[--chunk_->count];
    return true;
  }
  void share();
  // What the loop over objects looks at all the time, in registers: the heap's own fields would be loaded anew after
  // every store.
  struct Range {
    std::uintptr_t base;
    std::size_t bytes;
    const std::atomic<Span*>* pages;  // null: kStartBits
  };
  template <bool kSpans>
  bool drain_in(const Range& range, const P* p, std::uint64_t work);
  template <bool kSpans>
  void look(const Range& range, std::uintptr_t slot);
  template <bool kSpans>
  void scan_array(const Range& range, Grey grey);
  void fetch_referent(std::uintptr_t slot) const;
  static constexpr std::size_t kAheadBytes = 64;  // in an array, of slots

  Marking& marking_;
  const bool counted_;
  Chunk* chunk_ = nullptr;
  std::uint64_t marked_bytes_ = 0, marked_objects_ = 0, slots_ = 0;
};

inline bool Marker::drain(const P* p, std::uint64_t work) {
  const Heap& heap = *marking_.heap;
  return heap.find == FindKind::kSpans ? drain_in<true>({heap.base, heap.bytes, heap.pages}, p, work)
                                       : drain_in<false>({heap.base, heap.bytes, nullptr}, p, work);
}

template <bool kSpans>
inline bool Marker::drain_in(const Range& range, const P* p, std::uint64_t work) {
  // Slots and objects between two looks at the budget and at the P: some microseconds, were all of them cache misses.
  constexpr std::uint64_t kLookUp = 128;
  const std::uint64_t until = work > ~std::uint64_t{0} - work_bytes() ? ~std::uint64_t{0} : work_bytes() + work;
  std::array<Grey, kRing> ring;  // objects whose first line is on its way
  const std::size_t depth = marking_.prefetch;
  std::size_t head = 0, count = 0;
  for (std::uint64_t look_up = slots_ + kLookUp;;) {
    Grey next;
    while (count < depth && pop(next)) {
      __builtin_prefetch(reinterpret_cast<const void*>(next.at & ~std::uintptr_t{1}));
      ring[(head + count++) % kRing] = next;
    }
    if (count != 0) {
      next = ring[head++ % kRing];
      --count;
    } else if (depth != 0 || !pop(next)) {
      return false;
    }
    if ((next.at & 1) == 0) [[likely]] {
      const std::uint32_t refs = next.type->ref_count;
      const std::uint32_t* offsets = next.type->ref_offsets;
      for (std::uint32_t i = 0; i < refs; ++i) look<kSpans>(range, next.at + offsets[i]);
      slots_ += refs + 1;
    } else {
      scan_array<kSpans>(range, next);
    }
    if (slots_ >= look_up) [[unlikely]] {
      look_up = slots_ + kLookUp;
      if (work_bytes() >= until || (p != nullptr && p->attention.load(std::memory_order_relaxed) != 0)) {
        while (count > 0) push(ring[(head + --count) % kRing]);
        return true;
      }
      if (marking_.pool.chunks() == 0) share();
    }
  }
}

// The older half for whoever is, or comes, looking for work: the oldest entries are nearest to the roots and stand for
// the most, while the newest are about to be fetched. Whether somebody is looking is not asked: one chunk in the pool
// is enough, and if nobody takes it, this marker does, after all that is newer.
inline void Marker::share() {
  constexpr std::uint32_t kWorthIt = 4;
  if (chunk_ == nullptr || chunk_->count < kWorthIt) return;
  Chunk* half = marking_.pool.spare();
  half->count = chunk_->count / 2;
  chunk_->count -= half->count;
  std::memcpy(half->entries, chunk_->entries, half->count * sizeof(Grey));
  std::memmove(chunk_->entries, chunk_->entries + half->count, chunk_->count * sizeof(Grey));
  marking_.pool.put(half);
}

// HOT. As grey(find_referent()), but the mark is looked at before anything that only a new object needs.
template <bool kSpans>
[[gnu::always_inline]] inline void Marker::look(const Range& range, std::uintptr_t slot) {
  // partner: Ref's release store; carries the contents of a new object
  const std::uintptr_t word =
      reinterpret_cast<const std::atomic<std::uintptr_t>*>(slot)->load(std::memory_order_acquire);
  const std::uintptr_t offset = word - range.base;
  if (offset >= range.bytes) return;
  if constexpr (!kSpans) {
    if (const Object object = find_referent(*marking_.heap, word)) grey(object);
  } else {
    GEARBOX_INVARIANT(referent, find_object(*marking_.heap, word),
                      "a slot of a reachable object refers to {:#x}, where no object is", word);
    // partner: the allocator's releases when it made the span; the word was read with acquire after them
    const Span& span = *range.pages[offset / kHeapPage].load(std::memory_order_acquire);
    const std::uint64_t cell = ((word - span.base) * span.divide_magic) >> 32;
    std::atomic<std::uint64_t>& marks = span.mark_bits[cell / 64];
    const std::uint64_t bit = std::uint64_t{1} << (cell % 64);
    if ((marks.load(std::memory_order_relaxed) & bit) != 0) return;
    if ((marks.fetch_or(bit, std::memory_order_relaxed) & bit) != 0) return;
    const std::size_t cell_bytes = span.cell_count == 1 ? span.bytes : span.cell_bytes;
    marked_bytes_ += cell_bytes;
    ++marked_objects_;
    std::uintptr_t payload = span.base + cell * cell_bytes;
    const TypeDesc* type = span.type;
    if (span.kind == CellKind::kHeader) {
      type = reinterpret_cast<const ObjectHeader*>(payload)->type.load(std::memory_order_acquire);
      payload += sizeof(ObjectHeader);
    }
    if (type == nullptr || type->ref_count == 0) return;
    push({payload | (type->array ? 1 : 0), type});
  }
}

// A piece of a row of elements; what is left of it is pushed again.
template <bool kSpans>
[[gnu::noinline]] inline void Marker::scan_array(const Range& range, Grey grey) {
  const TypeDesc& type = *grey.type;
  std::uintptr_t row = grey.at - 1;
  const Object object = find_object(*marking_.heap, row);
  const std::uintptr_t end = object.payload + object.payload_bytes;
  const std::size_t rows = std::max<std::size_t>(kArrayPieceBytes / type.bytes, 1);
  const std::uintptr_t stop = std::min(end, row + rows * type.bytes);
  // First, so that it lies below what this piece refers to: the stack grows by a piece, not by the array.
  if (stop + type.bytes <= end) push({stop | 1, grey.type});
  slots_ += rows * type.ref_count + 1;
  // Marking drains the processor's pipeline at each object that is new, so it does not look ahead by itself.
  const std::size_t ahead = (kAheadBytes + type.bytes - 1) / type.bytes * type.bytes;
  for (; row + type.bytes <= stop; row += type.bytes) {
    for (std::uint32_t i = 0; i < type.ref_count; ++i) {
      const std::uintptr_t slot = row + type.ref_offsets[i];
      if (slot + ahead < stop) fetch_referent(slot + ahead);
      look<kSpans>(range, slot);
    }
  }
}

// Prefetches the record and the bitmaps of what a slot refers to.
inline void Marker::fetch_referent(std::uintptr_t slot) const {
  const Heap& heap = *marking_.heap;
  const std::uintptr_t word =
      reinterpret_cast<const std::atomic<std::uintptr_t>*>(slot)->load(std::memory_order_relaxed);
  if (!heap.contains(word)) return;
  if (heap.find != FindKind::kSpans) {
    __builtin_prefetch(&heap.mark_bits[(word - heap.base) / kGranule / 64], 1);
    return;
  }
  const auto* record =
      reinterpret_cast<const char*>(heap.pages[(word - heap.base) / kHeapPage].load(std::memory_order_relaxed));
  __builtin_prefetch(record);
  __builtin_prefetch(record + 64, 1);  // bitmaps follow the record
}

}  // namespace gearbox::collectors::concurrent_parts
