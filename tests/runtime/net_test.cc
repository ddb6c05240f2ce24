// net on the full runtime, over every real poller: what a Go programmer expects of package net, and what happens when
// it goes wrong.
#include "runtime/net.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <atomic>
#include <numeric>

#include "base/os/socket.h"
#include "runtime/api.h"
#include "tests/pollers/poller_harness.h"

namespace gearbox {
namespace {

using testing::PollerCase;

class Net : public ::testing::TestWithParam<PollerCase> {
 protected:
  void run(std::function<void()> main, std::uint64_t procs = 2) { testing::run_on(GetParam(), std::move(main), procs); }
};
INSTANTIATE_TEST_SUITE_P(AllPollers, Net, ::testing::ValuesIn(testing::all_cases()),
                         [](const auto& info) { return info.param.name(); });

struct Ends {
  net::Conn client, server;
};
Ends connect() {
  auto listener = net::listen("127.0.0.1:0");
  EXPECT_TRUE(listener) << listener.error().message;
  Ends ends;
  WaitGroup done;
  done.add(1);
  go([&] {
    auto conn = listener->accept();
    EXPECT_TRUE(conn);
    ends.server = *conn;
    done.done();
  });
  auto conn = net::dial(listener->address());
  EXPECT_TRUE(conn) << conn.error().message;
  ends.client = *conn;
  done.wait();
  listener->close();
  return ends;
}
void close(const Ends& ends) {
  ends.client.close();
  ends.server.close();
}
void echo_until_end(const net::Conn& conn) {
  char buffer[4096];
  for (auto got = conn.read(buffer); got.bytes > 0; got = conn.read(buffer)) conn.write({buffer, got.bytes});
}

TEST_P(Net, EchoesEveryByteOnManyConnections) {
  run([] {
    auto listener = net::listen("127.0.0.1:0");
    ASSERT_TRUE(listener);
    WaitGroup done;
    constexpr int kConnections = 32, kRounds = 50;
    done.add(2 * kConnections);
    go([&, listener = *listener] {
      for (int i = 0; i < kConnections; ++i) {
        auto conn = listener.accept();
        ASSERT_TRUE(conn);
        go([&, conn = *conn] {
          echo_until_end(conn);
          conn.close();
          done.done();
        });
      }
    });
    for (int i = 0; i < kConnections; ++i) {
      go([&, i, address = listener->address()] {
        auto conn = net::dial(address);
        ASSERT_TRUE(conn);
        for (int round = 0; round < kRounds; ++round) {
          std::string text(1 + static_cast<std::size_t>(i * 37 + round * 101) % 9000, static_cast<char>('a' + i % 26));
          text.back() = static_cast<char>(round);
          go([conn = *conn, text] { conn.write(text); });
          std::string back(text.size(), 0);
          const auto got = conn->read_full(back);
          EXPECT_TRUE(got.ok()) << got.error.text();
          EXPECT_EQ(back, text);
        }
        conn->close();
        done.done();
      });
    }
    done.wait();
    listener->close();
  });
}

TEST_P(Net, LargeWriteMeetsSlowReader) {
  run([] {
    const Ends ends = connect();
    std::string all(8 << 20, 0);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i * 2654435761u >> 24);
    WaitGroup done;
    done.add(1);
    go([&] {
      const auto put = ends.client.write(all);
      EXPECT_EQ(put.bytes, all.size()) << put.error.text();
      ends.client.close_write();
      done.done();
    });
    std::string got;
    std::vector<char> buffer(70'000);
    for (auto part = ends.server.read(buffer); part.bytes > 0; part = ends.server.read(buffer))
      got.append(buffer.data(), part.bytes);
    EXPECT_TRUE(got == all);
    done.wait();
    close(ends);
  });
}

TEST_P(Net, HalfCloseEndsOneDirectionOnly) {
  run([] {
    const Ends ends = connect();
    EXPECT_TRUE(ends.client.write("ping").ok());
    EXPECT_FALSE(ends.client.close_write());
    char buffer[16];
    EXPECT_EQ(ends.server.read_full(std::span<char>(buffer, 4)).bytes, 4u);
    const auto end = ends.server.read(buffer);
    EXPECT_EQ(end.bytes, 0u);
    EXPECT_TRUE(end.ok());
    EXPECT_TRUE(ends.server.write("pong").ok());
    EXPECT_EQ(ends.client.read_full(std::span<char>(buffer, 4)).bytes, 4u);
    close(ends);
  });
}

TEST_P(Net, PeerThatClosesIsTheEndForAParkedReader) {
  run([] {
    const Ends ends = connect();
    WaitGroup done;
    done.add(1);
    go([&] {
      char buffer[16];
      const auto got = ends.server.read(buffer);
      EXPECT_EQ(got.bytes, 0u);
      EXPECT_TRUE(got.ok()) << got.error.text();
      done.done();
    });
    sleep(5 * kMillisecond);
    ends.client.close();
    done.wait();
    ends.server.close();
  });
}

TEST_P(Net, ResetIsAnErrorForAParkedReader) {
  run([] {
    const Ends ends = connect();
    WaitGroup done;
    done.add(1);
    go([&] {
      char buffer[16];
      const auto got = ends.server.read(buffer);
      EXPECT_EQ(got.error.number(), ECONNRESET);
      EXPECT_EQ(got.error.text(), "connection reset by peer");
      done.done();
    });
    sleep(5 * kMillisecond);
    ends.client.set_linger_zero();
    ends.client.close();
    done.wait();
    EXPECT_FALSE(ends.server.write("x").ok());
    ends.server.close();
  });
}

TEST_P(Net, CloseWakesParkedReaderWriterAndAccepter) {
  run([] {
    for (int round = 0; round < 20; ++round) {
      const Ends ends = connect();
      auto listener = net::listen("127.0.0.1:0");
      WaitGroup done;
      done.add(3);
      go([&] {
        char buffer[16];
        EXPECT_TRUE(ends.server.read(buffer).error.closed());
        done.done();
      });
      go([&] {
        const std::string much(1 << 20, 'x');
        net::Transfer put;
        do {
          put = ends.server.write(much);
        } while (put.ok());
        EXPECT_TRUE(put.error.closed()) << put.error.text();
        done.done();
      });
      go([&] {
        auto conn = listener->accept();
        EXPECT_FALSE(conn);
        EXPECT_NE(conn.error().message.find("use of closed network connection"), std::string::npos);
        done.done();
      });
      if (round % 2 == 0) sleep(3 * kMillisecond);
      EXPECT_FALSE(ends.server.close());
      EXPECT_TRUE(ends.server.close().closed());
      listener->close();
      done.wait();
      EXPECT_TRUE(ends.server.write("x").error.closed());
      ends.client.close();
    }
  });
}

TEST_P(Net, DeadlinesEndWhatWaitsAndCanBeMoved) {
  run([] {
    const Ends ends = connect();
    char buffer[16];
    const std::int64_t began = now_ns();
    ends.server.set_read_deadline(began + 10 * kMillisecond);
    auto got = ends.server.read(buffer);
    EXPECT_TRUE(got.error.timeout()) << got.error.text();
    EXPECT_EQ(got.error.text(), "i/o timeout");
    EXPECT_GE(now_ns(), began + 10 * kMillisecond);  // never early
    // Past: at once, also when there are bytes to read; the other direction is not touched.
    ends.client.write("abc");
    EXPECT_TRUE(ends.server.read(buffer).error.timeout());
    EXPECT_TRUE(ends.server.write("x").ok());
    ends.server.set_read_deadline(0);
    EXPECT_EQ(ends.server.read(buffer).bytes, 3u);
    // Changed while a reader is parked: later, then to the past.
    WaitGroup done;
    done.add(1);
    const std::int64_t later = now_ns() + 20 * kMillisecond;
    ends.server.set_read_deadline(now_ns() + 3600 * kSecond);
    go([&] {
      char mine[16];
      const auto late = ends.server.read(mine);
      EXPECT_TRUE(late.error.timeout());
      EXPECT_GE(now_ns(), later);
      done.done();
    });
    sleep(2 * kMillisecond);
    ends.server.set_read_deadline(later);
    done.wait();
    ends.server.set_read_deadline(0);
    done.add(1);
    go([&] {
      char mine[16];
      EXPECT_TRUE(ends.server.read(mine).error.timeout());
      done.done();
    });
    sleep(2 * kMillisecond);
    ends.server.set_read_deadline(1);
    done.wait();
    // Taken back while parked: data still arrives.
    ends.server.set_read_deadline(now_ns() + 3600 * kSecond);
    done.add(1);
    go([&] {
      char mine[16];
      EXPECT_EQ(ends.server.read(mine).bytes, 2u);
      done.done();
    });
    sleep(kMillisecond);
    ends.server.set_read_deadline(0);
    ends.client.write("ok");
    done.wait();
    // A writer that nobody reads from.
    const std::string much(64 << 20, 'x');
    ends.server.set_write_deadline(now_ns() + 20 * kMillisecond);
    const auto put = ends.server.write(much);
    EXPECT_TRUE(put.error.timeout());
    EXPECT_GT(put.bytes, 0u);
    close(ends);
    auto listener = net::listen("127.0.0.1:0");
    listener->set_deadline(now_ns() + 2 * kMillisecond);
    auto nobody = listener->accept();
    EXPECT_FALSE(nobody);
    EXPECT_EQ(nobody.error().error_number, ETIMEDOUT);
    listener->set_deadline(0);
    auto conn = net::dial(listener->address());
    ASSERT_TRUE(conn);
    EXPECT_TRUE(listener->accept());
    conn->close();
    listener->close();
  });
}

TEST_P(Net, ManyGoroutinesShareOneConnection) {
  run([] {
    const Ends ends = connect();
    constexpr int kWriters = 16, kMessages = 100;
    WaitGroup done;
    std::atomic<std::uint64_t> sum{0}, bytes{0};
    for (int w = 0; w < kWriters; ++w) {
      done.add(2);
      go([&, w] {
        const std::string message(64, static_cast<char>(w + 1));
        for (int i = 0; i < kMessages; ++i) EXPECT_TRUE(ends.client.write(message).ok());
        done.done();
      });
      go([&] {
        char buffer[100];
        for (;;) {
          const auto got = ends.server.read(buffer);
          if (got.bytes == 0) break;
          for (std::size_t i = 0; i < got.bytes; ++i) sum += static_cast<unsigned char>(buffer[i]);
          if (bytes.fetch_add(got.bytes) + got.bytes == std::uint64_t{64} * kWriters * kMessages)
            ends.client.close_write();
        }
        done.done();
      });
    }
    done.wait();
    EXPECT_EQ(sum.load(), std::uint64_t{64} * kMessages * kWriters * (kWriters + 1) / 2);
    close(ends);
  });
}

TEST_P(Net, ThousandConnectionsWaitAtOnce) {
  run([] {
    constexpr int kConnections = 1000;
    std::vector<std::pair<net::Conn, net::Conn>> all;
    WaitGroup done;
    std::atomic<int> right{0};
    for (int i = 0; i < kConnections; ++i) {
      auto made = net::pipe();
      ASSERT_TRUE(made) << made.error().message;
      all.push_back(*made);
      done.add(1);
      go([&, conn = made->second] {
        char byte[1];
        if (conn.read(byte).bytes == 1) ++right;
        done.done();
      });
    }
    sleep(5 * kMillisecond);
    for (const auto& [first, second] : all) first.write("x");
    done.wait();
    EXPECT_EQ(right.load(), kConnections);
    for (const auto& [first, second] : all) first.close(), second.close();
  });
}

// Readers, deadlines and closes of the same connections at random moments. Nothing hangs, nothing is delivered twice.
TEST_P(Net, StormOfCancelsAndCloses) {
  run([] {
    for (int round = 0; round < 10; ++round) {
      WaitGroup done;
      for (int i = 0; i < 24; ++i) {
        auto made = net::pipe();
        ASSERT_TRUE(made);
        done.add(4);
        go([&done, conn = made->second] {
          char buffer[8];
          for (;;) {
            const auto got = conn.read(buffer);
            if (got.error && !got.error.timeout()) break;
            if (got.ok() && got.bytes == 0) break;
            if (got.error.timeout()) gosched();
          }
          done.done();
        });
        go([&done, conn = made->first] {
          while (conn.write("data").ok()) gosched();
          done.done();
        });
        go([&done, conn = made->second, i] {
          for (int n = 0; n < 30; ++n) {
            conn.set_read_deadline(n % 3 == 0 ? 0 : now_ns() + (n * 7 + i) % 5 * 20'000);
            gosched();
          }
          conn.set_read_deadline(0);
          done.done();
        });
        go([&done, ends = *made, i, round] {
          sleep((i * 37 + round * 11) % 40 * 20'000);
          if (i % 2 == 0)
            ends.first.close(), ends.second.close();
          else
            ends.second.close(), ends.first.close();
          done.done();
        });
      }
      done.wait();
    }
  });
}

TEST_P(Net, RefusedDialSaysSo) {
  run([] {
    auto listener = net::listen("127.0.0.1:0");
    const std::string address = listener->address();
    listener->close();
    auto conn = net::dial(address);
    ASSERT_FALSE(conn);
    EXPECT_EQ(conn.error().error_number, ECONNREFUSED);
    EXPECT_EQ(conn.error().message, "dial tcp " + address + ": connect: connection refused");
    for (const char* bad : {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "example.org:80"}) {
      EXPECT_FALSE(net::dial(bad)) << bad;
      EXPECT_FALSE(net::listen(bad)) << bad;
    }
    auto first = net::listen("localhost:0");
    ASSERT_TRUE(first);
    auto second = net::listen(first->address());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().error_number, EADDRINUSE);
    first->close();
  });
}

// In a child: the limit is the process's.
TEST_P(Net, OutOfDescriptorsIsAnErrorAndLosesNothing) {
  EXPECT_EXIT(
      {
        run([] {
          auto listener = net::listen("127.0.0.1:0");
          auto waiting = net::dial(listener->address());
          if (!listener || !waiting) ::_exit(10);
          rlimit limit{};
          ::getrlimit(RLIMIT_NOFILE, &limit);
          std::vector<int> fillers;
          limit.rlim_cur = 256;
          ::setrlimit(RLIMIT_NOFILE, &limit);
          for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) fillers.push_back(fd);
          auto no_accept = listener->accept();
          if (no_accept || no_accept.error().error_number != EMFILE) ::_exit(11);
          auto no_dial = net::dial(listener->address());
          if (no_dial || no_dial.error().error_number != EMFILE) ::_exit(12);
          if (net::listen("127.0.0.1:0")) ::_exit(13);
          if (net::pipe()) ::_exit(14);
          for (const int fd : fillers) ::close(fd);
          auto now = listener->accept();
          if (!now) ::_exit(15);
          waiting->write("still here");
          char buffer[10];
          if (now->read_full(buffer).bytes != 10) ::_exit(16);
          ::_exit(0);
        });
      },
      ::testing::ExitedWithCode(0), "");
}

TEST_P(Net, WaitingForTheNetworkIsNoDeadlockAndMainMayLeaveItBehind) {
  run([] {
    const Ends ends = connect();
    WaitGroup done;
    done.add(1);
    std::atomic<bool> got_it{false};
    go([&] {
      char byte[1];
      got_it = ends.server.read(byte).bytes == 1;
      done.done();
    });
    blocking([fd = 0] { return ::usleep(20'000) + fd; });  // every goroutine waits, and the network is the only hope
    ends.client.write("x");
    done.wait();
    EXPECT_TRUE(got_it);
    close(ends);
  });
}

}  // namespace
}  // namespace gearbox
