// Whether a sanitizer watches: tests take smaller sizes then, since everything is ten times slower and TSan has room for
// some thousand fibers.
#pragma once

namespace gearbox::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// What a sanitizer says of a bad address, as a part of a regular expression: also the one for undefined behaviour, which
// sees a misaligned pointer before it is used.
#define GEARBOX_SANITIZERS_WORDS "AddressSanitizer|ThreadSanitizer: SEGV|runtime error: .* address"

}  // namespace gearbox::testing
