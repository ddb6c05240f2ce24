#include "runtime/heap.h"

#include <atomic>

#include "runtime/dead_frames.h"
#include "runtime/fatal.h"
#include "runtime/finalizer.h"
#include "runtime/panic.h"

namespace gearbox {
namespace detail {
namespace {

// The range is full. What a collection frees may be gone before this goroutine gets a P to take it: others starve, too.
// So being left with nothing is the end only when the collection itself left too little; where it left enough, the
// patience is large, and has an end because what is free may be in pieces that do not serve. A quarter: what the cells
// of the marked objects may hold beyond them.
template <class Get>
[[gnu::noinline]] void* collect_and_allocate(Runtime& runtime, std::size_t bytes, Get& get) {
  constexpr int kPatience = 2, kPatienceWithRoom = 100;
  const std::uint64_t limit = runtime.options().heap_mib << 20;
  for (int attempt = 1;; ++attempt) {
    const std::uint64_t cycles = runtime.collector().stats().cycles;
    runtime.collector().collect(GcReason::kOutOfMemory);
    if (void* at = get(*current_p())) return at;
    const CollectorStats after = runtime.collector().stats();
    const bool room = after.cycles != cycles && after.marked_bytes + after.marked_bytes / 4 + bytes < limit;
    if (attempt >= (room ? kPatienceWithRoom : kPatience))
      fatal_error(fmt::format("out of memory: the heap of {} MiB is full ({} MiB live); raise --runtime heap_mib",
                              limit >> 20, runtime.heap().live_bytes.load(std::memory_order_relaxed) >> 20));
  }
}

// The collector first, then the memory. Any of it may have moved this goroutine to another P.
template <class Get>
void* allocate(std::size_t bytes, Get get) {
  const Inside inside;
  safepoint();
  Runtime& runtime = current_runtime();
  runtime.collector().on_refill(bytes);
  if (void* at = get(*current_p())) [[likely]]
    return at;
  return collect_and_allocate(runtime, bytes, get);
}

void* write_header(void* cell, const TypeDesc* type, std::size_t bytes) {
  auto* header = static_cast<ObjectHeader*>(cell);
  header->bytes = bytes;
  header->type.store(type, std::memory_order_release);  // partner: find_in_span()
  return header + 1;
}

// One number per type for the whole process: descriptors are static, runtimes are not.
std::atomic<std::uint32_t> next_typed_window{kTypedWindow};

}  // namespace

std::uint32_t give_window(const TypeDesc& type) {
  std::uint32_t mine = next_typed_window.load(std::memory_order_relaxed);
  while (mine < kWindows && !next_typed_window.compare_exchange_weak(mine, mine + 1, std::memory_order_relaxed)) {
  }
  // Types that come too late share the windows whose cells have headers.
  if (mine >= kWindows)
    mine = kHeaderWindow + size_class_of(std::min<std::size_t>(type.bytes + sizeof(ObjectHeader), kMaxSmallBytes));
  std::uint32_t none = 0;
  return type.window.compare_exchange_strong(none, mine, std::memory_order_relaxed) ? mine : none;
}

void* allocate_slow(std::uint32_t window, const TypeDesc* type, std::size_t bytes) {
  return allocate(bytes, [&](P& p) { return current_runtime().allocator().refill(p, window, type, bytes); });
}

void* allocate_with_header(const TypeDesc* type, std::size_t bytes) {
  if (bytes + sizeof(ObjectHeader) > kMaxSmallBytes) return allocate_large(type, bytes);
  const std::uint32_t window = kHeaderWindow + size_class_of(bytes + sizeof(ObjectHeader));
  const Inside inside;
  void* cell = take_from_window(window).at;
  if (cell == nullptr) {
    cell = allocate_slow(window, type, bytes);
    if (current_runtime().heap().find == FindKind::kStartBits)
      return cell;  // the allocator wrote the header and returned the payload
  }
  return write_header(cell, type, bytes);
}

void* allocate_large(const TypeDesc* type, std::size_t bytes) {
  const Inside inside;
  void* cell = allocate(bytes, [&](P& p) { return current_runtime().allocator().allocate_large(p, type, bytes); });
  if (type == nullptr || type->ref_count == 0 || current_runtime().heap().find == FindKind::kStartBits) return cell;
  return write_header(cell, type, bytes);
}

void array_too_long(Count count, std::size_t element_bytes) {
  runtime_panic(
      fmt::format("runtime error: makeslice: len out of range ({} elements of {} bytes)", count.text(), element_bytes));
}

}  // namespace detail

void gc() {
  const Inside inside;
  overwrite_dead_frames();  // the caller's calls so far have left words there, and waits in frames that cover them
  current_runtime().collector().collect(GcReason::kExplicit);
}

// What an allocator counts as handed out goes to a P in windows of cells, and a collection takes back the cells that were
// not used. With the world stopped the windows can be looked into: what is left in them was not handed out.
MemStats read_mem_stats() {
  const Inside inside;
  safepoint();
  Runtime& runtime = current_runtime();
  MemStats stats;
  stats.heap_live = runtime.heap().live_bytes.load(std::memory_order_relaxed);
  stats.heap_in_use = runtime.heap().in_use_bytes.load(std::memory_order_relaxed);
  runtime.stop_the_world("read mem stats");
  stats.total_allocated = runtime.total_allocated_bytes();
  runtime.start_the_world();
  const CollectorStats collector = runtime.collector().stats();
  stats.cycles = collector.cycles;
  stats.pauses = collector.pause_ns.count();
  stats.pause_total_ns = collector.pause_ns.sum();
  stats.freed_objects = runtime.allocator().stats().freed_objects;
  stats.finalizers_waiting = runtime.finalizers_->waiting();
  return stats;
}

void set_finalizer_erased(void* object, RootedCall<void*> f) {
  const Inside inside;
  safepoint();
  Runtime& runtime = current_runtime();
  // Not "the start of": two tiny objects share a cell, and their finalizers run when both are unreachable.
  GEARBOX_REQUIRE(static_cast<bool>(find_object(runtime.heap(), reinterpret_cast<std::uintptr_t>(object))),
                  "set_finalizer: {} is not on the collected heap", object);
  runtime.finalizers_->set(runtime, object, std::move(f));
}

}  // namespace gearbox
