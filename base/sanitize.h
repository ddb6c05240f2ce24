// GEARBOX_NO_SANITIZE("address", "thread"): the function is not instrumented. Both compilers have it, under names that the other
// one ignores. For code that reads what is another's by design: stacks, roots, words that may be anything.
#pragma once

#if defined(__clang__)
#define GEARBOX_NO_SANITIZE(...) [[clang::no_sanitize(__VA_ARGS__)]]
#else
#define GEARBOX_NO_SANITIZE(...) [[gnu::no_sanitize(__VA_ARGS__)]]
#endif
