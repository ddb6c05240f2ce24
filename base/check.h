// Checks: three words with one meaning each.
//
// GEARBOX_REQUIRE    the caller broke the contract. Always on; prints the values.
// GEARBOX_INVARIANT  our own promise, tagged as in the file's essay. Debug and `checked` builds; must have no side
//                    effects.
// GEARBOX_PANIC      cannot go on. Never compiled out.
//
// All three end in die(), which writes one message to standard error with write(2), so it works with any lock held and
// on any stack, and then aborts; the runtime's handler of SIGABRT adds the trace. Formatting uses a fixed buffer: a process that is out of memory can still say so.
#pragma once

#include <fmt/format.h>

#include <cstddef>

namespace gearbox {

// Prints "gearbox: <kind>: <file>:<line>: <what>: <message>" and aborts. Any thread, any stack, async-signal-safe as
// far as write(2) is.
[[noreturn, gnu::cold]] void die(const char* kind, const char* file, int line, const char* what,
                                 const char* message) noexcept;

namespace detail {
inline constexpr std::size_t kMessageBytes = 1024;

template <class... Args>
[[noreturn, gnu::cold, gnu::noinline]] void die_formatted(const char* kind, const char* file, int line,
                                                          const char* what, fmt::format_string<Args...> format,
                                                          Args&&... args) noexcept {
  char message[kMessageBytes];
  auto out = fmt::format_to_n(message, sizeof(message) - 1, format, std::forward<Args>(args)...);
  *out.out = '\0';
  die(kind, file, line, what, message);
}
[[noreturn, gnu::cold, gnu::noinline]] inline void die_formatted(const char* kind, const char* file, int line,
                                                                 const char* what) noexcept {
  die(kind, file, line, what, "");
}
}  // namespace detail
}  // namespace gearbox

#define GEARBOX_REQUIRE(condition, ...)                                                                               \
  do {                                                                                                                \
    if (!(condition)) [[unlikely]]                                                                                    \
      ::gearbox::detail::die_formatted("contract broken", __FILE__, __LINE__, #condition __VA_OPT__(, ) __VA_ARGS__); \
  } while (false)

#define GEARBOX_PANIC(...) ::gearbox::detail::die_formatted("panic", __FILE__, __LINE__, "" __VA_OPT__(, ) __VA_ARGS__)

#if defined(GEARBOX_CHECKED)
inline constexpr bool kGearboxChecked = true;
#define GEARBOX_INVARIANT(tag, condition, ...)                                          \
  do {                                                                                  \
    if (!(condition)) [[unlikely]]                                                      \
      ::gearbox::detail::die_formatted("invariant " #tag " broken", __FILE__, __LINE__, \
                                       #condition __VA_OPT__(, ) __VA_ARGS__);          \
  } while (false)
#else
inline constexpr bool kGearboxChecked = false;
#define GEARBOX_INVARIANT(tag, condition, ...) \
  do {                                         \
  } while (false)
#endif
