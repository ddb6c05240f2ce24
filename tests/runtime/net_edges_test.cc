// net at its edges: connections that would be connected to themselves, values that nobody means, handles of nothing,
// deadlines that are moved while they pass.
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <limits>

#include "interfaces/mutant.h"
#include "runtime/api.h"
#include "runtime/net.h"
#include "tests/pollers/poller_harness.h"

namespace gearbox {
namespace {

class NetEdges : public ::testing::TestWithParam<const char*> {
 protected:
  static void run(std::function<void()> main, std::uint64_t procs = 2) {
    testing::run_on({GetParam(), {}}, std::move(main), procs);
  }
};
INSTANTIATE_TEST_SUITE_P(Pollers, NetEdges, ::testing::Values("epoll", "io_uring"),
                         [](const auto& info) { return std::string(info.param); });

// ---- connected to itself

constexpr int kFirstPort = 40'000, kPorts = 4;

// A network of this process's own, with so few ephemeral ports that the kernel soon chooses the one that is dialled.
bool enter_narrow_network() {
  if (::unshare(CLONE_NEWNET) != 0) return false;
  const int any = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq loopback{};
  ::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP | IFF_RUNNING;
  const bool up = any >= 0 && ::ioctl(any, SIOCSIFFLAGS, &loopback) == 0;
  ::close(any);
  const int range = ::open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);
  const std::string text = fmt::format("{} {}", kFirstPort, kFirstPort + kPorts - 1);
  const bool narrow = range >= 0 && ::write(range, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(range);
  return up && narrow;
}

// Whether the kernel does that here at all, by bare system calls; leaves nothing behind.
bool kernel_connects_to_itself() {
  for (int i = 0; i < 1000; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(kFirstPort + i % kPorts));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool connected = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    const linger reset{1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    ::close(fd);
    if (connected) return true;
  }
  return false;
}

constexpr int kConnectedToItself = 3, kNoSuchNetwork = 77;

TEST_P(NetEdges, DialNeverConnectsASocketToItself) {
  const auto try_all = [] {
    if (!enter_narrow_network() || !kernel_connects_to_itself()) ::_exit(kNoSuchNetwork);
    run([] {
      for (int i = 0; i < 400; ++i) {
        auto conn = net::dial(fmt::format("127.0.0.1:{}", kFirstPort + i % kPorts));
        if (conn) ::_exit(kConnectedToItself);
        const int number = conn.error().error_number;
        if (number != ECONNREFUSED && number != EADDRNOTAVAIL) ::_exit(4);  // all ports are taken by those before
      }
      auto listener = net::listen(fmt::format("127.0.0.1:{}", kFirstPort - 1));  // who is there is reached
      if (!listener) ::_exit(5);
      auto conn = net::dial(listener->address());
      if (!conn && conn.error().error_number != EADDRNOTAVAIL) ::_exit(6);
      ::_exit(0);
    });
  };
  const pid_t child = ::fork();
  if (child == 0) try_all();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNoSuchNetwork)
    GTEST_SKIP() << "needs a network namespace of its own (root) in which Linux connects a socket to itself";
  EXPECT_EQ(WEXITSTATUS(status), 0) << "3: connected to itself";
}

// ---- values

TEST_P(NetEdges, NothingIsReadOrWrittenInGosWords) {
  run([] {
    auto ends = net::pipe();
    ASSERT_TRUE(ends);
    auto& [one, other] = *ends;
    EXPECT_TRUE(one.read({}).ok());  // at once, although there is nothing
    EXPECT_TRUE(one.read_full({}).ok());
    EXPECT_TRUE(one.write("").ok());
    one.set_deadline(1);
    EXPECT_TRUE(one.read({}).ok());  // Go looks at the deadline after the size for a read, before it for a write
    EXPECT_TRUE(one.write("").error.timeout());
    one.set_deadline(0);
    EXPECT_TRUE(one.write("").ok());
    one.close();
    EXPECT_EQ(one.read({}).error.text(), "use of closed network connection");
    EXPECT_EQ(one.write("").error.text(), "use of closed network connection");
    char byte[1];
    EXPECT_TRUE(one.read(byte).error.closed());
    EXPECT_TRUE(one.set_deadline(0).closed());
    EXPECT_TRUE(one.close_write().closed());
    EXPECT_TRUE(one.set_linger_zero().closed());
    other.close();
  });
}

TEST_P(NetEdges, DeadlinesAtTheEndsOfTheirRange) {
  run([] {
    constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min(), kMost = -(kLeast + 1);
    auto listener = net::listen("127.0.0.1:0");
    ASSERT_TRUE(listener);
    for (const std::int64_t past : {kLeast, std::int64_t{-1}, std::int64_t{1}}) {
      auto conn = net::dial_until(listener->address(), past);
      ASSERT_FALSE(conn);
      EXPECT_EQ(conn.error().message, "dial tcp " + listener->address() + ": i/o timeout");
      listener->set_deadline(past);
      EXPECT_EQ(listener->accept().error().error_number, ETIMEDOUT);
    }
    listener->set_deadline(kMost);
    auto client = net::dial_until(listener->address(), kMost);
    ASSERT_TRUE(client) << client.error().message;
    auto server = listener->accept();
    ASSERT_TRUE(server);
    for (const std::int64_t late : {kMost, kMost - 1, now_ns() + 3'000'000'000 * kSecond}) {
      server->set_deadline(late);
      go([client = *client] {
        sleep(kMillisecond);
        client.write("x");
      });
      char byte[1];
      EXPECT_EQ(server->read(byte).bytes, 1u);
    }
    client->close();
    server->close();
    listener->close();
  });
}

TEST_P(NetEdges, AddressesThatAreNone) {
  run([] {
    using namespace std::string_literals;
    for (const std::string& bad :
         {"127.0.0.1:65536"s, "127.0.0.1:-1"s, "127.0.0.1: 80"s, "127.0.0.1:99999999999999999999"s, "127.0.0.1:8o"s,
          "127.0.0.1\0evil:80"s, "127.0.0.1:80\0"s, "1.2.3:80"s, "[::1:80"s, "::1]:80"s, ":"s}) {
      auto listener = net::listen(bad);
      auto conn = net::dial(bad);
      ASSERT_FALSE(listener) << bad;
      ASSERT_FALSE(conn) << bad;
      EXPECT_EQ(conn.error().error_number, EINVAL);
      EXPECT_NE(conn.error().message.find("127.0.0.1:6380"), std::string::npos)
          << "no example in: " << conn.error().message;
    }
    EXPECT_FALSE(net::adopt(-1));
    EXPECT_FALSE(net::adopt(std::numeric_limits<int>::max()));
  });
}

// In Go too a connection that is none answers, and does not crash.
TEST_P(NetEdges, HandlesOfNothingSayInvalidArgument) {
  run([] {
    net::Conn conn;
    char byte[1];
    EXPECT_EQ(conn.read(byte).error.text(), "invalid argument");
    EXPECT_EQ(conn.read_full(byte).error.text(), "invalid argument");
    EXPECT_EQ(conn.write("x").error.number(), EINVAL);
    for (const net::Failure& failure : {conn.close(), conn.close_write(), conn.set_linger_zero(), conn.set_deadline(1),
                                        conn.set_read_deadline(1), conn.set_write_deadline(1)})
      EXPECT_EQ(failure.number(), EINVAL);
    EXPECT_EQ(conn.local_address() + conn.remote_address(), "");
    const net::Listener listener;
    EXPECT_EQ(listener.accept().error().message, "accept tcp: invalid argument");
    EXPECT_EQ(listener.close().number(), EINVAL);
    EXPECT_EQ(listener.set_deadline(1).number(), EINVAL);
    EXPECT_EQ(listener.address(), "");
  });
}

// ---- deadlines that are moved while they pass

// Each round arms a deadline that is about to pass, moves it to never at that very moment, and begins a read, for which
// there will be something. Returns how many of these reads were told of a deadline that they never had.
int reads_ended_by_a_former_deadline(int rounds) {
  auto ends = net::pipe();
  auto& [reader, writer] = *ends;
  int ended = 0;
  Chan<bool> wanted = make_chan<bool>(1);
  WaitGroup done;
  done.add(1);
  go([&, writer = writer] {
    for (bool each : wanted) {
      (void)each;
      sleep(50'000);  // the reader has parked by then, or is about to
      writer.write("x");
    }
    done.done();
  });
  for (int i = 0; i < rounds; ++i) {
    const std::int64_t when = now_ns() + 20'000;
    reader.set_read_deadline(when);
    while (now_ns() < when + i % 64 * 500 - 4'000) {  // from before it is due to after
    }
    reader.set_read_deadline(0);
    wanted.send(true);
    char byte[1];
    net::Transfer got = reader.read(byte);
    if (got.error.timeout()) ++ended;
    reader.set_read_deadline(0);  // so that the byte does not stay there for the next round
    if (!got.ok()) reader.read(byte);
  }
  wanted.close();
  done.wait();
  reader.close();
  writer.close();
  return ended;
}

TEST_P(NetEdges, ADeadlineThatWasMovedEndsNothing) {
  run([] { EXPECT_EQ(reads_ended_by_a_former_deadline(3000), 0); }, 3);
}

#if defined(GEARBOX_CHECKED)
TEST_P(NetEdges, AFiringThatForgetsItsGenerationIsNoticed) {
  int ended = 0;
  planted_mutant.store(Mutant::kStaleDeadline);
  run(
      [&] {
        for (int tries = 0; tries < 20 && ended == 0; ++tries) ended = reads_ended_by_a_former_deadline(500);
      },
      3);
  planted_mutant.store(Mutant::kNone);
  EXPECT_GT(ended, 0);
}
#endif

}  // namespace
}  // namespace gearbox
