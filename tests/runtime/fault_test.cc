// Faults of the program's own code: recoverable panics where that is safe, and a report with the trace where it is not.
// Each that dies does so in a child process.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "tests/runtime/child.h"

namespace gearbox::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;
using ::testing::KilledBySignal;
using ::testing::Not;

template <class A, class B>
auto either(A a, B b) {
  return [=](int status) { return a(status) || b(status); };
}

constexpr char kNil[] = "runtime error: invalid memory address or nil pointer dereference";
constexpr char kDivide[] = "runtime error: integer divide by zero";

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

struct Counted {
  explicit Counted(int& n) : alive(n) { ++alive; }
  ~Counted() { --alive; }
  int& alive;
};
int alive = 0;

// The faulting function has something to destroy, and so has its caller.
[[gnu::noinline]] int reads(const int* place) {
  const Counted here(alive);
  const int value = *place;
  keep_alive(&here);
  return value + 1;
}
[[gnu::noinline]] int divides(int a, int b) {
  const Counted here(alive);
  const int value = a / b;
  keep_alive(&here);
  return value;
}
[[gnu::noinline]] std::uint64_t divides_unsigned(std::uint64_t a, std::uint64_t b) { return a / b; }
[[gnu::noinline]] int leaf(const int* place) { return *place; }  // makes no frame

void expect_recovered(const std::function<void()>& faults, const std::string& message) {
  alive = 0;
  std::string seen = "nothing was raised";
  bool runtime_error = false;
  scope([&](Defer& defer) {
    defer([&] {
      if (const auto p = recover()) {
        seen = p->message;
        runtime_error = p->runtime_error;
      }
    });
    const Counted here(alive);
    faults();
    seen = "it went on";
  });
  if (seen == message && runtime_error && alive == 0) return;
  fmt::print(stderr, "recovered '{}' with {} objects left, wanted '{}'\n", seen, alive, message);
  ::_exit(1);
}

struct Node {
  Ref<Node> left;
  int key = 0;
  GEARBOX_REFS(Node, left)
};

TEST(FaultDeathTest, NilDereferenceIsARecoverablePanic) {
  EXPECT_EXIT(in_child([] {
                volatile int* nothing = nullptr;
                int* const nil = const_cast<int*>(nothing);
                for (int i = 0; i < 200; ++i) {
                  expect_recovered([&] { reads(nil); }, kNil);
                  expect_recovered([&] { leaf(nil); }, kNil);
                  expect_recovered([&] { *nothing = 1; }, kNil);
                  gosched();
                }
                // Through a Ref of a heap object.
                Node* node = make<Node>();
                expect_recovered([&] { reads(&node->left.load()->key); }, kNil);
                // On goroutines of their own, at the same time.
                WaitGroup group;
                group.add(50);
                for (int i = 0; i < 50; ++i)
                  go([&] {
                    scope([&](Defer& defer) {
                      defer([&] {
                        if (!recover().has_value()) ::_exit(3);
                      });
                      leaf(nil);
                    });
                    group.done();
                  });
                group.wait();
                gc();
              }),
              ExitedWithCode(0), "");
}

TEST(FaultDeathTest, IntegerDivisionByZeroIsARecoverablePanic) {
  EXPECT_EXIT(
      in_child([] {
        volatile int zero = 0;
        for (int i = 0; i < 100; ++i) {
          expect_recovered([&] { keep_alive(reinterpret_cast<void*>(std::intptr_t{divides(7, zero)})); }, kDivide);
          expect_recovered(
              [&] {
                keep_alive(reinterpret_cast<void*>(divides_unsigned(1ULL << 60, static_cast<std::uint64_t>(zero))));
              },
              kDivide);
        }
      }),
      ExitedWithCode(0), "");
}

// Not a division by zero, though the processor says so.
TEST(FaultDeathTest, TheQuotientThatOverflowsIsNamedSo) {
  EXPECT_EXIT(in_child([] {
                volatile int minus_one = -1;
                expect_recovered(
                    [&] { keep_alive(reinterpret_cast<void*>(std::intptr_t{divides(INT_MIN, minus_one)})); },
                    "runtime error: integer overflow");
              }),
              ExitedWithCode(0), "");
}

TEST(FaultDeathTest, NilDereferenceInABlockingCallIsRecoverable) {
  EXPECT_EXIT(in_child([] {
                volatile int* nothing = nullptr;
                for (int i = 0; i < 20; ++i) expect_recovered([&] { blocking([&] { *nothing = 1; }); }, kNil);
                keep_alive(make<Node>());  // it has its P again
              }),
              ExitedWithCode(0), "");
}

TEST(FaultDeathTest, NobodyRecovers) {
  EXPECT_EXIT(in_child([] { leaf(nullptr); }), ExitedWithCode(2),
              AllOf(ContainsRegex("^panic: runtime error: invalid memory address or nil pointer dereference\n"
                                  "\\[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x[0-9a-f]+\\]\n\n"
                                  "goroutine [0-9]+ \\[running\\]:\n"),
                    ContainsRegex("leaf\\(int const\\*\\)\n\t[^\n]*tests/runtime/fault_test\\.cc:")));
  EXPECT_EXIT(in_child([] {
                volatile int zero = 0;
                divides(1, zero);
              }),
              ExitedWithCode(2),
              AllOf(ContainsRegex("^panic: runtime error: integer divide by zero\n\ngoroutine [0-9]+ \\[running\\]:\n"),
                    ContainsRegex("divides\\(int, int\\)\n\t[^\n]*tests/runtime/fault_test\\.cc:")));
}

void recovers_nothing(const std::function<void()>& faults) {
  scope([&](Defer& defer) {
    defer([] {
      recover();
      fmt::print(stderr, "a deferred function ran\n");
    });
    faults();
  });
}

// Where the fault is not in the program's own code something may be half done, or locked.
TEST(FaultDeathTest, FaultsOfTheRuntimeAndOfLibrariesAreFatal) {
  const auto words = [](const char* message) {
    return AllOf(HasSubstr(std::string("fatal error: unexpected signal during runtime execution: ") + message),
                 HasSubstr("[signal SIG"), ContainsRegex("goroutine [0-9]+ \\[running\\]:\n"),
                 Not(HasSubstr("a deferred function ran")));
  };
  EXPECT_EXIT(in_child([] {
                recovers_nothing([] {
                  const Inside inside;
                  current_runtime().ready(nullptr);
                });
              }),
              ExitedWithCode(2), words("invalid memory address or nil pointer dereference"));
  EXPECT_EXIT(in_child([] {
                recovers_nothing([] {
                  volatile std::size_t n = 10;
                  std::memset(reinterpret_cast<void*>(n), 1, n + 100);
                });
              }),
              ExitedWithCode(2), words("invalid memory address or nil pointer dereference"));
  EXPECT_EXIT(in_child([] { recovers_nothing([] { ::raise(SIGSEGV); }); }), ExitedWithCode(2),
              AllOf(HasSubstr("[signal SIGSEGV: segmentation violation code="), Not(HasSubstr("a deferred function"))));
  EXPECT_EXIT(
      in_child([] { recovers_nothing([] { ::raise(SIGFPE); }); }), ExitedWithCode(2),
      AllOf(HasSubstr("[signal SIGFPE: floating-point exception code="), Not(HasSubstr("a deferred function"))));
  EXPECT_EXIT(
      in_child([] {
        recovers_nothing([] {
          volatile std::uintptr_t where = 64;
          auto* f = reinterpret_cast<void (*)()>(where);
          f();
        });
      }),
      ExitedWithCode(2),
      AllOf(words("invalid memory address or nil pointer dereference"), HasSubstr("tests/runtime/fault_test.cc")));
}

TEST(FaultDeathTest, OtherSignalsHaveTraceAndBufferedOutput) {
  EXPECT_EXIT(in_child([] {
                std::printf("buffered\n");
                __builtin_trap();
              }),
              ExitedWithCode(2),
              AllOf(HasSubstr("SIGILL: illegal instruction\nPC=0x"), ContainsRegex("goroutine [0-9]+ \\[running\\]:\n"),
                    HasSubstr("tests/runtime/fault_test.cc:"), HasSubstr("\nbuffered\n")));
  EXPECT_EXIT(in_child([] {
                std::printf("buffered\n");
                std::abort();
              }),
              KilledBySignal(SIGABRT),
              AllOf(HasSubstr("SIGABRT: abort\nPC=0x"), ContainsRegex("goroutine [0-9]+ \\[running\\]:\n"),
                    HasSubstr("tests/runtime/fault_test.cc:"), HasSubstr("\nbuffered\n")));
  EXPECT_EXIT(
      in_child([] {
        std::printf("buffered\n");
        GEARBOX_PANIC("a promise of {}", "ours");
      }),
      KilledBySignal(SIGABRT),
      AllOf(HasSubstr("a promise of ours"), HasSubstr("tests/runtime/fault_test.cc:"), HasSubstr("\nbuffered\n")));
}

TEST(FaultDeathTest, AThreadThatIsNoGoroutineIsReportedToo) {
  EXPECT_EXIT(in_child([] {
                std::printf("buffered\n");
                std::thread([] { leaf(nullptr); }).join();
              }),
              KilledBySignal(SIGSEGV),
              AllOf(HasSubstr("[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x"),
                    ContainsRegex("leaf\\(int const\\*\\)\n\t[^\n]*tests/runtime/fault_test\\.cc:"),
                    HasSubstr("\nbuffered\n")));
}

#endif

// ---- std::terminate

constexpr int kNoexceptLine = __LINE__ + 2;
[[gnu::noinline]] void promises_not_to_throw(int n) noexcept {
  if (n != 0) panic("out of a noexcept function");
}
struct PanicsAtItsEnd {
  ~PanicsAtItsEnd() { panic("out of a destructor"); }
};
[[gnu::noinline]] void throws(const char* message) { throw std::runtime_error(message); }
[[gnu::noinline]] void throws_from_afar() { throw std::runtime_error("from afar"); }

TEST(TerminateDeathTest, APanicInANoexceptFunctionKeepsMessageTraceAndOutput) {
  EXPECT_EXIT(
      in_child([] {
        std::printf("buffered\n");
        scope([](Defer& defer) {
          defer([] { recover(); });
          promises_not_to_throw(1);
        });
      }),
      ExitedWithCode(2),
      AllOf(HasSubstr("panic: out of a noexcept function\n"), HasSubstr("panic in a noexcept function or destructor"),
            ContainsRegex("goroutine [0-9]+ \\[running\\]:\n"),
            ContainsRegex("promises_not_to_throw\\(int\\)\n\t[^\n]*fault_test\\.cc:" + std::to_string(kNoexceptLine) +
                          " "),
            HasSubstr("\nbuffered\n")));
  EXPECT_EXIT(
      in_child([] { const PanicsAtItsEnd object; }), ExitedWithCode(2),
      AllOf(HasSubstr("panic: out of a destructor\n"), HasSubstr("panic in a noexcept function or destructor")));
}

TEST(TerminateDeathTest, ForeignExceptionsGoexitAndPlainTerminateAreNamed) {
  EXPECT_EXIT(in_child([] { []() noexcept { throws_from_afar(); }(); }), ExitedWithCode(2),
              HasSubstr("fatal error: a C++ exception in a noexcept function or destructor: from afar\n"));
  EXPECT_EXIT(in_child([] { []() noexcept { goexit(); }(); }), ExitedWithCode(2),
              HasSubstr("fatal error: goexit() in a noexcept function or destructor\n"));
  EXPECT_EXIT(in_child([] { std::terminate(); }), ExitedWithCode(2),
              AllOf(HasSubstr("fatal error: std::terminate() was called\n"), HasSubstr("fault_test.cc:")));
  EXPECT_EXIT(in_child([] { std::thread([] { panic("on a thread"); }).join(); }), ExitedWithCode(2),
              HasSubstr("panic: on a thread\n"));
}

// ---- what several say at once, and what one says in several lines

TEST(LastWordsDeathTest, TwoThatDieAtOnceDoNotMixTheirWords) {
  const auto once = [](const char* first, const char* second) {
    return ::testing::Truly([=](const std::string& text) {
      int reports = 0;
      for (const char* word : {first, second})
        for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++reports;
      return reports == 1;
    });
  };
  for (int i = 0; i < 5; ++i) {
    EXPECT_EXIT(in_child([] {
                  static std::atomic<int> ready{0};
                  const auto together = [] {
                    ++ready;
                    while (ready.load() < 2) gosched();
                  };
                  go([=] {
                    together();
                    panic("one of two");
                  });
                  together();
                  panic("two of two");
                }),
                ExitedWithCode(2), once("panic: one of two", "panic: two of two"));
    EXPECT_EXIT(in_child([] {
                  static std::atomic<int> ready{0};
                  const auto together = [] {
                    ++ready;
                    while (ready.load() < 2) gosched();
                  };
                  go([=] {
                    together();
                    GoMutex().unlock();
                  });
                  together();
                  GEARBOX_PANIC("two of two");
                }),
                either(ExitedWithCode(2), KilledBySignal(SIGABRT)), once("fatal error: sync", "two of two"));
  }
}

// main returns while another goroutine reports: the report is finished first, and decides the exit code.
TEST(LastWordsDeathTest, TheEndOfMainWaitsForAReport) {
  for (int i = 0; i < 10; ++i)
    EXPECT_EXIT(in_child([] {
                  static std::atomic<bool> panics{false};
                  go([] {
                    scope([](Defer& defer) {
                      defer([] { panics = true; });
                      panic("last words");
                    });
                  });
                  while (!panics.load()) gosched();
                  gearbox::sleep(kMillisecond / 2);
                }),
                either(ExitedWithCode(2), ExitedWithCode(0)), ::testing::Truly([](const std::string& text) {
                  return text.find("panic: last words") == std::string::npos ||
                         text.find("runtime/panic.cc") != std::string::npos;
                }));
}

TEST(LastWordsDeathTest, LinesOfAMessageAreIndented) {
  static constexpr char kFake[] = "line\n\ngoroutine 7 [running]:\nmain.main()";
  constexpr char kPrinted[] = "line\n\t\n\tgoroutine 7 [running]:\n\tmain.main()\n";
  EXPECT_EXIT(in_child([] { panic(kFake); }), ExitedWithCode(2), HasSubstr(std::string("panic: ") + kPrinted));
  EXPECT_EXIT(in_child([] { runtime_panic(kFake); }), ExitedWithCode(2), HasSubstr(std::string("panic: ") + kPrinted));
  EXPECT_EXIT(in_child([] {
                scope([](Defer& defer) {
                  defer([] { panic("second\nline"); });
                  panic(kFake);
                });
              }),
              ExitedWithCode(2),
              AllOf(HasSubstr(std::string("panic: ") + kPrinted), HasSubstr("\tpanic: second\n\tline\n\n")));
  EXPECT_EXIT(in_child([] { throw std::runtime_error(kFake); }), ExitedWithCode(2),
              HasSubstr(std::string("fatal error: a C++ exception left a goroutine: ") + kPrinted));
  EXPECT_EXIT(in_child([] { []() noexcept { throws(kFake); }(); }), ExitedWithCode(2), HasSubstr(kPrinted));
}

}  // namespace
}  // namespace gearbox::testing
