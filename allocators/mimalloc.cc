// mimalloc: a production allocator under the collector, confined to the heap's range; every object has a header and a
// start bit.
//
// Idea.       The control experiment for size_class: what do thread-local free lists, a page-wise layout and a purge
//             policy made by others do for a collected heap, and what does a collector cost that must free each dead
//             object by itself? The library (whichever of 2.0 to 3.x the machine has, mimalloc/library.h) is opened, never
//             linked: linked, it would take malloc over in every combination.
// Structure.  The range is an exclusive arena of the library, or several side by side where an arena has a limit. Each
//             M has heaps of its own in each (2.x lets only the thread that made a heap allocate from it). Blocks that
//             no arena of the version can hold are runs of pages behind the arenas (mimalloc/own_runs.h). refill()
//             returns one object, published by a start bit; windows stay empty. Sweep goes over start & ~mark, chunk by
//             chunk.
// Invariants. F1  A start bit is set after header and zeroes, and after the mark bit while a cycle runs; it is cleared
//                 before the block is freed.
//             F2  Until the sweep has ended objects are born marked; a sweeper that sees a start bit sees the mark that
//                 came before it.
//             F3  Mark bits are not cleared inside a sweep. There are two bitmaps: a mark begins on the one that the
//                 last sweep's end has cleared.
//             F4  Nothing is freed or purged in kMark.
//             F5  One thread at a time is inside the library for an M's heaps: that M's, or one that collects them for it.
// Threads.    refill, allocate_large: an M with a P. sweep: the same, several at once, chunks from a shared counter. A
//             block may be freed by another thread than made it: the library's delayed list takes it.
// Giving back. A block that another thread has freed stays on its page until that page's owner looks at it, and an M that
//             sleeps never does: its pages, all free, would stay resident for ever. So whoever gives memory back collects
//             every M's heaps in every arena. The library forbids that to none but two at a time; an M says that it is
//             inside with plain stores, and a collection for it pays for the fence (F5, as in schedulers/gmp/run_next.h).
//             Late 3.x has parts of a heap by thread, and collects the caller's only: library.h names the M's part. Arenas
//             are declared uncommitted: of memory that is there already the library gives nothing back, ever.
// Process.    The library's state belongs to the process: an arena can never be removed, and there are at most 64 (160 in
//             3.x). So ranges are kept and used again by later instances (mimalloc/ranges.h); this is the one place in the
//             gears where state outlives the object. A destroyed instance frees all its blocks, so that segments its
//             threads have abandoned are reclaimed empty.
// Rejected.   mi_heap_visit_blocks for the sweep: it mutates the heap and reports blocks that another thread has freed
//             already.
// Cost.       An atomic or an object for its start bit (two while marking), and 6 to 11 ns a dead object in the sweep.
// Weak spot.  In 2.x segments of 32 MiB, each one M's: the range is reserved far larger than the limit asked for, and the
//             limit is counted in bytes. Memory goes back to the kernel by whole segments only: one object that lives
//             keeps 32 MiB resident. And a step of giving back is all of an M's heaps, in one turn.
#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "allocators/mimalloc/ranges.h"
#include "allocators/mimalloc/thread_heaps.h"
#include "base/check.h"
#include "base/lock.h"
#include "base/os/memory.h"
#include "base/sanitize.h"
#include "interfaces/allocator.h"
#include "interfaces/current.h"
#include "interfaces/mutant.h"
#include "interfaces/processor.h"
#include "interfaces/registry.h"
#include "interfaces/world.h"

namespace gearbox::allocators {
namespace {

using mimalloc_parts::ThreadHeaps;

struct Options {
  bool segregate = true;

  void visit(OptionVisitor& v) {
    v.field("segregate", segregate, "Two heaps an M, one for objects without references.");
  }
};

constexpr std::size_t kChunkBytes = 1 << 20;  // the unit of sweeping and clearing
constexpr std::size_t kChunkWords = kChunkBytes / kGranule / 64;
constexpr std::size_t kCrossingBytes = 65536;
constexpr std::size_t kFlushBytes = 16 << 10;
constexpr unsigned char kPoison = 0xDB;

MimallocRanges& ranges() { return MimallocRanges::of_process(); }
const MimallocLibrary& library() { return ranges().library(); }

struct Cache {  // one P's
  std::uint64_t unflushed_bytes = 0;
};

class Mimalloc final : public Allocator {
 public:
  Mimalloc(World&, const Options& options) : options_(options) {}
  ~Mimalloc() override;

  Result<bool> reserve(Heap& heap) override;
  Status start(Heap& heap) override;
  void p_added(P& p) override {
    caches_.push_back(std::make_unique<Cache>());
    p.cache.impl = caches_.back().get();
    ps_.push_back(&p);
  }
  void p_removed(P& p) override {
    empty(p);
    ps_.erase(std::find(ps_.begin(), ps_.end(), &p));
    p.cache.impl = nullptr;
  }
  void* refill(P& p, std::uint32_t window, const TypeDesc* type, std::size_t bytes) override {
    return allocate(p, window < kHeaderWindow ? nullptr : type, bytes);
  }
  void* allocate_large(P& p, const TypeDesc* type, std::size_t bytes) override { return allocate(p, type, bytes); }
  void begin_mark() override {
    for (P* p : ps_) empty(*p);
    if (!GEARBOX_MUTANT(kClearMarksInSweep)) active_ ^= 1;  // F3
    heap_->mark_bits = marks_[active_];
  }
  void begin_sweep() override {
    for (P* p : ps_) empty(*p);
    resident_bytes_ = std::max(resident_bytes_, heap_->in_use_bytes.load(std::memory_order_relaxed));
    next_chunk_.store(0, std::memory_order_relaxed);  // the world's restart publishes it
    done_.store(false, std::memory_order_relaxed);
  }
  bool sweep(P& p, std::size_t units) override;
  bool sweep_done() const override { return done_.load(std::memory_order_acquire); }  // partner: finish_sweep()
  void finish_sweep() override;
  void enumerate(void (*visit)(void*, const Object&), void* context) override {
    for_each_start([&](std::uintptr_t cell) { visit(context, find_object(*heap_, cell)); });
  }
  bool release_free_memory(std::uint64_t keep_bytes) override;
  AllocatorStats stats() const override {
    return {.in_use_bytes = heap_->in_use_bytes.load(std::memory_order_relaxed),
            .metadata_bytes = table_bytes(),
            .freed_bytes = freed_bytes_.load(std::memory_order_relaxed),
            .freed_objects = freed_objects_.load(std::memory_order_relaxed)};
  }

 private:
  void* allocate(P& p, const TypeDesc* type, std::size_t bytes);
  // The side tables' pages that may be resident: those of chunks where objects were.
  std::uint64_t table_bytes() const noexcept {
    std::uint64_t chunks = 0;
    for (std::size_t chunk = 0; chunk < chunks_; ++chunk) chunks += touched_[chunk].load(std::memory_order_relaxed);
    return chunks * (3 * kChunkWords * sizeof(std::uint64_t) + kChunkBytes / kCrossingBytes * sizeof(std::uint64_t)) +
           chunks_;
  }
  [[gnu::noinline]] ThreadHeaps* make_thread_heaps();
  MimallocHeap* heap_in(ThreadHeaps& heaps, bool noscan);
  // What the library sets aside for a request: the account's unit, the same when it is made and when it is freed.
  static std::size_t held_by(std::size_t need) noexcept { return library().good_size(need); }
  void* take_block(bool noscan, std::size_t bytes);
  void* take_from(mi_heap_t* heap, std::size_t bytes);
  void give_block(void* block, std::size_t bytes);
  void empty(P& p) {
    p.cache.tiny = 0;
    p.cache.tiny_left = 0;
    flush_account(p);
  }
  void flush_account(P& p);
  void set_crossings(std::uintptr_t cell, std::size_t bytes, std::uint64_t value);
  void sweep_chunk(std::size_t chunk);
  template <class F>
  void for_each_start(F&& f);
  Result<void*> table(std::size_t bytes) {
    bytes = (bytes + os::kPageBytes - 1) / os::kPageBytes * os::kPageBytes;
    Result<void*> memory = os::reserve(bytes, 0, os::kPageBytes);
    if (memory) tables_.push_back({*memory, bytes});
    return memory;
  }

  const Options options_;
  Heap* heap_ = nullptr;
  std::uintptr_t base_ = 0;  // of the range, while this instance holds it
  std::size_t bytes_ = 0, limit_bytes_ = 0, chunks_ = 0;
  MimallocRange* range_ = nullptr;
  std::size_t most_block_bytes_ = 0;  // of the library's; a larger block is one of range_->own
  std::vector<std::pair<void*, std::size_t>> tables_;
  std::atomic<std::uint64_t>* starts_ = nullptr;
  std::atomic<std::uint64_t>* marks_[2] = {};
  std::atomic<std::uint64_t>* crossing_ = nullptr;
  std::atomic<std::uint8_t>* touched_ = nullptr;  // by chunk: was there ever a start bit
  std::uint32_t active_ = 0;
  std::atomic<std::size_t> next_chunk_{0};
  std::atomic<bool> done_{true};
  std::atomic<std::uint64_t> freed_bytes_{0}, freed_objects_{0};
  std::vector<P*> ps_;
  std::vector<std::unique_ptr<Cache>> caches_;
  std::mutex threads_lock_;  // guards the three below, but for begin_sweep()
  std::vector<std::shared_ptr<ThreadHeaps>> threads_;
  std::size_t releasing_ = 0;         // the next of threads_ in a round of giving back; 0: no round
  std::uint64_t resident_bytes_ = 0;  // most that was in use since the last round: it is resident still
};

Result<bool> Mimalloc::reserve(Heap& heap) {
  limit_bytes_ = heap.bytes;
  auto range = ranges().take(limit_bytes_);
  if (!range) return range.error();
  range_ = *range;
  most_block_bytes_ = library().most_block_bytes();
  heap.base = base_ = range_->base;
  heap.bytes = bytes_ = range_->bytes;
  return true;
}

Status Mimalloc::start(Heap& heap) {
  GEARBOX_REQUIRE(base_ != 0 && heap.base == base_, "start() without reserve()");
  heap_ = &heap;
  chunks_ = bytes_ / kChunkBytes;
  const std::size_t bitmap = bytes_ / kGranule / 8;
  std::atomic<std::uint64_t>** tables[] = {&starts_, &marks_[0], &marks_[1], &crossing_};
  for (auto** at : tables) {
    Result<void*> memory = table(at == &crossing_ ? bytes_ / kCrossingBytes * sizeof(std::uint64_t) : bitmap);
    if (!memory) return memory.error();
    *at = static_cast<std::atomic<std::uint64_t>*>(*memory);
  }
  Result<void*> touched = table(chunks_);
  if (!touched) return touched.error();
  touched_ = static_cast<std::atomic<std::uint8_t>*>(*touched);
  heap.find = FindKind::kStartBits;
  heap.start_bits = starts_;
  heap.mark_bits = marks_[active_];
  heap.crossing = crossing_;
  return Ok{};
}

Mimalloc::~Mimalloc() {
  if (touched_ != nullptr)
    for_each_start([&](std::uintptr_t cell) {
      give_block(reinterpret_cast<void*>(cell), sizeof(ObjectHeader) + reinterpret_cast<ObjectHeader*>(cell)->bytes);
    });
  for (auto [memory, bytes] : tables_) os::release(memory, bytes);
  if (range_ != nullptr) ranges().give(*range_);
}

// Free pages go back, one M's a step. A round begins only when more was in use since the last one than is to be kept, and
// much of that is free: a collection of all heaps in every cycle would cost more than the memory is worth. No M needs
// threads_lock_ but for its first allocation.
bool Mimalloc::release_free_memory(std::uint64_t keep_bytes) {
  std::shared_ptr<ThreadHeaps> heaps;
  bool more = false;
  {
    std::lock_guard hold(threads_lock_);
    const std::uint64_t in_use = heap_->in_use_bytes.load(std::memory_order_relaxed);
    if (threads_.empty()) return false;
    if (releasing_ == 0) {
      if (resident_bytes_ <= keep_bytes || resident_bytes_ <= in_use + in_use / 8) return false;
      resident_bytes_ = in_use;
    }
    heaps = threads_[releasing_++];
    more = releasing_ < threads_.size();
    if (!more) releasing_ = 0;
  }
  heaps->take();
  heaps->for_each([](const MimallocHeap& heap) { library().collect(heap); });
  heaps->give();
  return more;
}

ThreadHeaps* Mimalloc::make_thread_heaps() {
  auto heaps = std::make_shared<ThreadHeaps>(range_->arenas.size());
  mimalloc_parts::heaps_of_this_thread.all.push_back(heaps);
  current_m()->allocator_data = heaps.get();
  std::lock_guard hold(threads_lock_);
  threads_.push_back(heaps);
  return heaps.get();
}

#if defined(__SANITIZE_THREAD__)
// The sanitizer looks into the library only where that calls memset and its like, and sees none of its atomics: headers of
// segments that one thread has abandoned and another has claimed look like races. So those calls, and only those, are
// not looked at. Ours are: what we read and write in blocks, and the zeroing.
extern "C" const char* __tsan_default_suppressions() { return "called_from_lib:libmimalloc.so\n"; }

// Nor does it see how the library passes a block from one thread to another, and reports the zeroing of a block as a
// race with its former life. So every free happens before every later allocation here, for the sanitizer
// only; the zeroing comes after that.
void* Mimalloc::take_from(mi_heap_t* heap, std::size_t bytes) {
  void* block = library().heap_malloc(heap, bytes);
  tell_tsan_seen(this);
  return block == nullptr ? nullptr : std::memset(block, 0, bytes);
}
#else
void* Mimalloc::take_from(mi_heap_t* heap, std::size_t bytes) { return library().heap_zalloc(heap, bytes); }
#endif

MimallocHeap* Mimalloc::heap_in(ThreadHeaps& heaps, bool noscan) {
  ThreadHeaps::InArena& in = heaps.in[heaps.arena];
  MimallocHeap& heap = noscan && options_.segregate ? in.noscan : in.scanned;
  if (heap.whole == nullptr) [[unlikely]]
    heap = library().new_heap_of_thread(range_->arenas[heaps.arena]);
  return heap.whole != nullptr ? &heap : nullptr;
}

// nullptr: every arena is full.
void* Mimalloc::take_block(bool noscan, std::size_t bytes) {
  if (bytes > most_block_bytes_) [[unlikely]]
    return range_->own.take(bytes);
  auto* heaps = static_cast<ThreadHeaps*>(current_m()->allocator_data);
  if (heaps == nullptr) [[unlikely]]
    heaps = make_thread_heaps();
  void* block = nullptr;
  heaps->enter();  // F5
  for (std::size_t tried = 0; tried < heaps->in.size(); ++tried) {
    if (MimallocHeap* heap = heap_in(*heaps, noscan); heap != nullptr) [[likely]]
      block = take_from(heap->whole, bytes);
    if (block != nullptr) [[likely]]
      break;
    heaps->arena = (heaps->arena + 1) % heaps->in.size();
  }
  heaps->leave();
  return block;
}

void Mimalloc::give_block(void* block, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(block);
  if (range_->own.contains(at)) [[unlikely]] {
    range_->own.give(at, bytes);
    return;
  }
  tell_tsan_published(this);
  library().free(block);
}

void* Mimalloc::allocate(P& p, const TypeDesc* type, std::size_t bytes) {
  const std::size_t need = sizeof(ObjectHeader) + bytes;
  const std::size_t held = held_by(need);
  if (heap_->in_use_bytes.load(std::memory_order_relaxed) + held > limit_bytes_) return nullptr;
  void* block = take_block(type == nullptr || type->ref_count == 0, need);
  if (block == nullptr) return nullptr;
  const auto cell = reinterpret_cast<std::uintptr_t>(block);
  GEARBOX_INVARIANT(F1, heap_->contains(cell) && cell % kGranule == 0, "the library gave {}", block);
  auto* header = static_cast<ObjectHeader*>(block);
  header->bytes = bytes;
  header->type.store(type, std::memory_order_relaxed);
  const std::uint64_t granule = (cell - base_) / kGranule, bit = std::uint64_t{1} << (granule % 64);
  if (need > kMaxSmallBytes) set_crossings(cell, need, granule + 1);
  auto& touched = touched_[(cell - base_) / kChunkBytes];
  if (touched.load(std::memory_order_relaxed) == 0) touched.store(1, std::memory_order_relaxed);
  if (heap_->phase.load(std::memory_order_relaxed) != GcPhase::kIdle && !GEARBOX_MUTANT(kAllocateWhite))
    heap_->mark_bits[granule / 64].fetch_or(bit, std::memory_order_relaxed);
  starts_[granule / 64].fetch_or(bit,
                                 std::memory_order_release);  // F1, F2; partner: find_by_start_bits(), sweep_chunk()
  p.cache.allocated_bytes += held;
  p.cache.allocated_objects += 1;
  auto& cache = *static_cast<Cache*>(p.cache.impl);
  cache.unflushed_bytes += held;
  if (cache.unflushed_bytes >= kFlushBytes) flush_account(p);
  return header + 1;
}

void Mimalloc::flush_account(P& p) {
  auto& cache = *static_cast<Cache*>(p.cache.impl);
  const std::uint64_t bytes = std::exchange(cache.unflushed_bytes, 0);
  if (bytes == 0) return;
  heap_->in_use_bytes.fetch_add(bytes, std::memory_order_relaxed);
  const std::uint64_t live = heap_->live_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  std::uint64_t peak = heap_->peak_bytes.load(std::memory_order_relaxed);
  while (live > peak && !heap_->peak_bytes.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
}

// Every 64 KiB boundary that the object covers leads to it; value 0: to nothing.
void Mimalloc::set_crossings(std::uintptr_t cell, std::size_t bytes, std::uint64_t value) {
  const std::uintptr_t offset = cell - base_;
  for (std::size_t at = (offset + kCrossingBytes - 1) / kCrossingBytes; at * kCrossingBytes < offset + bytes; ++at)
    crossing_[at].store(value, std::memory_order_release);  // partner: find_by_start_bits()
}

bool Mimalloc::sweep(P&, std::size_t units) {
  if (done_.load(std::memory_order_relaxed)) return false;
  auto* mine = static_cast<ThreadHeaps*>(current_m()->allocator_data);  // some of what is freed may be of these
  if (mine != nullptr) mine->enter();
  bool more = true;
  while (units > 0) {
    const std::size_t chunk = next_chunk_.fetch_add(1, std::memory_order_relaxed);
    if (chunk >= chunks_) {
      next_chunk_.store(chunks_, std::memory_order_relaxed);
      more = false;
      break;
    }
    if (touched_[chunk].load(std::memory_order_relaxed) == 0) continue;
    sweep_chunk(chunk);
    --units;
  }
  if (mine != nullptr) mine->leave();
  return more;
}

void Mimalloc::sweep_chunk(std::size_t chunk) {
  std::uint64_t objects = 0, bytes = 0;
  for (std::size_t w = chunk * kChunkWords; w < (chunk + 1) * kChunkWords; ++w) {
    const std::uint64_t started = starts_[w].load(std::memory_order_acquire);  // F2; partner: allocate()
    if (started == 0) continue;
    std::uint64_t dead = started & ~heap_->mark_bits[w].load(std::memory_order_relaxed);
    if (dead != 0) starts_[w].fetch_and(~dead, std::memory_order_relaxed);  // F1
    if (GEARBOX_MUTANT(kClearMarksInSweep)) heap_->mark_bits[w].store(0, std::memory_order_relaxed);
    for (; dead != 0; dead &= dead - 1) {
      const std::uintptr_t cell = base_ + (w * 64 + static_cast<std::size_t>(std::countr_zero(dead))) * kGranule;
      const std::size_t need = sizeof(ObjectHeader) + reinterpret_cast<ObjectHeader*>(cell)->bytes;
      if (need > kMaxSmallBytes) set_crossings(cell, need, 0);
      if (kGearboxChecked) std::memset(reinterpret_cast<void*>(cell), kPoison, need);
      give_block(reinterpret_cast<void*>(cell), need);
      ++objects;
      bytes += held_by(need);
    }
  }
  freed_objects_.fetch_add(objects, std::memory_order_relaxed);
  freed_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  heap_->in_use_bytes.fetch_sub(bytes, std::memory_order_relaxed);
}

void Mimalloc::finish_sweep() {
  std::atomic<std::uint64_t>* const last = marks_[active_ ^ 1];
  for (std::size_t chunk = 0; chunk < chunks_; ++chunk) {
    if (touched_[chunk].load(std::memory_order_relaxed) == 0) continue;
    for (std::size_t w = chunk * kChunkWords; w < (chunk + 1) * kChunkWords; ++w)
      if (last[w].load(std::memory_order_relaxed) != 0) last[w].store(0, std::memory_order_relaxed);
  }
  done_.store(true, std::memory_order_release);  // partner: sweep_done()
}

template <class F>
void Mimalloc::for_each_start(F&& f) {
  for (std::size_t chunk = 0; chunk < chunks_; ++chunk) {
    if (touched_[chunk].load(std::memory_order_relaxed) == 0) continue;
    for (std::size_t w = chunk * kChunkWords; w < (chunk + 1) * kChunkWords; ++w)
      for (std::uint64_t bits = starts_[w].load(std::memory_order_acquire); bits != 0;
           bits &= bits - 1)  // partner: allocate()
        f(base_ + (w * 64 + static_cast<std::size_t>(std::countr_zero(bits))) * kGranule);
  }
}

}  // namespace

AllocatorEntry mimalloc() {
  return make_entry<Mimalloc, Options>(EntryFacts<AllocatorTraits>{
      .name = "mimalloc",
      .summary = "The machine's libmimalloc confined to the heap's range; one heap an M, start bits, a free for each "
                 "dead object.",
      .traits = {.can_free = true, .native_spans = false, .concurrent_sweep = true},
      .library = [] { return ranges().open(); },
  });
}

}  // namespace gearbox::allocators
