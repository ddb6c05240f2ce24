// P and M: the right to run goroutines, and the thread that runs them; what the gears may know of both. The runtime
// derives its own structures from these.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "interfaces/goroutine.h"

namespace gearbox {

class Collector;
class Allocator;
struct Heap;

inline constexpr std::size_t kMaxPs = 256;
inline constexpr std::size_t kMaxMs = 4096;  // Ms are made when all others block; an M is kept until the runtime ends

// ---- Windows: what the inline allocation path reads.
//
// A window is a row of free cells of equal size: bit i of `free` says that the cell at base + i * stride is free and
// already zeroed (cells that hold no references are zeroed by the allocating path instead: `needs_zero`). Taking one is
// a count of trailing zeros.
struct Window {
  std::uint64_t free = 0;
  std::uintptr_t base = 0;
  std::uint32_t stride = 0;
  std::uint32_t needs_zero = 0;
};

// Size classes: 16-byte steps to 128, then four steps in each doubling up to 32 KiB (jemalloc's spacing; internal waste
// at most 20 %).
inline constexpr std::size_t kMaxSmallBytes = 32768;
inline constexpr std::uint32_t kSizeClasses = 40;
constexpr std::uint32_t size_class_of(std::size_t bytes) noexcept {
  if (bytes <= 128) return bytes == 0 ? 0 : static_cast<std::uint32_t>((bytes - 1) / 16);
  const int exponent = 63 - __builtin_clzll(bytes - 1);  // 2^exponent <= bytes - 1
  const int step_log2 = exponent - 2;
  return 8 + static_cast<std::uint32_t>((exponent - 7) * 4) +
         static_cast<std::uint32_t>(((bytes - 1) >> step_log2) - 4);
}
constexpr std::size_t size_class_bytes(std::uint32_t size_class) noexcept {
  if (size_class < 8) return (size_class + 1) * 16;
  const std::uint32_t doubling = (size_class - 8) / 4, step = (size_class - 8) % 4;
  return (std::size_t{128} << doubling) + (step + 1) * (std::size_t{32} << doubling);
}
static_assert(size_class_bytes(size_class_of(kMaxSmallBytes)) == kMaxSmallBytes &&
              size_class_of(kMaxSmallBytes) == kSizeClasses - 1);

// Indexes of windows in a cache: [0, C) cells without references, by size class; [C, 2C) cells that begin with a
// 16-byte ObjectHeader, by size class of header + payload; [2C, kWindows) one for each of the first types allocated:
// cells without a header, all of that type.
inline constexpr std::uint32_t kNoscanWindow = 0;
inline constexpr std::uint32_t kHeaderWindow = kSizeClasses;
inline constexpr std::uint32_t kTypedWindow = 2 * kSizeClasses;
inline constexpr std::uint32_t kWindows = 256;

struct AllocCache {
  Window windows[kWindows];
  std::uintptr_t tiny = 0;              // the rest of a 16-byte cell shared by reference-free objects of up to 8 bytes
  std::uint32_t tiny_left = 0;          // bytes
  std::uint64_t allocated_bytes = 0;    // handed to this P by refills, whole run
  std::uint64_t allocated_objects = 0;  // cells taken by refills, whole run (an upper bound of objects made)
  void* impl = nullptr;                 // the allocator's own per-P data
};

struct WriteBuffer {
  static constexpr std::uint32_t kCapacity = 512;  // words; two a store, as in Go's wbBuf of 256 pairs
  std::uint32_t count = 0;
  std::uint32_t limit = kCapacity;  // a smaller even number shakes the flush and the termination (stress)
  std::uintptr_t entries[kCapacity + 2];
};

// Where a P is; runtime/procs.h has the table of passages.
enum class PStatus : std::uint32_t { kIdle, kTaken, kRunning, kSyscall, kStopped, kRemoved };

// What a P's owner is asked to do at its next safepoint (P::attention, bits).
inline constexpr std::uint32_t kAttentionPreempt = 1;  // the slice is over: yield
inline constexpr std::uint32_t kAttentionStop = 2;     // the world stops

// One of GOMAXPROCS. Fields belong to the owning M unless said otherwise.
struct alignas(128) P {
  std::atomic<std::uint32_t> attention{0};  // any thread sets, owner clears; read at every safepoint
  bool marking = false;                     // write barrier on. Written only while the world is stopped
  bool scanning = false;  // look at G::scan before running a G (collector.h). Written only while the world is stopped
  PId id = 0;
  M* m = nullptr;  // the owner, null when idle
  Collector* collector = nullptr;
  const Heap* heap = nullptr;
  std::atomic<PStatus> status{PStatus::kIdle};
  std::uint32_t schedule_tick = 0;  // counts picks; owner only
  void* scheduler_data = nullptr;   // the policy's own
  WriteBuffer write_buffer;
  AllocCache cache;
};

// A thread. Fields belong to it unless said otherwise.
struct M {
  std::uint32_t id = 0;  // dense, from 0; also the lane of lane-owner pollers
  int thread_id = 0;     // the kernel's number of its thread, which writes it before it takes a P
  P* p = nullptr;
  G* current = nullptr;
  void* allocator_data = nullptr;  // the allocator's per-thread data (a foreign heap), made on first use
};

}  // namespace gearbox
