// A program that hangs says where: SIGQUIT, and a stop of the world that some goroutine does not let happen.
#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "base/sanitize.h"
#include "tests/runtime/child.h"

namespace gearbox::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;

#if !defined(__SANITIZE_THREAD__)  // which holds SIGQUIT back while the thread that gets it waits in the kernel

std::atomic<int> looping{0};
std::atomic<bool> go_on{true};

// No safepoint: nothing of the runtime is called.
[[gnu::noinline]] void loops_for_ever() {
  ++looping;
  while (go_on.load(std::memory_order_relaxed)) {
  }
}
[[gnu::noinline]] void waits_for_ever() { make_chan<int>().recv(); }

// From a thread beside the runtime: as the user's terminal does.
void quit_when(std::function<bool()> condition) {
  std::thread([condition = std::move(condition)] {
    while (!condition()) ::usleep(1000);
    ::usleep(20'000);
    ::kill(::getpid(), SIGQUIT);
  }).detach();
}

const auto kAllGoroutines = AllOf(ContainsRegex("^SIGQUIT: quit\nPC=0x[0-9a-f]+ m=-?[0-9]+ sigcode=0\n\n"),
                                  ContainsRegex("goroutine [0-9]+ \\[chan receive\\]:\n"),
                                  ContainsRegex("waits_for_ever\\(\\)\n\t[^\n]*tests/runtime/hang_test\\.cc:"));
// Frames above it: what it calls; or the handler of a request to be preempted, when SIGQUIT comes in the middle of that.
// Under a sanitizer the unwinder is not used (frames.cc), and frame pointers end where the handler's own stack does.
#if GEARBOX_ASAN || GEARBOX_TSAN
constexpr const char* kOrInTheHandler = "|goroutine [0-9]+ \\[running\\]:\ngearbox::preempt::[^\n]*on_request";
#else
constexpr const char* kOrInTheHandler = "";
#endif
const auto kLoops =
    ContainsRegex(std::string("goroutine [0-9]+ \\[running\\]:\n([^\n]+\n\t[^\n]*\n)*[^\n]*loops_for_ever\\(\\)\n"
                              "\t[^\n]*tests/runtime/hang_test\\.cc:") +
                  kOrInTheHandler);

TEST(QuitDeathTest, EveryPIsBusyInALoop) {
  for (const bool sysmon : {true, false}) {
    Program setup = Program{}.procs(2);
    setup.options.sysmon = sysmon;
    EXPECT_EXIT(in_child(setup,
                         [] {
                           go(waits_for_ever);
                           gearbox::sleep(5 * kMillisecond);
                           go(loops_for_ever);
                           quit_when([] { return looping.load() == 2; });
                           loops_for_ever();
                         }),
                ExitedWithCode(2), AllOf(kAllGoroutines, kLoops));
  }
}

TEST(QuitDeathTest, EverythingIsParked) {
  for (const char* poller : {"null", "epoll"}) {
    Program setup = Program{}.procs(2);
    setup.poller = poller;
    EXPECT_EXIT(in_child(setup,
                         [] {
                           go(waits_for_ever);
                           quit_when([] { return true; });
                           gearbox::sleep(100 * kSecond);
                         }),
                ExitedWithCode(2), AllOf(kAllGoroutines, ContainsRegex("goroutine [0-9]+ \\[sleep\\]:\n")));
  }
}

TEST(QuitDeathTest, TheWorldIsStopped) {
  EXPECT_EXIT(in_child(Program{}.procs(2),
                       [] {
                         go(waits_for_ever);
                         gearbox::sleep(5 * kMillisecond);
                         current_runtime().stop_the_world("a test");
                         quit_when([] { return looping.load() == 1; });
                         loops_for_ever();
                       }),
              ExitedWithCode(2), AllOf(kAllGoroutines, kLoops));
}

TEST(QuitDeathTest, OneThatComputesInsideABlockingCall) {
  EXPECT_EXIT(in_child(Program{}.procs(2),
                       [] {
                         go(waits_for_ever);
                         quit_when([] { return looping.load() == 1; });
                         blocking(loops_for_ever);
                       }),
              ExitedWithCode(2),
              AllOf(kAllGoroutines, ContainsRegex("goroutine [0-9]+ \\[syscall\\]:\n"), HasSubstr("loops_for_ever()")));
}

TEST(SlowStopDeathTest, TheGoroutineThatDoesNotStopIsNamedWithItsTrace) {
  EXPECT_EXIT(in_child(Program{}.procs(2),
                       [] {
                         go([] {
                           // Whatever signal would stop it: one that does not get through.
                           lock_os_thread();
                           sigset_t stops;
                           sigemptyset(&stops);
                           sigaddset(&stops, SIGURG);
                           ::pthread_sigmask(SIG_BLOCK, &stops, nullptr);
                           loops_for_ever();
                           GEARBOX_SAFEPOINT();
                         });
                         while (looping.load() == 0) gosched();
                         std::thread([] {
                           ::usleep(2'500'000);
                           go_on = false;
                         }).detach();
                         current_runtime().stop_the_world("a test");
                         current_runtime().start_the_world();
                         ::usleep(10'000);
                       }),
              ExitedWithCode(0),
              AllOf(ContainsRegex("goroutine [0-9]+ has not stopped for 1 s, and all others wait for it"), kLoops));
}

#endif

}  // namespace
}  // namespace gearbox::testing
