#include "allocators/mimalloc/library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <type_traits>

#include "base/os/memory.h"

namespace gearbox::allocators {
namespace {

// The newest first. Distributions ship one of them; the last is a link that some have.
constexpr std::array kFileNames = {"libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so"};
constexpr const char* kSupported = "versions 2.0 to 3.x are supported";
// Memory goes back at a collection that is forced, and not by a clock: this is far away, and its product with the
// library's own multiplier fits.
constexpr long kNoPurgeByClock_ms = 1'000'000'000;

// mi_option_t, by number. The numbers have held since 2.0 except where a version is named.
enum OptionNumber : int {
  kShowErrors = 0,
  kPageReset = 11,   // 2.0 only: later versions read it nowhere
  kPurgeDelay = 15,  // 2.1 on; decommit_delay before
  kMaxWarnings = 20,
  kAllowDecommit = 22,  // 2.0 only: destroy_on_exit later
};

std::string file_of(void* symbol, const char* name) {
  Dl_info info{};
  return ::dladdr(symbol, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : name;
}

}  // namespace

MimallocVersion MimallocVersion::from_reported(int reported) noexcept {
  if (reported < 100 || reported > 999'999) return {};
  if (reported < 1000) return {reported / 100, reported / 10 % 10, reported % 10};
  if (reported < 10'000) return {reported / 1000, reported / 100 % 10, reported % 100};
  return {reported / 10'000, reported / 100 % 100, reported % 100};
}

std::string MimallocVersion::text() const { return fmt::format("{}.{}.{}", major, minor, patch); }

Status MimallocLibrary::open() {
  // Early 3.x switches huge pages off for the whole process when it is loaded, for the gears that are not the library's as well.
  const bool huge_pages_were_off = os::huge_pages_off();
  void* handle = nullptr;
  const char* name = nullptr;
  std::string last_error;
  for (std::size_t i = 0; i < kFileNames.size() && handle == nullptr; ++i) {
    name = kFileNames[i];
    handle = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) last_error = ::dlerror();
  }
  os::set_huge_pages_off(huge_pages_were_off);
  if (handle == nullptr)
    return Error{
        fmt::format(
            "allocator=mimalloc needs the library mimalloc, and there is no {} ({}); {} (Debian 12: libmimalloc2.0, "
            "Debian 13: libmimalloc3)",
            fmt::join(kFileNames, ", "), last_error, kSupported),
        0};
  const char* missing = nullptr;
  auto find = [&](auto& function, const char* symbol_name) {
    void* symbol = ::dlsym(handle, symbol_name);
    if (symbol == nullptr && missing == nullptr) missing = symbol_name;
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
  };
  int (*version)() = nullptr;
  find(version, "mi_version");
  if (missing != nullptr)
    return Error{
        fmt::format("allocator=mimalloc: {} has no mi_version, so its version is not known; {}", name, kSupported), 0};
  file_ = file_of(reinterpret_cast<void*>(version), name);
  const int reported = version();
  version_ = MimallocVersion::from_reported(reported);
  if (version_.major == 0)
    return Error{
        fmt::format("allocator=mimalloc: {} reports the version {}, which is none; {}", file_, reported, kSupported),
        0};
  if (!version_.supported())
    return Error{fmt::format("allocator=mimalloc: {} is version {}; {}", file_, version_.text(), kSupported), 0};
  find(manage_, "mi_manage_os_memory_ex");
  find(new_heap_, "mi_heap_new_in_arena");
  find(heap_zalloc, "mi_heap_zalloc");
  find(heap_malloc, "mi_heap_malloc");
  find(free, "mi_free");
  find(heap_collect_, "mi_heap_collect");
  find(good_size, "mi_good_size");
  find(option_set_, "mi_option_set");
  if (::dlsym(handle, "mi_theap_collect") != nullptr || ::dlsym(handle, "mi_heap_theap") != nullptr) {
    find(part_collect_, "mi_theap_collect");
    find(part_of_thread_, "mi_heap_theap");
  }
  if (missing != nullptr)
    return Error{fmt::format("allocator=mimalloc: {}, version {}, has no {}; {}, and of 2.0 the releases that can "
                             "confine a heap to an arena",
                             file_, version_.text(), missing, kSupported),
                 0};
  set_options();
  return Ok{};
}

void MimallocLibrary::set_options() const noexcept {
  if (version_.major == 2 && version_.minor == 0) {
    option_set_(kAllowDecommit, 0);
    option_set_(kPageReset, 0);
  } else {
    option_set_(kPurgeDelay, kNoPurgeByClock_ms);
  }
  option_set_(kShowErrors, 0);  // a full arena is an answer, not a message
  option_set_(kMaxWarnings, 0);
}

bool MimallocLibrary::manage(void* start, std::size_t bytes, Arena& arena) const noexcept {
  constexpr bool kCommitted = false, kPinned = false, kZero = true, kExclusive = true;
  constexpr int kAnyNode = -1;
  if (version_.major == 2) {
    int number = 0;
    auto* manage = reinterpret_cast<bool (*)(void*, std::size_t, bool, bool, bool, int, bool, int*)>(manage_);
    if (!manage(start, bytes, kCommitted, kPinned, kZero, kAnyNode, kExclusive, &number)) return false;
    arena = static_cast<Arena>(number);
    return true;
  }
  void* id = nullptr;
  auto* manage = reinterpret_cast<bool (*)(void*, std::size_t, bool, bool, bool, int, bool, void**)>(manage_);
  if (!manage(start, bytes, kCommitted, kPinned, kZero, kAnyNode, kExclusive, &id)) return false;
  arena = reinterpret_cast<Arena>(id);
  return true;
}

mi_heap_t* MimallocLibrary::new_heap(Arena arena) const noexcept {
  if (version_.major == 2) return reinterpret_cast<mi_heap_t* (*)(int)>(new_heap_)(static_cast<int>(arena));
  return reinterpret_cast<mi_heap_t* (*)(void*)>(new_heap_)(reinterpret_cast<void*>(arena));
}

MimallocHeap MimallocLibrary::new_heap_of_thread(Arena arena) const noexcept {
  MimallocHeap heap{.whole = new_heap(arena)};
  if (heap.whole != nullptr && part_of_thread_ != nullptr) heap.part = part_of_thread_(heap.whole);
  return heap;
}

}  // namespace gearbox::allocators
