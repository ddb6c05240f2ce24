// Traces: function, file and line of each frame, of goroutines that run, wait, and die.
#include <gmock/gmock.h>
#include <search.h>

#include <regex>
#include <thread>

#include "base/last_words.h"
#include "runtime/guard.h"
#include "runtime/symbols.h"
#include "tests/runtime/child.h"

namespace gearbox::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;

// "function(...)\n\t<path>trace_test.cc:<line> +0x...\n", as Go prints a frame.
auto frame(const std::string& function, int line) {
  return ContainsRegex(function + "[^\n]*\n\t[^\n]*tests/runtime/trace_test\\.cc:" + std::to_string(line) +
                       " \\+0x[0-9a-f]+\n");
}

constexpr int kRaiseLine = __LINE__ + 3, kDescendLine = kRaiseLine + 4;
// In an anonymous namespace: no dynamic symbol has their names.
[[gnu::noinline]] void raise_here(int depth) {
  if (depth == 0) panic("boom");
}
[[gnu::noinline]] int descend(int depth) {
  if (depth == 0) return 0;
  raise_here(depth - 1);
  return descend(depth - 1) + 1;
}

TEST(TraceDeathTest, APanicNamesFunctionFileAndLineOfEachFrame) {
  EXPECT_EXIT(in_child([] { descend(1); }), ExitedWithCode(2),
              AllOf(frame("raise_here\\(int\\)", kRaiseLine), frame("descend\\(int\\)", kDescendLine),
                    ContainsRegex("goroutine_main\\(\\)\n\t[^\n]*runtime/sched\\.cc:[0-9]+ \\+0x")));
}

constexpr int kInlinedLine = __LINE__ + 2, kCallsInlinedLine = kInlinedLine + 2;
[[gnu::always_inline]] inline void becomes_part_of_its_caller(int depth) {
  if (depth == 1) panic("inlined");
}
[[gnu::noinline]] void calls_inlined(int depth) { becomes_part_of_its_caller(depth); }

TEST(TraceDeathTest, InlinedFramesAreShown) {
  EXPECT_EXIT(
      in_child([] { calls_inlined(1); }), ExitedWithCode(2),
      AllOf(frame("becomes_part_of_its_caller\\(", kInlinedLine), frame("calls_inlined\\(int\\)", kCallsInlinedLine)));
}

TEST(TraceDeathTest, WaitingGoroutinesAreNamedWithTheirCreator) {
  EXPECT_EXIT(
      in_child([] {
        go([] { make_chan<int>().recv(); });
        make_chan<int>().recv();
      }),
      ExitedWithCode(2),
      AllOf(HasSubstr("all goroutines are asleep - deadlock!"), ContainsRegex("goroutine [0-9]+ \\[chan receive\\]:\n"),
            ContainsRegex("trace_test\\.cc:[0-9]+ \\+0x[0-9a-f]+\n"),
            ContainsRegex("\ncreated by [^\n]+ in goroutine "
                          "[0-9]+\n\t[^\n]*tests/runtime/trace_test\\.cc:[0-9]+ \\+0x[0-9a-f]+\n")));
}

constexpr int kFatalLine = __LINE__ + 3;
[[gnu::noinline]] void unlocks_twice() {
  GoMutex m;
  m.unlock();
  keep_alive(&m);
}

TEST(TraceDeathTest, AFatalErrorIsTraced) {
  EXPECT_EXIT(
      in_child([] { unlocks_twice(); }), ExitedWithCode(2),
      AllOf(HasSubstr("fatal error: sync: unlock of unlocked mutex"), frame("unlocks_twice\\(\\)", kFatalLine)));
}

TEST(Trace, StackNamesItsCaller) {
  run(Program{}.procs(2), [] {
    const int line = __LINE__ + 1;
    const std::string text = stack();
    EXPECT_THAT(text, HasSubstr("goroutine "));
    EXPECT_THAT(text, HasSubstr(fmt::format("tests/runtime/trace_test.cc:{} +0x", line)));
  });
}

// No debug information: the module, and the offset in it that a debugger understands.
TEST(Trace, AnAddressWithoutDebugInformationHasModuleAndOffset) {
  static char no_code[4096];
  EXPECT_THAT(describe_trace({no_code + 100}), ContainsRegex("no_code\n\t[^\n]*test_runtime\\+0x[0-9a-f]+\n$"));
  // A shared library, whose debug symbols may be installed. No sanitizer has a function of its own for this one.
  void* const in_library = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(&::tdelete) + 1);
  EXPECT_THAT(
      describe_trace({in_library}),
      ContainsRegex("^_*tdelete\\(\\.\\.\\.\\)\n\t(/[^\n]*libc\\.so[^\n]*\\+0x[0-9a-f]+|[^\n]*\\.c:[0-9]+ \\+0x1)\n$"));
  EXPECT_THAT(describe_trace({reinterpret_cast<void*>(0x1234)}), ContainsRegex("^\\?\n\t0x1234\n$"));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr int kFaultLine = __LINE__ + 1;
[[gnu::noinline]] void writes_to(volatile int* place) { *place = 1; }

TEST(TraceDeathTest, AFaultOutsideTheNilPageIsTracedFromTheFaultingLine) {
  EXPECT_EXIT(in_child([] { writes_to(reinterpret_cast<int*>(0x123456000)); }), ExitedWithCode(2),
              AllOf(HasSubstr("unexpected fault address 0x123456000\nfatal error: fault\n[signal SIGSEGV: segmentation "
                              "violation code=0x1 addr=0x123456000 pc=0x"),
                    frame("writes_to\\(int volatile\\*\\)", kFaultLine)));
}

// The caller of a C library function without frame pointers is the line that the reader needs.
constexpr int kLibraryLine = __LINE__ + 2;
[[gnu::noinline]] std::size_t measures(const char* text) {
  const std::size_t length = std::strlen(text);
  keep_alive(const_cast<char*>(text));
  return length;
}

TEST(TraceDeathTest, AFaultInTheCLibraryNamesItsCaller) {
  EXPECT_EXIT(in_child([] { measures(reinterpret_cast<const char*>(8)); }), ExitedWithCode(2),
              AllOf(HasSubstr("fatal error: unexpected signal during runtime execution: invalid memory address or nil "
                              "pointer dereference\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x8 pc=0x"),
                    ContainsRegex("goroutine [0-9]+ \\[running\\]:\n[^\n]*strlen"),
                    frame("measures\\(char const\\*\\)", kLibraryLine)));
}

TEST(Trace, AFaultWhileATraceIsReadIsSurvived) {
  run(Program{}.procs(2), [] {
    bool began = false;
    const auto dereference = [](void* told) {
      *static_cast<bool*>(told) = true;
      *reinterpret_cast<volatile int*>(24) = 1;
    };
    EXPECT_FALSE(guarded(dereference, &began));
    EXPECT_TRUE(began);
    EXPECT_TRUE(guarded([](void* told) { *static_cast<bool*>(told) = false; }, &began));
    EXPECT_FALSE(began);
  });
}

TEST(TraceDeathTest, AReportThatHangsIsCutOff) {
  EXPECT_EXIT(in_child([] {
                limit_last_words(1);
                for (;;) GEARBOX_SAFEPOINT();
              }),
              ExitedWithCode(2), "the report is cut off here");
}
#endif

}  // namespace
}  // namespace gearbox::testing
