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

#include "collectors/concurrent/grey.h"
#include "interfaces/heap.h"
#include "interfaces/processor.h"

namespace gearbox::collectors::concurrent_parts {

inline constexpr std::size_t kArrayPieceBytes = 64
                                                << 10;  // of an array, scanned at once; the rest goes back as one entry
inline constexpr std::size_t kRing = 16;

// What all markers of a cycle share.
struct Marking {
  Heap* heap = nullptr;
  GreyPool pool;
  std::size_t prefetch = 8;
  std::atomic<std::uint32_t> active{0};
  std::atomic<std::uint64_t> marked_bytes{0}, marked_objects{0};  // this cycle
};

// A short piece (a write buffer, a few words, a stack) takes nothing from the pool and is not counted. Mutators that
// shade all the time have one under way at almost every moment, and a mark that waits for a moment without would not
// end. It need not wait: the second pause begins when they are over, and finds in the pool what they left.
enum class Piece : std::uint8_t { kWork, kShort };

class Marker {
 public:
  explicit Marker(Marking& marking, Piece piece = Piece::kWork) noexcept
      : marking_(marking), counted_(piece == Piece::kWork) {
    if (counted_) marking_.active.fetch_add(1, std::memory_order_acq_rel);  // partner: run_dry()
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
  [[gnu::no_sanitize("address", "thread")]] static void look_at_words(void* self, const std::uintptr_t* first,
                                                                      std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::uintptr_t word = *static_cast<const volatile std::uintptr_t*>(first + i);
      static_cast<Marker*>(self)->grey_word(word);
    }
  }

  // Scans until nothing is left here or in the pool (false), or `bytes` more were marked or p is wanted elsewhere
  // (true). HOT.
  bool drain(const P& p, std::uint64_t bytes);
  std::uint64_t marked_bytes() const noexcept { return marked_bytes_; }
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
  void scan(Grey grey);

  Marking& marking_;
  const bool counted_;
  Chunk* chunk_ = nullptr;
  std::uint64_t marked_bytes_ = 0, marked_objects_ = 0;
};

inline bool Marker::drain(const P& p, std::uint64_t bytes) {
  constexpr std::uint32_t kLookUp = 64;  // scans between two looks at the budget and at the P: some microseconds
  const std::uint64_t until = bytes > ~std::uint64_t{0} - marked_bytes_ ? ~std::uint64_t{0} : marked_bytes_ + bytes;
  std::array<Grey, kRing> ring;  // objects whose first line is on its way
  const std::size_t depth = marking_.prefetch;
  std::size_t head = 0, count = 0;
  for (std::uint32_t scans = 1;; ++scans) {
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
    scan(next);
    if (scans % kLookUp == 0) {
      if (marked_bytes_ >= until || p.attention.load(std::memory_order_relaxed) != 0) {
        while (count > 0) push(ring[(head + --count) % kRing]);
        return true;
      }
      if (marking_.pool.chunks() == 0) share();
    }
  }
}

// Half of a chunk for whoever is waiting for work.
inline void Marker::share() {
  constexpr std::uint32_t kWorthIt = 32;
  if (chunk_ == nullptr || chunk_->count < kWorthIt) return;
  Chunk* half = marking_.pool.spare();
  half->count = chunk_->count / 2;
  chunk_->count -= half->count;
  std::memcpy(half->entries, chunk_->entries + chunk_->count, half->count * sizeof(Grey));
  marking_.pool.put(half);
}

inline void Marker::scan(Grey grey) {
  const TypeDesc& type = *grey.type;
  auto look = [this](std::uintptr_t slot) __attribute__((always_inline)) {
    // partner: Ref's release store; carries the contents of a new object
    const std::uintptr_t word =
        reinterpret_cast<const std::atomic<std::uintptr_t>*>(slot)->load(std::memory_order_acquire);
    if (const Object object = find_referent(*marking_.heap, word)) this->grey(object);
  };
  if ((grey.at & 1) == 0) {
    for (std::uint32_t i = 0; i < type.ref_count; ++i) look(grey.at + type.ref_offsets[i]);
    return;
  }
  std::uintptr_t row = grey.at - 1;
  const Object object = find_object(*marking_.heap, row);
  const std::uintptr_t end = object.payload + object.payload_bytes;
  const std::uintptr_t stop = std::min<std::uintptr_t>(end, row + kArrayPieceBytes);
  for (; row + type.bytes <= end && row < stop; row += type.bytes)
    for (std::uint32_t i = 0; i < type.ref_count; ++i) look(row + type.ref_offsets[i]);
  if (row + type.bytes <= end) push({row | 1, grey.type});
}

}  // namespace gearbox::collectors::concurrent_parts
