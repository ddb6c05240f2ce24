#include "interfaces/heap.h"

#include <bit>

namespace gearbox::detail {
namespace {

constexpr std::size_t kCrossingBytes = 65536;

// The object whose start bit is at `granule`, if it covers `word`.
Object object_at(const Heap& heap, std::uint64_t granule, std::uintptr_t word) noexcept {
  const std::uintptr_t cell = heap.base + granule * kGranule;
  const auto* header = reinterpret_cast<const ObjectHeader*>(cell);
  // Between objects there may be gaps, and a word in a gap belongs to none; without this check it would keep the left
  // neighbour alive.
  if (word >= cell + sizeof(ObjectHeader) + header->bytes) return {};
  Object object;
  object.cell = cell;
  object.payload = cell + sizeof(ObjectHeader);
  object.payload_bytes = header->bytes;
  object.type = header->type.load(std::memory_order_acquire);
  object.mark_word = &heap.mark_bits[granule / 64];
  object.mark_bit = std::uint64_t{1} << (granule % 64);
  return object;
}

}  // namespace

Object find_by_start_bits(const Heap& heap, std::uintptr_t word) noexcept {
  const std::uint64_t granule = (word - heap.base) / kGranule;
  // The nearest start bit at or below. Not only small objects: one of up to 64 KiB may cross no boundary of the
  // crossing map.
  const std::uint64_t reach = kCrossingBytes / kGranule;
  const std::uint64_t lowest = granule > reach ? granule - reach : 0;
  for (std::uint64_t index = granule / 64;; --index) {
    std::uint64_t bits =
        heap.start_bits[index].load(std::memory_order_acquire);  // partner: publication, release after the header
    if (index == granule / 64 && granule % 64 != 63) bits &= (std::uint64_t{2} << (granule % 64)) - 1;
    if (bits != 0) {
      const std::uint64_t start = index * 64 + 63 - static_cast<std::uint64_t>(std::countl_zero(bits));
      if (start >= lowest)
        if (Object object = object_at(heap, start, word)) return object;
      break;
    }
    if (index * 64 <= lowest) break;
  }
  // A large object that covers the first byte of this 64 KiB of address.
  const std::uint64_t crossing = heap.crossing[(word - heap.base) / kCrossingBytes].load(std::memory_order_acquire);
  if (crossing != 0) return object_at(heap, crossing - 1, word);
  return {};
}

}  // namespace gearbox::detail
