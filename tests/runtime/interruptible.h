// What tests of interrupted goroutines share.
#pragma once

#include <gtest/gtest.h>

#include "runtime/api.h"

#if defined(__SANITIZE_THREAD__)
// TSan delays asynchronous signals until the thread calls into it: a loop that calls nothing is never interrupted.
#define NEEDS_SIGNALS() GTEST_SKIP() << "TSan delays asynchronous signals"
#else
#define NEEDS_SIGNALS() static_cast<void>(0)
#endif

namespace gearbox::testing {

struct Link {
  Ref<Link> next;
  std::uint64_t value = 0;
  Link(Link* n, std::uint64_t v) : next(n), value(v) {}
  GEARBOX_REFS(Link, next)
};

}  // namespace gearbox::testing
