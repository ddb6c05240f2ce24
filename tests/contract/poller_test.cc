// The contract of interfaces/poller.h, O1 to O11, on every real poller with each option at every level, without the
// runtime: a goroutine is a G that is never run, parked by hand.
#include "interfaces/poller.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <csignal>
#include <mutex>
#include <thread>

#include "base/os/clock.h"
#include "base/os/socket.h"
#include "tests/pollers/poller_contract.h"
#include "tests/pollers/poller_harness.h"
#include "tests/pollers/ready_world.h"

namespace gearbox {
namespace {

using testing::PollerCase;

using testing::ReadyWorld;

using testing::PollerContract;
INSTANTIATE_TEST_SUITE_P(AllPollers, PollerContract, ::testing::ValuesIn(testing::all_cases()),
                         [](const auto& info) { return info.param.name(); });

TEST_P(PollerContract, O1_OneFinalWithTheResultStored) {
  const Stream s = stream();
  for (int round = 0; round < 50; ++round) {
    char buffer[64] = {};
    Op op;
    op.verb = Verb::kRead, op.conn = s.conn, op.buffer = buffer, op.bytes = sizeof(buffer);
    G g;
    const Step step = poller().begin(op, 0);
    ASSERT_EQ(step, Step::kPark);
    ASSERT_EQ(::write(s.peer, "hello", 5), 5);
    EXPECT_EQ(finish(op, step, g), 5);
    EXPECT_EQ(std::string_view(buffer, 5), "hello");
    GList ready;
    poller().poll(0, 0, 16, ready);
    EXPECT_TRUE(ready.empty());
  }
  end(s);
}

TEST_P(PollerContract, O2_MoreOperationsThanTheQueueHoldsAreAllDone) {
  constexpr std::size_t kStreams = 600;
  std::vector<Stream> streams;
  auto ops = std::make_unique<std::array<Op, kStreams>>();
  auto gs = std::make_unique<std::array<G, kStreams>>();
  std::vector<char> bytes(kStreams);
  for (std::size_t i = 0; i < kStreams; ++i) {
    streams.push_back(stream());
    Op& op = (*ops)[i];
    op.verb = Verb::kRead, op.conn = streams[i].conn, op.buffer = &bytes[i], op.bytes = 1;
    ASSERT_EQ(poller().begin(op, 0), Step::kPark);
    ASSERT_TRUE(op.park_as(&(*gs)[i]));
  }
  EXPECT_GE(poller().in_flight(0), kStreams);
  for (std::size_t i = 0; i < kStreams; ++i) ASSERT_EQ(::write(streams[i].peer, "x", 1), 1);
  std::size_t readied = 0;
  while (readied < kStreams) {
    GList ready;
    const PollResult result = poller().poll(0, 10'000'000, 32, ready);
    EXPECT_LE(ready.size(), 32u);
    EXPECT_EQ(ready.size(), result.readied);
    readied += ready.size();
  }
  for (std::size_t i = 0; i < kStreams; ++i) {
    ASSERT_EQ(poller().finish((*ops)[i], 0), Step::kDone);
    EXPECT_EQ((*ops)[i].result, 1);
    end(streams[i]);
  }
  EXPECT_EQ(poller().in_flight(0), 0u);
}

TEST_P(PollerContract, O3_AnEventBetweenBeginAndParkIsNotLost) {
  const Stream s = stream();
  for (int round = 0; round < 20; ++round) {
    char byte = 0;
    Op op;
    op.verb = Verb::kRead, op.conn = s.conn, op.buffer = &byte, op.bytes = 1;
    ASSERT_EQ(poller().begin(op, 0), Step::kPark);
    ASSERT_EQ(::write(s.peer, "x", 1), 1);
    while (op.state.load() != Op::kReady) {
      GList ready;
      poller().poll(0, 1'000'000, 16, ready);
      EXPECT_TRUE(ready.empty());  // nobody has parked: nobody to ready
    }
    G g;
    EXPECT_FALSE(op.park_as(&g));
    EXPECT_EQ(finish(op, poller().finish(op, 0), g), 1);
  }
  end(s);
}

TEST_P(PollerContract, O3_CancelBeforeAndAfterTheParkEndsTheOperation) {
  const Stream s = stream();
  for (const bool parked : {false, true}) {
    for (const bool elsewhere : {false, true}) {
      char byte = 0;
      Op op;
      op.verb = Verb::kRead, op.conn = s.conn, op.buffer = &byte, op.bytes = 1;
      G g;
      ASSERT_EQ(poller().begin(op, 0), Step::kPark);
      if (parked) {
        ASSERT_TRUE(op.park_as(&g));
      }
      G* woken = nullptr;
      const auto cancel = [&] { woken = poller().cancel(op, ETIMEDOUT); };
      if (elsewhere)
        std::thread(cancel).join();
      else
        cancel();
      if (parked && woken == nullptr) wait_for(g);
      Step step = Step::kPark;
      if (!parked)
        while (op.state.load() != Op::kReady) {
          GList ready;
          poller().poll(0, 1'000'000, 16, ready);
        }
      step = poller().finish(op, 0);
      ASSERT_EQ(step, Step::kDone);
      EXPECT_EQ(op.result, -ETIMEDOUT);
    }
  }
  // And the connection is as good as before.
  char byte = 0;
  Op op;
  op.verb = Verb::kRead, op.conn = s.conn, op.buffer = &byte, op.bytes = 1;
  G g;
  ASSERT_EQ(::write(s.peer, "y", 1), 1);
  EXPECT_EQ(finish(op, poller().begin(op, 0), g), 1);
  EXPECT_EQ(byte, 'y');
  end(s);
}

TEST_P(PollerContract, O3_ACancelledOperationThatHasDataKeepsIt) {
  const Stream s = stream();
  for (int round = 0; round < 50; ++round) {
    char byte = 0;
    Op op;
    op.verb = Verb::kRead, op.conn = s.conn, op.buffer = &byte, op.bytes = 1;
    G g;
    const Step step = poller().begin(op, 0);
    ASSERT_EQ(step, Step::kPark);
    std::thread writer([&] { ASSERT_EQ(::write(s.peer, "z", 1), 1); });
    G* woken = poller().cancel(op, ETIMEDOUT);
    EXPECT_EQ(woken, nullptr);
    const std::int64_t result = finish(op, op.state.load() == Op::kReady ? poller().finish(op, 0) : step, g);
    writer.join();
    if (result == 1) continue;
    EXPECT_EQ(result, -ETIMEDOUT);
    Op again;
    again.verb = Verb::kRead, again.conn = s.conn, again.buffer = &byte, again.bytes = 1;
    EXPECT_EQ(finish(again, poller().begin(again, 0), g), 1);  // the byte was not eaten
  }
  end(s);
}

TEST_P(PollerContract, O4_BothDirectionsAreIndependent) {
  const Stream s = stream();
  char byte = 0;
  Op in, out;
  in.verb = Verb::kRead, in.conn = s.conn, in.buffer = &byte, in.bytes = 1;
  std::vector<char> much(4 << 20, 'x');
  out.verb = Verb::kWrite, out.conn = s.conn, out.buffer = much.data(), out.bytes = much.size();
  G reader, writer;
  const Step in_step = poller().begin(in, 0);
  ASSERT_EQ(in_step, Step::kPark);
  ASSERT_EQ(::write(s.peer, "x", 1), 1);
  Step out_step = poller().begin(out, 0);
  std::thread drain([&] {
    os::set_blocking(s.peer, true);
    std::vector<char> sink(1 << 16);
    for (ssize_t left = static_cast<ssize_t>(much.size()); left > 0;) {
      const ssize_t got = ::read(s.peer, sink.data(), sink.size());
      if (got <= 0) break;
      left -= got;
    }
  });
  std::int64_t sent = finish(out, out_step, writer);
  while (sent > 0 && static_cast<std::size_t>(sent) < much.size()) {
    Op rest;
    rest.verb = Verb::kWrite, rest.conn = s.conn, rest.buffer = much.data() + sent,
    rest.bytes = much.size() - static_cast<std::size_t>(sent);
    const std::int64_t more = finish(rest, poller().begin(rest, 0), writer);
    ASSERT_GT(more, 0);
    sent += more;
  }
  EXPECT_EQ(static_cast<std::size_t>(sent), much.size());
  EXPECT_EQ(finish(in, in.state.load() == Op::kReady ? poller().finish(in, 0) : in_step, reader), 1);
  drain.join();
  end(s);
}

TEST_P(PollerContract, O5_TheNumberIsClosedWithTheLastOperation) {
  const Stream s = stream();
  const int fd = s.conn->fd;
  char byte = 0;
  Op op;
  op.verb = Verb::kRead, op.conn = s.conn, op.buffer = &byte, op.bytes = 1;
  G g;
  const Step step = poller().begin(op, 0);
  ASSERT_EQ(step, Step::kPark);
  ASSERT_TRUE(op.park_as(&g));
  poller().close(s.conn, 0);
  EXPECT_GE(::fcntl(fd, F_GETFD), 0) << "closed under an operation in flight";
  wait_for(g);
  ASSERT_EQ(poller().finish(op, 0), Step::kDone);
  EXPECT_EQ(op.result, -ECANCELED);
  EXPECT_LT(::fcntl(fd, F_GETFD), 0) << "left open";
  ::close(s.peer);
}

TEST_P(PollerContract, O5_AReusedNumberIsAnotherConnection) {
  for (int round = 0; round < 30; ++round) {
    const Stream old = stream();
    char byte = 0;
    Op op;
    op.verb = Verb::kRead, op.conn = old.conn, op.buffer = &byte, op.bytes = 1;
    G g;
    ASSERT_EQ(poller().begin(op, 0), Step::kPark);
    ASSERT_TRUE(op.park_as(&g));
    poller().close(old.conn, 0);
    wait_for(g);
    ASSERT_EQ(poller().finish(op, 0), Step::kDone);
    const Stream fresh = stream();
    char mine = 0;
    Op other;
    other.verb = Verb::kRead, other.conn = fresh.conn, other.buffer = &mine, other.bytes = 1;
    ASSERT_EQ(::write(fresh.peer, "n", 1), 1);
    EXPECT_EQ(finish(other, poller().begin(other, 0), g), 1);
    EXPECT_EQ(byte, 0);
    EXPECT_EQ(mine, 'n');
    ::close(old.peer);
    end(fresh);
  }
}

TEST_P(PollerContract, O6_EachThreadHasALaneOfItsOwn) {
  if (poller().caps().issuer == Issuer::kAny) GTEST_SKIP() << "one lane for all";
  std::vector<std::thread> threads;
  for (std::uint32_t lane = 1; lane <= 3; ++lane)
    threads.emplace_back([&, lane] {
      ASSERT_TRUE(poller().bind(lane));
      const Stream s = stream();
      for (int i = 0; i < 100; ++i) {
        char byte = 0;
        Op op;
        op.verb = Verb::kRead, op.conn = s.conn, op.buffer = &byte, op.bytes = 1;
        G g;
        Step step = poller().begin(op, lane);
        ASSERT_EQ(::write(s.peer, "x", 1), 1);
        while (step == Step::kPark) {
          if (op.park_as(&g))
            for (GList ready; ready.empty();) poller().poll(lane, 1'000'000, 16, ready);
          step = poller().finish(op, lane);
        }
        EXPECT_EQ(op.result, 1);
      }
      poller().close(s.conn, lane);
      ::close(s.peer);
    });
  for (auto& thread : threads) thread.join();
}

TEST_P(PollerContract, O7_ASignalIsAWake) {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ::sigaction(SIGUSR1, &action, nullptr);
  const pthread_t me = pthread_self();
  std::atomic<bool> back{false};
  std::thread interrupter([&] {
    while (!back.load()) {
      pthread_kill(me, SIGUSR1);
      os::sleep_ns(1'000'000);
    }
  });
  GList ready;
  const PollResult result = poller().poll(0, -1, 16, ready);
  back.store(true);
  interrupter.join();
  EXPECT_TRUE(result.woken);
  EXPECT_TRUE(ready.empty());
}

TEST_P(PollerContract, O8_WakeBeforeDuringAndAfterAWait) {
  GList ready;
  poller().wake(0);
  poller().wake(0);
  poller().poll(0, -1, 16, ready);  // returns: the wake came before
  for (int i = 0; i < 200; ++i) {
    std::atomic<bool> woken{false};
    std::thread waker([&] {
      if (i % 3 == 0) os::sleep_ns(200'000);
      woken.store(true);
      poller().wake(0);
    });
    while (!woken.load()) poller().poll(0, -1, 16, ready);
    waker.join();
  }
  // After: what is left over is at most one wake, and then the poller sleeps again. A poll that says "woken" may have been
  // interrupted (O7): the kernel does that for its own purposes, such as the end of a ring of an earlier test.
  poller().poll(0, 0, 16, ready);
  constexpr int kMostPolls = 50;
  int polls = 0;
  std::int64_t began;
  do {
    ASSERT_LT(polls++, kMostPolls) << "it does not sleep any more";
    began = os::monotonic_ns();
  } while (poller().poll(0, 2'000'000, 16, ready).woken);
  EXPECT_GE(os::monotonic_ns() - began, 2'000'000);
}

TEST_P(PollerContract, O8_WakesCoalesce) {
  GList ready;
  std::vector<std::thread> wakers;
  for (int i = 0; i < 4; ++i)
    wakers.emplace_back([&] {
      for (int n = 0; n < 1000; ++n) poller().wake(0);
    });
  for (auto& waker : wakers) waker.join();
  // By its own count: a poll that says "woken" may have been interrupted (O7).
  EXPECT_TRUE(poller().poll(0, -1, 16, ready).woken);
  struct Wakes final : CounterVisitor {
    void counter(std::string_view name, std::uint64_t value, std::string_view) override {
      if (name == "wakes") sent = value;
    }
    std::uint64_t sent = 0;
  } wakes;
  poller().counters(wakes);
  EXPECT_EQ(wakes.sent, 1u);
}

TEST_P(PollerContract, O9_ABudgetIsKept) {
  constexpr std::size_t kStreams = 10;
  std::array<Stream, kStreams> streams;
  std::array<Op, kStreams> ops;
  std::array<G, kStreams> gs;
  std::array<char, kStreams> bytes{};
  for (std::size_t i = 0; i < kStreams; ++i) {
    streams[i] = stream();
    ops[i].verb = Verb::kRead, ops[i].conn = streams[i].conn, ops[i].buffer = &bytes[i], ops[i].bytes = 1;
    ASSERT_EQ(poller().begin(ops[i], 0), Step::kPark);
    ASSERT_TRUE(ops[i].park_as(&gs[i]));
  }
  for (const Stream& s : streams) ASSERT_EQ(::write(s.peer, "x", 1), 1);
  std::size_t readied = 0;
  while (readied < kStreams) {
    GList ready;
    const PollResult result = poller().poll(0, 10'000'000, 1, ready);
    ASSERT_LE(ready.size(), 1u);
    readied += result.readied;
  }
  for (std::size_t i = 0; i < kStreams; ++i) {
    ASSERT_EQ(poller().finish(ops[i], 0), Step::kDone);
    end(streams[i]);
  }
}

TEST_P(PollerContract, O9_OneEventForBothDirectionsKeepsABudgetOfOne) {
  const Stream s = stream();
  char byte = 0;
  std::vector<char> much(8 << 20);
  Op in, out;
  in.verb = Verb::kRead, in.conn = s.conn, in.buffer = &byte, in.bytes = 1;
  G reader, writer;
  // Fill the way out until a write waits.
  Step out_step = Step::kDone;
  while (out_step == Step::kDone) {
    new (&out) Op;
    out.verb = Verb::kWrite, out.conn = s.conn, out.buffer = much.data(), out.bytes = much.size();
    out_step = poller().begin(out, 0);
  }
  ASSERT_EQ(poller().begin(in, 0), Step::kPark);
  ASSERT_TRUE(in.park_as(&reader));
  ASSERT_TRUE(out.park_as(&writer));
  ::close(s.peer);  // ends both
  int readied = 0;
  while (readied < 2) {
    GList ready;
    poller().poll(0, 10'000'000, 1, ready);
    ASSERT_LE(ready.size(), 1u);
    readied += static_cast<int>(ready.size());
  }
  EXPECT_EQ(poller().finish(in, 0), Step::kDone);
  EXPECT_EQ(poller().finish(out, 0), Step::kDone);
  poller().close(s.conn, 0);
}

TEST_P(PollerContract, O11_ATimeoutIsNeverEarly) {
  GList ready;
  poller().poll(0, 0, 16, ready);
  for (const std::int64_t timeout : {1LL, 999LL, 100'000LL, 1'500'001LL, 3'999'999LL}) {
    const std::int64_t began = os::monotonic_ns();
    const PollResult result = poller().poll(0, timeout, 16, ready);
    if (!result.woken) {
      EXPECT_GE(os::monotonic_ns() - began, timeout);
    }
  }
}

TEST_P(PollerContract, PipesAndEventfdsWork) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
  auto conn = poller().open(fds[0]);
  ASSERT_TRUE(conn) << conn.error().message;
  char buffer[8];
  Op op;
  op.verb = Verb::kRead, op.conn = *conn, op.buffer = buffer, op.bytes = sizeof(buffer);
  G g;
  const Step step = poller().begin(op, 0);
  ASSERT_EQ(step, Step::kPark);
  ASSERT_EQ(::write(fds[1], "pipe", 4), 4);
  EXPECT_EQ(finish(op, step, g), 4);
  poller().close(*conn, 0);
  ::close(fds[1]);
}

TEST_P(PollerContract, WhatIsLeftInFlightDiesWithThePoller) {
  const Stream s = stream();
  char byte = 0;
  Op op;
  op.verb = Verb::kRead, op.conn = s.conn, op.buffer = &byte, op.bytes = 1;
  ASSERT_EQ(poller().begin(op, 0), Step::kPark);
  const int fd = s.conn->fd;
  poller_.reset();
  EXPECT_LT(::fcntl(fd, F_GETFD), 0) << "a descriptor is left open";
  ::close(s.peer);
}

TEST(PollerContractTest, Epoll_AFileCannotBePolled) {
  ReadyWorld world;
  const PollerEntry entry = testing::poller_named("epoll");
  auto poller = entry.make(world, *entry.make_options());
  ASSERT_TRUE(poller);
  const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  auto conn = (*poller)->open(file);
  ASSERT_FALSE(conn);
  EXPECT_EQ(conn.error().error_number, EPERM);
  ::close(file);
}

// A container that forbids io_uring: an error that names the errno, and never another poller.
[[noreturn]] void run_forbidden(unsigned call, int number) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(number)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    ::_exit(20);
  RuntimeOptions options;
  options.heap_mib = 64;
  auto stats = run_program(options, testing::gears_with({"io_uring", {}}), [] { ::_exit(21); });
  if (stats) ::_exit(22);
  fmt::print(stderr, "{}\n", stats.error().message);
  ::_exit(stats.error().error_number == number ? 0 : 23);
}
TEST(PollerContractTest, IoUring_RefusedBySeccompIsAnErrorThatNamesTheErrno) {
  for (const unsigned call : {425u, 426u, 427u})  // io_uring_setup, io_uring_enter, io_uring_register
    for (const int number : {EPERM, ENOSYS, EACCES})
      EXPECT_EXIT(run_forbidden(call, number), ::testing::ExitedWithCode(0), strerrorname_np(number)) << call;
}

}  // namespace
}  // namespace gearbox
