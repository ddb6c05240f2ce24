// Stack scans by epoch: groups of slots in which nobody lives are passed over, and a goroutine that is born in one is
// scanned all the same.
#include <algorithm>
#include <cstdlib>

#include "interfaces/mutant.h"
#include "runtime/runtime.h"
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

struct Node {
  std::uint64_t id = 0, seal = 0;
  Ref<Node> next;
  GEARBOX_REFS(Node, next)
  static std::uint64_t seal_of(std::uint64_t id) { return id * 0x9e3779b97f4a7c15ULL ^ 0x5ca1; }
  explicit Node(std::uint64_t n) : id(n), seal(seal_of(n)) {}
};

Node* chain(std::uint64_t length) {
  Node* head = nullptr;
  for (std::uint64_t i = 0; i < length; ++i) {
    Node* n = make<Node>(i);
    n->next = head;
    head = n;
  }
  return head;
}
std::uint64_t intact_length(const Node* n) {
  std::uint64_t length = 0;
  for (; n != nullptr && n->seal == Node::seal_of(n->id); n = n->next) ++length;
  return length;
}

constexpr int kGoroutines = kSanitized ? 100 : 600;

void start_and_end() {
  WaitGroup group;
  const auto gate = make_chan<int>();
  group.add(kGoroutines);
  for (int i = 0; i < kGoroutines; ++i)
    go([&group, gate] {
      gate.recv_ok();
      group.done();
    });
  gate.close();
  group.wait();
}

// Goroutines that hold objects on their stacks only, born in slots that were dead for several scans; returns how many
// lost theirs.
int live_again() {
  start_and_end();
  for (int i = 0; i < 4; ++i) gc();
  std::atomic<int> lost{0};
  WaitGroup ready, done;
  const auto gate = make_chan<int>();
  ready.add(kGoroutines);
  done.add(kGoroutines);
  for (int i = 0; i < kGoroutines; ++i)
    go([&, gate] {
      Node* mine = chain(20);
      ready.done();
      gate.recv_ok();
      if (intact_length(mine) != 20) lost.fetch_add(1);
      done.done();
    });
  ready.wait();
  for (int i = 0; i < 4; ++i) {
    gc();
    for (int k = 0; k < 2000; ++k) keep_alive(make<Node>(7u));  // would reuse what was lost
  }
  gate.close();
  done.wait();
  return lost;
}

TEST(StackScan, ABirthInADeadGroupIsSeen) {
  for (std::uint64_t procs : {1u, 2u}) {
    run(Program().procs(procs), [] { EXPECT_EQ(live_again(), 0); });
  }
}

TEST(StackScan, DeadGroupsArePassedOver) {
  Program setup = Program().procs(2);
  setup.exactly = true;  // each P has goroutines of the runtime's own, and they are counted below
  run(setup, [] {
    start_and_end();
    const GoroutineTable& table = current_runtime().goroutine_table();
    for (int i = 0; i < 4; ++i) gc();
    std::uint32_t newest = 0, walked = 0;
    for (std::uint32_t slot = 0; slot < table.count(); slot += kSlotsAGroup)
      newest = std::max(newest, table.group_epoch(slot).load());
    for (std::uint32_t slot = 0; slot < table.count(); slot += kSlotsAGroup)
      walked += newest - table.group_epoch(slot).load() <= 1 ? 1 : 0;
    EXPECT_GE(newest, 4u);
    EXPECT_GE(table.count(), static_cast<std::uint32_t>(kGoroutines));
    EXPECT_GE(walked, 1u);  // this goroutine's
    EXPECT_LE(walked, 4u);  // and the runtime's own
  });
}

#if defined(GEARBOX_CHECKED)
TEST(StackScan, ABirthThatDoesNotSaySoIsNoticed) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        planted_mutant.store(Mutant::kNoBirthStamp);
        int lost = 0;
        run(Program().procs(2), [&] { lost = live_again(); });
        if (lost != 0) std::abort();
        std::exit(0);
      },
      "");
}
#endif

}  // namespace
}  // namespace gearbox::testing
