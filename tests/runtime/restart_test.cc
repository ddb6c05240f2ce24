// Restartable sequences (interfaces/restart.h), instruction by instruction.
//
// A signal meets one of their few instructions by chance once in thousands of preemptions. Here a goroutine steps through
// its own code by the processor's trap flag. At each instruction inside a sequence the handler of the trap lets it be
// preempted as SIGURG would; another goroutine takes cells from the same P meanwhile; and the first must go on at the
// sequence's beginning, or it would take a cell that is taken.
#include <csignal>
#include <cstdlib>
#include <set>

#include "interfaces/mutant.h"
#include "interfaces/restart.h"
#include "tests/runtime/child.h"
#include "tests/runtime/interruptible.h"

namespace gearbox::testing {
namespace {

#if !defined(__SANITIZE_THREAD__)  // its sequences are none

constexpr greg_t kTrapFlag = 0x100;
constexpr int kTimesEach = 3;
constexpr std::size_t kMostPlaces = 256;

struct Sequence {
  std::uintptr_t begin, end;
};
std::vector<Sequence> sequences;

// One goroutine steps at a time: the handler is the only writer.
struct {
  std::uintptr_t pc[kMostPlaces];
  int times[kMostPlaces];
  std::size_t places;
  std::uint64_t preempted, went_on_elsewhere;
} seen;

bool is_new_enough(std::uintptr_t pc) {
  std::size_t at = 0;
  while (at < seen.places && seen.pc[at] != pc) ++at;
  if (at == kMostPlaces) return false;
  if (at == seen.places) seen.pc[seen.places++] = pc;
  return seen.times[at]++ < kTimesEach;
}

void on_step(int, siginfo_t*, void* context) {
  auto* registers = static_cast<ucontext_t*>(context);
  greg_t& pc = registers->uc_mcontext.gregs[REG_RIP];
  if (current_inside() != 0) {  // a slow path, which may go on on another thread: no further step until the next object
    registers->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
    return;
  }
  for (const Sequence& each : sequences) {
    if (static_cast<std::uintptr_t>(pc) <= each.begin || static_cast<std::uintptr_t>(pc) >= each.end) continue;
    if (!is_new_enough(static_cast<std::uintptr_t>(pc))) return;
    current_p()->attention.fetch_or(kAttentionPreempt, std::memory_order_acq_rel);
    current_runtime().interrupted(current_machine(), registers);
    ++seen.preempted;
    if (static_cast<std::uintptr_t>(pc) != each.begin) ++seen.went_on_elsewhere;
    return;
  }
}

inline void step_from_here() { asm volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" : : : "memory", "cc"); }
inline void stop_stepping() { asm volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" : : : "memory", "cc"); }

// How many of both goroutines' objects are not what they were made as.
std::uint64_t damaged_by_stepping() {
  restart::visit_all([](std::uintptr_t begin, std::uintptr_t end) { sequences.push_back({begin, end}); });
  struct sigaction action {};
  action.sa_sigaction = on_step;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGTRAP, &action, nullptr);

  constexpr std::uint64_t kObjects = 500, kOf = 1'000'000;
  std::uint64_t damaged = 0;
  Program program;
  program.options.procs = 1;
  program.collector = "none";
  run(program, [&] {
    std::atomic<bool> done{false};
    WaitGroup both;
    both.add(2);
    const auto look = [&](const Link* list, std::uint64_t first) {
      std::set<const Link*> owned;
      std::uint64_t n = 0;
      for (; list != nullptr && n <= kObjects + 1; list = list->next, ++n)
        if (list->value < first || list->value >= first + kOf || !owned.insert(list).second) ++damaged;
      return n;
    };
    go([&] {  // changes the P's windows whenever it is let
      for (std::uint64_t i = 0; !done; ++i) {
        Link* mine = nullptr;
        for (std::uint64_t k = 0; k < 3; ++k) mine = make<Link>(mine, 7 * kOf + k);
        gosched();
        look(mine, 7 * kOf);
      }
      both.done();
    });
    go([&] {
      Link* list = nullptr;
      Link* const spare = make<Link>(nullptr, 0u);
      for (std::uint64_t i = 0; i < kObjects; ++i) {
        step_from_here();
        Link* made = make<Link>(list, i);
        made->next = spare;
        made->next = list;
        stop_stepping();
        list = made;
      }
      if (look(list, 0) != kObjects) ++damaged;
      done = true;
      both.done();
    });
    both.wait();
  });
  return damaged;
}

TEST(RestartableSequences, StartAnewFromEachOfTheirInstructions) {
  EXPECT_EQ(damaged_by_stepping(), 0u);
  EXPECT_EQ(seen.went_on_elsewhere, 0u);
  EXPECT_GE(seen.places, 10u);  // taking a cell alone has more instructions
  EXPECT_GE(seen.preempted, seen.places);
}

#if defined(GEARBOX_CHECKED)
TEST(RestartableSequencesDeathTest, GoingOnInTheMiddleIsNoticed) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto provoke = [] {
    planted_mutant.store(Mutant::kNoRestart);
    std::_Exit(damaged_by_stepping() == 0 ? 0 : 3);
  };
  EXPECT_EXIT(
      provoke(), [](int status) { return !WIFEXITED(status) || WEXITSTATUS(status) != 0; }, "");
}
#endif

#endif

}  // namespace
}  // namespace gearbox::testing
