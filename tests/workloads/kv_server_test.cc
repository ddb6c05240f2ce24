// The server over sockets: clients that behave and clients that do not, under collectors that are never idle.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <atomic>

#include "base/os/memory.h"
#include "tests/runtime/program.h"
#include "tests/workloads/kv_serving.h"
#include "tests/workloads/workload.h"

namespace gearbox::workloads::kv {
namespace {

class KvServer : public ::testing::TestWithParam<const char*> {
 protected:
  void run(std::function<void()> main) { testing::run_on({GetParam(), {}}, std::move(main)); }
};
INSTANTIATE_TEST_SUITE_P(Pollers, KvServer, ::testing::Values("epoll", "io_uring"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(KvServer, AnswersArePipelinedAndInOrder) {
  run([] {
    Serving serving;
    const net::Conn conn = serving.connect();
    std::string requests;
    constexpr int kCount = 1000;
    for (int i = 0; i < kCount; ++i)
      requests += encode({"INCR", "n"}) + encode({"ECHO", std::to_string(i)}) + "PING\r\n";
    WaitGroup written;
    written.add(1);
    go([&] {
      EXPECT_TRUE(conn.write(requests).ok());
      written.done();
    });
    std::string input;
    for (int i = 0; i < kCount; ++i) {
      const std::string n = std::to_string(i), next = std::to_string(i + 1);
      ASSERT_EQ(next_reply(conn, input), ":" + next + "\r\n");
      ASSERT_EQ(next_reply(conn, input), fmt::format("${}\r\n{}\r\n", n.size(), n));
      ASSERT_EQ(next_reply(conn, input), "+PONG\r\n");
    }
    written.wait();
    EXPECT_NE(ask(conn, {"INFO", "stats"}).find("total_commands_processed:3000\r\n"), std::string::npos);
    EXPECT_NE(ask(conn, {"INFO", "clients"}).find("connected_clients:1\r\n"), std::string::npos);
    conn.close();
  });
}

// A client that sends everything before it reads anything: the server goes on reading.
TEST_P(KvServer, AClientThatDoesNotReadWhileItSendsIsServed) {
  run([] {
    Serving serving;
    const net::Conn conn = serving.connect();
    const std::string value(2000, 'v');
    ASSERT_EQ(ask(conn, {"SET", "key", value}), "+OK\r\n");
    constexpr int kCount = 20'000;  // 40 MB of replies: more than both sockets hold
    std::string requests;
    for (int i = 0; i < kCount; ++i) requests += encode({"GET", "key"});
    ASSERT_TRUE(conn.write(requests).ok());
    ASSERT_TRUE(conn.write(encode({"INCR", "n"})).ok());
    const std::string reply = fmt::format("${}\r\n{}\r\n", value.size(), value);
    std::string found(reply.size(), 0);
    for (int i = 0; i < kCount; ++i) {
      ASSERT_EQ(conn.read_full(found).bytes, found.size());
      ASSERT_EQ(found, reply);
    }
    std::string input;
    EXPECT_EQ(next_reply(conn, input), ":1\r\n");
    conn.close();
  });
}

TEST_P(KvServer, ALongValueArrivesWhole) {
  run([] {
    Serving serving;
    const net::Conn conn = serving.connect();
    std::string value(9 << 20, 0);
    for (std::size_t i = 0; i < value.size(); ++i) value[i] = static_cast<char>(i * 2654435761u >> 23);
    WaitGroup written;
    written.add(1);
    go([&] {
      EXPECT_TRUE(conn.write(encode({"SET", "k", value}) + encode({"GET", "k"})).ok());
      written.done();
    });
    std::string reply(5, 0);
    ASSERT_EQ(conn.read_full(reply).bytes, 5u);
    EXPECT_EQ(reply, "+OK\r\n");
    reply.resize(value.size() + 12);
    ASSERT_EQ(conn.read_full(reply).bytes, reply.size());
    EXPECT_TRUE(reply == fmt::format("${}\r\n{}\r\n", value.size(), value));
    written.wait();
    conn.close();
  });
}

TEST_P(KvServer, ClientsThatLeaveInTheMiddleLeaveNothingBehind) {
  run([] {
    Serving serving;
    for (int round = 0; round < 30; ++round) {
      const net::Conn conn = serving.connect();
      const std::string request = encode({"SET", "key", "value"});
      if (round % 3 == 0) {
        conn.write(std::string_view(request).substr(0, static_cast<std::size_t>(round) % request.size()));
      } else if (round % 3 == 1) {
        for (int i = 0; i < 200; ++i) conn.write(request);
      } else {
        conn.write("*1\r\n$x\r\n");
        std::string input;
        EXPECT_EQ(next_reply(conn, input), "-ERR Protocol error: invalid bulk length\r\n");
        EXPECT_EQ(next_reply(conn, input), "");  // and the connection ends
      }
      if (round % 2 == 0) conn.set_linger_zero();
      conn.close();
    }
    const net::Conn last = serving.connect();
    while (ask(last, {"INFO", "clients"}).find("connected_clients:1\r\n") == std::string::npos) sleep(kMillisecond);
    EXPECT_EQ(ask(last, {"QUIT"}), "+OK\r\n");
    last.close();
  });
}

// Other people's connections do not keep the server from ending: idle ones, and one whose replies nobody takes.
TEST_P(KvServer, StopDoesNotWaitForClients) {
  run([] {
    std::vector<net::Conn> idle;
    {
      Serving serving;
      for (int i = 0; i < 5; ++i) idle.push_back(serving.connect());
      EXPECT_EQ(ask(idle[0], {"SET", "key", std::string(1 << 20, 'v')}), "+OK\r\n");
      for (int i = 0; i < 40; ++i) idle[0].write(encode({"GET", "key"}));
    }
    for (const auto& conn : idle) conn.close();
  });
}

// At the limit of descriptors the accepter waits, and goes on when there are some again.
TEST_P(KvServer, OutOfDescriptorsIsWaitedFor) {
  EXPECT_EXIT(
      {
        run([] {
          Serving serving;
          const net::Conn first = serving.connect();
          if (ask(first, {"PING"}) != "+PONG\r\n") ::_exit(10);
          rlimit limit{};
          ::getrlimit(RLIMIT_NOFILE, &limit);
          limit.rlim_cur = 128;
          ::setrlimit(RLIMIT_NOFILE, &limit);
          std::vector<int> fillers;
          for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) fillers.push_back(fd);
          ::close(fillers.back());
          fillers.pop_back();
          const net::Conn waits = serving.connect();  // takes the last one; the server's side has none
          sleep(20 * kMillisecond);
          if (ask(first, {"PING"}) != "+PONG\r\n") ::_exit(11);
          for (const int fd : fillers) ::close(fd);
          if (ask(waits, {"PING"}) != "+PONG\r\n") ::_exit(12);
          ::_exit(0);
        });
      },
      ::testing::ExitedWithCode(0), "");
}

TEST(KvServerFailures, WhatPassesIsToldFromWhatDoesNot) {
  for (const int number : {EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EAGAIN, ENETDOWN, EPERM})
    EXPECT_TRUE(Server::passes(number));
  for (const int number : {EBADF, EINVAL, ENOTSOCK, ECANCELED, EFAULT}) EXPECT_FALSE(Server::passes(number));
}

// Many connections at once while every few allocations start a collection. What was written comes back.
TEST(KvServerCollected, DataSurvivesCollectionsUnderLoad) {
  for (const char* allocator : {"size_class", "mimalloc"})
    for (const char* collector : {"concurrent", "stw"}) {
      SCOPED_TRACE(std::string(allocator) + " " + collector);
      testing::Watchdog watchdog;
      testing::Program program{.allocator = allocator, .collector = collector, .poller = "epoll"};
      program.procs(2).options.stress_alloc = testing::kSanitized ? 8 : 20;
      const RunStats stats = testing::run(program, [] {
        Serving serving;
        WaitGroup done;
        constexpr int kClients = 6, kRounds = testing::kSanitized ? 30 : 100;
        for (int c = 0; c < kClients; ++c) {
          done.add(1);
          go([&, c] {
            const net::Conn conn = serving.connect();
            for (int i = 0; i < kRounds; ++i) {
              const std::string key = fmt::format("key:{}:{}", c, i % 20), list = fmt::format("list:{}", c);
              const std::string value(static_cast<std::size_t>(1 + i * 37 % 3000), static_cast<char>('a' + i % 26));
              EXPECT_EQ(ask(conn, {"SET", key, value}), "+OK\r\n");
              EXPECT_EQ(ask(conn, {"GET", key}), fmt::format("${}\r\n{}\r\n", value.size(), value));
              EXPECT_EQ(ask(conn, {"RPUSH", list, value}), fmt::format(":{}\r\n", i % 10 + 1));
              if (i % 10 == 9) {
                for (int n = 0; n < 10; ++n) {
                  const std::size_t bytes = static_cast<std::size_t>(1 + (i - 9 + n) * 37 % 3000);
                  const std::string item = ask(conn, {"LPOP", list});
                  EXPECT_EQ(item.substr(0, item.find('\r')), fmt::format("${}", bytes));
                }
              }
              ask(conn, {"INCR", "sum"});
            }
            conn.close();
            done.done();
          });
        }
        done.wait();
        const net::Conn conn = serving.connect();
        const std::string sum = std::to_string(kClients * kRounds);
        EXPECT_EQ(ask(conn, {"GET", "sum"}), fmt::format("${}\r\n{}\r\n", sum.size(), sum));
        conn.close();
      });
      EXPECT_GT(stats.gc_cycles, 0u);
    }
}

// Whoever can reach the machine could read and change everything.
TEST(KvServerWorkload, BeyondLoopbackNeedsAPassword) {
  ::unsetenv("GEARBOX_KV_PASSWORD");
  const Report report =
      testing::run_workload("kv_server", {"epoll", {}}, {{"bind", 1}, {"port", 6399}, {"requests", 1}});
  const std::string failures = testing::failures_of(report);
  for (const char* part : {"bind=any", "0.0.0.0:6399", "GEARBOX_KV_PASSWORD", "bind=loopback"})
    EXPECT_NE(failures.find(part), std::string::npos) << part << " is not in: " << failures;
}

bool has_redis_benchmark() {
  const char* path = ::getenv("PATH");
  bool found = false;
  for (std::string_view rest = path != nullptr ? path : ""; !rest.empty();) {
    const std::size_t end = std::min(rest.find(':'), rest.size());
    found |= ::access((std::string(rest.substr(0, end)) + "/redis-benchmark").c_str(), X_OK) == 0;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return found;
}

TEST(KvServerWorkload, RunsUnderRedisBenchmark) {
  for (const char* poller : {"epoll", "io_uring"}) {
    const Report report =
        testing::run_workload("kv_server", {poller, {}}, {{"requests", 2000}, {"connections", 10}, {"keyspace", 1000}});
    if (has_redis_benchmark()) {
      EXPECT_EQ(testing::failures_of(report), "");
      EXPECT_FALSE(report.hists.empty());
    } else {  // then the cell says what is missing
      EXPECT_NE(testing::failures_of(report).find("install the package redis-tools"), std::string::npos);
    }
  }
}

TEST(KvServerWorkload, RunsWithAPassword) {
  if (!has_redis_benchmark()) GTEST_SKIP() << "needs redis-benchmark (package redis-tools)";
  ::setenv("GEARBOX_KV_PASSWORD", "open sesame", 1);
  const Report report = testing::run_workload(
      "kv_server", {"epoll", {}}, {{"requests", 2000}, {"connections", 10}, {"keyspace", 1000}, {"auth", 1}});
  EXPECT_EQ(testing::failures_of(report), "");
  ::unsetenv("GEARBOX_KV_PASSWORD");
  EXPECT_NE(testing::failures_of(testing::run_workload("kv_server", {"epoll", {}}, {{"auth", 1}})).find("not set"),
            std::string::npos);
}

}  // namespace
}  // namespace gearbox::workloads::kv
