// GEARBOX_NO_SANITIZE("address", "thread"): the function is not instrumented. Both compilers have it, under names that the other
// one ignores. For code that reads what is another's by design: stacks, roots, words that may be anything.
//
// tell_tsan_published(address), tell_tsan_seen(address): what was written before the first is seen after the second, by an
// order that the thread sanitizer cannot see: through the kernel, or inside a library that it does not watch.
#pragma once

#if defined(__clang__)
#define GEARBOX_NO_SANITIZE(...) [[clang::no_sanitize(__VA_ARGS__)]]
#else
#define GEARBOX_NO_SANITIZE(...) [[gnu::no_sanitize(__VA_ARGS__)]]
#endif

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#endif

namespace gearbox {

inline void tell_tsan_published([[maybe_unused]] void* address) noexcept {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(address);
#endif
}
inline void tell_tsan_seen([[maybe_unused]] void* address) noexcept {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(address);
#endif
}

}  // namespace gearbox
