#include "allocators/mimalloc/ranges.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/os/memory.h"

namespace gearbox::allocators {
namespace {
constexpr std::size_t kSegmentBytes = 32 << 20;  // what an arena's start and length are multiples of, in every version
constexpr std::size_t kLeastBytes = std::size_t{4} << 30;
}  // namespace

MimallocRanges& MimallocRanges::of_process() {
  static MimallocRanges* const the = new MimallocRanges;  // never destroyed: threads may end after main
  return *the;
}

Status MimallocRanges::open_locked() {
  if (open_) return Ok{};
  if (Status ok = library_.open(); !ok) return ok;
  open_ = true;
  return Ok{};
}

Result<ForeignLibrary> MimallocRanges::open() {
  std::lock_guard hold(lock_);
  if (Status ok = open_locked(); !ok) return ok.error();
  return library_.facts();
}

Result<MimallocRange*> MimallocRanges::take(std::size_t limit_bytes) {
  std::lock_guard hold(lock_);
  if (Status ok = open_locked(); !ok) return ok.error();
  const std::size_t in_arenas =
      (std::max(limit_bytes, kLeastBytes) + kSegmentBytes - 1) / kSegmentBytes * kSegmentBytes;
  const std::size_t in_runs = library_.most_block_bytes() == SIZE_MAX ? 0 : in_arenas;
  const std::size_t bytes = in_arenas + in_runs;
  for (MimallocRange& range : ranges_)
    if (!range.taken && range.bytes == bytes) {
      range.taken = true;
      return &range;
    }
  Result<void*> memory = os::reserve(bytes, 0, kSegmentBytes);
  if (!memory) return memory.error();
  const auto base = reinterpret_cast<std::uintptr_t>(*memory);
  std::vector<MimallocLibrary::Arena> arenas;
  for (std::size_t done = 0; done < in_arenas;) {
    const std::size_t part = std::min(in_arenas - done, library_.most_arena_bytes());
    MimallocLibrary::Arena arena = 0;
    if (!library_.manage(reinterpret_cast<void*>(base + done), part, arena)) {
      if (done == 0) os::release(*memory, bytes);  // else the library keeps what it has been given
      return Error{
          fmt::format("allocator=mimalloc: version {} takes no further arena of {} MiB; the process has {} ranges "
                      "in use or kept, and {} MiB of this one are arenas",
                      library_.facts().version, part >> 20, ranges_.size(), done >> 20),
          0};
    }
    arenas.push_back(arena);
    done += part;
  }
  MimallocRange& range = ranges_.emplace_back();
  range.base = base;
  range.bytes = bytes;
  range.arenas = std::move(arenas);
  range.own.begin(base + in_arenas, in_runs);
  range.taken = true;
  return &range;
}

void MimallocRanges::give(MimallocRange& range) {
  std::lock_guard hold(lock_);
  range.taken = false;
}

}  // namespace gearbox::allocators
