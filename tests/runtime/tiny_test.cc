// Go's rule of the tiny allocator: two objects of up to 8 bytes without references share a 16-byte cell, which lives as
// long as either of them.
#include "tests/runtime/heap_program.h"

namespace gearbox::testing {
namespace {

class TinyProgram : public HeapProgram {};
INSTANTIATE_TEST_SUITE_P(Every, TinyProgram, ::testing::ValuesIn(legal()), HeapProgram::case_name);

TEST_P(TinyProgram, TwoShareACellThatLivesAsLongAsEither) {
  run(setup(1), [] {
    constexpr std::uint64_t kSeal = 0x71a5;
    Root<std::uint64_t> kept[2];
    [&]() __attribute__((noinline)) {
      // Whatever half was left from before is taken by the first.
      for (int pair = 0; pair < 2; ++pair) {
        std::uint64_t* first = make<std::uint64_t>(kSeal);
        std::uint64_t* second = make<std::uint64_t>(kSeal);
        if (reinterpret_cast<std::uintptr_t>(first) % 16 != 0)
          first = std::exchange(second, make<std::uint64_t>(kSeal));
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(second), reinterpret_cast<std::uintptr_t>(first) + 8);
        kept[pair] = pair == 0 ? first : second;
      }
    }
    ();
    scrub_stack();
    for (int round = 0; round < 4; ++round) {
      gc();
      for (int i = 0; i < 2000; ++i) *make<std::uint64_t>(0u) = ~kSeal;  // would be put where the halves are
      for (const auto& half : kept) ASSERT_EQ(*half, kSeal);
    }
  });
}

}  // namespace
}  // namespace gearbox::testing
