// GEARBOX_TEST_PROCS=64: each test that asks for several Ps gets that many instead, so that one run of the suites has more Ps
// than the machine has CPUs, or as many as there can be. Tests about a certain number, or about one P, keep theirs.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "base/check.h"

namespace gearbox::testing {

// 0: nobody asks.
inline std::uint64_t test_procs() {
  const char* text = std::getenv("GEARBOX_TEST_PROCS");
  if (text == nullptr || *text == '\0') return 0;
  char* end = nullptr;
  const std::uint64_t procs = std::strtoull(text, &end, 10);
  GEARBOX_REQUIRE(*end == '\0' && procs >= 2 && procs <= 256, "GEARBOX_TEST_PROCS is '{}'; it is from 2 to 256", text);
  return procs;
}

// most 0: as many as one likes.
inline std::uint64_t several_procs(std::uint64_t asked, std::uint64_t most = 0) {
  const std::uint64_t wanted = test_procs();
  if (wanted == 0 || asked == 1) return asked;
  return most != 0 && most < wanted ? most : wanted;
}

}  // namespace gearbox::testing
