// Whether a sanitizer watches: tests take smaller sizes then, since everything is ten times slower and TSan has room for
// some thousand fibers.
#pragma once

namespace gearbox::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace gearbox::testing
