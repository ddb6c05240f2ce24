// Library: mimalloc as this machine has it, from 2.0 to 3.x, opened when the first instance asks for it.
//
// Idea.      The version is a fact of the machine and not of the build: this file declares the entry points that are
//            used, looks the library up by its file names, asks it for its version, and hides what differs between the
//            versions. So one binary works on every distribution, nothing of the library is needed to build, and each
//            record can say which version its figures are about.
// Versions.  2.x has 32 MiB segments, an arena of any size, and numbers its arenas with an int. 3.x has 64 KiB slices,
//            arenas of at most 16 GiB, and pointers as their names; early 3.x puts no block above 32 MiB into an arena.
//            Options are numbers, and one number has meant two things. Late 3.x (3.4 for one) lets every thread allocate
//            from a heap and has a part of the heap for each; there mi_heap_collect() looks at the caller's part only,
//            and mi_theap_collect() at the part that is named. Whether a library has parts is asked by that symbol.
// Rejected.  mimalloc.h: it binds the build to one version's names, and says nothing about the library that is found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "interfaces/registry.h"

namespace gearbox::allocators {

struct mi_heap_t;   // the library's own
struct mi_theap_t;  // the same: late 3.x's part of a heap that is one thread's

struct MimallocHeap {
  mi_heap_t* whole = nullptr;  // nullptr: there is none
  mi_theap_t* part = nullptr;  // of the thread that made it; nullptr where the version has no parts
};

struct MimallocVersion {
  int major = 0, minor = 0, patch = 0;

  // What mi_version() reports: 209 is 2.0.9, 3012 is 3.0.12, 20401 is 2.4.1. Anything shorter or longer: all zero.
  static MimallocVersion from_reported(int reported) noexcept;
  bool supported() const noexcept { return major == 2 || major == 3; }
  std::string text() const;
};

class MimallocLibrary {
 public:
  using Arena = std::uintptr_t;

  // Opens the library by the first of its file names that exists. COLD; one caller at a time. An Error names the file,
  // the version that was found, and what is supported; another version behind the first is no way out.
  Status open();
  ForeignLibrary facts() const { return {"mimalloc", version_.text(), file_}; }

  // Hands [start, start + bytes) to the library as an arena that only heaps made for it use. False: it takes no more.
  bool manage(void* start, std::size_t bytes, Arena& arena) const noexcept;
  mi_heap_t* new_heap(Arena arena) const noexcept;  // the calling thread's; nullptr: the arena is full

  // With the part of it that is the calling thread's.
  MimallocHeap new_heap_of_thread(Arena arena) const noexcept;
  // Gives free pages back. Any thread, as long as nobody else is inside the library for the thread that made the heap. (A
  // debug build of late 3.x asserts that this thread is the maker; the builds that distributions ship do not, and nothing
  // else in the library depends on it.)
  void collect(const MimallocHeap& heap) const noexcept {
    if (heap.part != nullptr)
      part_collect_(heap.part, true);
    else
      heap_collect_(heap.whole, true);
  }

  std::size_t most_arena_bytes() const noexcept { return version_.major == 2 ? SIZE_MAX : std::size_t{16} << 30; }
  // A larger block may not fit into an arena of this version, however empty the arena is: in 3.0 nothing crosses a
  // boundary of 32 MiB, and sizes are rounded up before that.
  std::size_t most_block_bytes() const noexcept { return version_.major == 2 ? SIZE_MAX : std::size_t{16} << 20; }

  void* (*heap_zalloc)(mi_heap_t*, std::size_t) = nullptr;
  void* (*heap_malloc)(mi_heap_t*, std::size_t) = nullptr;
  void (*free)(void*) = nullptr;
  std::size_t (*good_size)(std::size_t) = nullptr;

 private:
  void set_options() const noexcept;

  MimallocVersion version_;
  std::string file_;
  void* manage_ = nullptr;    // typed by the version, at the call
  void* new_heap_ = nullptr;  // the same
  void (*heap_collect_)(mi_heap_t*, bool force) = nullptr;
  mi_theap_t* (*part_of_thread_)(mi_heap_t*) = nullptr;  // these two: nullptr where heaps have no parts
  void (*part_collect_)(mi_theap_t*, bool force) = nullptr;
  void (*option_set_)(int option, long value) = nullptr;
};

}  // namespace gearbox::allocators
