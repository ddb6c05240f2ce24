// What is special about epoll: when a short read may be taken for "nothing is left" (E4 in pollers/epoll.cc).
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>

#include <string>

#include "tests/pollers/poller_contract.h"

namespace gearbox {
namespace {

using testing::PollerContract;

class EpollShortRead : public PollerContract {
 protected:
  // A read, and whether it asked the kernel at once. One that waits is cancelled: it takes what is there, or times out.
  struct Read {
    Step step;
    std::int64_t result;
    bool operator==(const Read&) const = default;
  };
  Read read_now(Conn* conn, char (&buffer)[64]) {
    Op op;
    op.verb = Verb::kRead, op.conn = conn, op.buffer = buffer, op.bytes = sizeof(buffer);
    if (poller().begin(op, 0) == Step::kDone) return {Step::kDone, op.result};
    poller().cancel(op, ETIMEDOUT);
    EXPECT_EQ(poller().finish(op, 0), Step::kDone);
    return {Step::kPark, op.result};
  }
  static Read asked(std::int64_t result) { return {Step::kDone, result}; }
  static Read waited(std::int64_t result) { return {Step::kPark, result}; }
  void take_events() {
    GList ready;
    poller().poll(0, 0, 128, ready);
    EXPECT_TRUE(ready.empty());
  }
  int listen_on(sockaddr_in& address) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof(address);
    EXPECT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), bytes), 0);
    EXPECT_EQ(::listen(listener, 8), 0);
    EXPECT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &bytes), 0);
    return listener;
  }
};
INSTANTIATE_TEST_SUITE_P(Epoll, EpollShortRead, ::testing::Values(testing::PollerCase{"epoll", {}}),
                         [](const auto& info) { return info.param.name(); });

// One edge announces both; the first, shorter than the buffer, says nothing about the second.
TEST_P(EpollShortRead, DatagramsThatWaitTogetherAreAllRead) {
  for (const int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    auto conn = poller().open(ends[0]);
    ASSERT_TRUE(conn);
    ASSERT_EQ(::write(ends[1], "one", 3), 3);
    ASSERT_EQ(::write(ends[1], "three", 5), 5);
    take_events();
    char buffer[64];
    EXPECT_EQ(read_now(*conn, buffer), asked(3));
    EXPECT_EQ(read_now(*conn, buffer), asked(5)) << "the second datagram waits for an edge that came before";
    EXPECT_EQ(read_now(*conn, buffer), waited(-ETIMEDOUT));
    poller().close(*conn, 0);
    ::close(ends[1]);
  }
}

// A read stops in front of an urgent byte, and is short; what follows has been announced already.
TEST_P(EpollShortRead, AnUrgentByteDoesNotHideWhatFollowsIt) {
  sockaddr_in address;
  const int listener = listen_on(address);
  const int peer = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::connect(peer, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  auto conn = poller().open(fd);
  ASSERT_TRUE(conn);
  ASSERT_EQ(::send(peer, "abc", 3, 0), 3);
  ASSERT_EQ(::send(peer, "!", 1, MSG_OOB), 1);
  ASSERT_EQ(::send(peer, "defg", 4, 0), 4);
  take_events();
  char buffer[64];
  EXPECT_EQ(read_now(*conn, buffer), asked(3));
  EXPECT_EQ(read_now(*conn, buffer), asked(4)) << "bytes behind the urgent one wait for an edge that came before";
  poller().close(*conn, 0);
  ::close(peer);
  ::close(listener);
}

// A socket that has not connected yet reports a hang-up. That is not the end of the connection it becomes: its short
// reads are believed. (Seen from outside: with data there, but its edge not yet taken, a reader that believes waits.)
TEST_P(EpollShortRead, AHangUpBeforeTheConnectIsForgotten) {
  sockaddr_in address;
  const int listener = listen_on(address);
  const int fd = os::open_stream_socket(AF_INET);
  auto conn = poller().open(fd);
  ASSERT_TRUE(conn);
  take_events();  // the hang-up
  Op op;
  op.verb = Verb::kConnect, op.conn = *conn, op.buffer = &address, op.bytes = sizeof(address);
  G g;
  ASSERT_EQ(finish(op, poller().begin(op, 0), g), 0);
  const int peer = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  ASSERT_EQ(::write(peer, "abc", 3), 3);
  take_events();
  char buffer[64];
  EXPECT_EQ(read_now(*conn, buffer), asked(3));
  ASSERT_EQ(::write(peer, "abc", 3), 3);
  EXPECT_EQ(read_now(*conn, buffer), waited(3)) << "every read asks the kernel once more";
  // After the peer's end, they are not.
  ASSERT_EQ(::write(peer, "abc", 3), 3);
  ::close(peer);
  take_events();
  EXPECT_EQ(read_now(*conn, buffer), asked(3));
  EXPECT_EQ(read_now(*conn, buffer), asked(0));
  poller().close(*conn, 0);
  ::close(listener);
}

}  // namespace
}  // namespace gearbox
