// What clients can make the server take: memory, connections, time. Every limit is met here by somebody who wants more.
#include <gtest/gtest.h>

#include "base/os/memory.h"
#include "tests/workloads/kv_serving.h"

namespace gearbox::workloads::kv {
namespace {

class KvLimits : public ::testing::TestWithParam<const char*> {
 protected:
  void run(std::function<void()> main) { testing::run_on({GetParam(), {}}, std::move(main)); }
};
INSTANTIATE_TEST_SUITE_P(Pollers, KvLimits, ::testing::Values("epoll", "io_uring"),
                         [](const auto& info) { return std::string(info.param); });

// One request may ask for more than the machine has: what is built counts while it is built.
TEST_P(KvLimits, AReplyIsBoundedWhileItIsBuilt) {
  run([] {
    Serving serving({.query_bytes = 8 << 20, .output_bytes = 8 << 20});
    const net::Conn other = serving.connect();
    ASSERT_EQ(ask(other, {"SET", "m", std::string(1 << 20, 'v')}), "+OK\r\n");
    for (int i = 0; i < 50; ++i) ASSERT_EQ(ask(other, {"RPUSH", "l", std::string(100'000, 'v')}).substr(0, 1), ":");
    const std::uint64_t before = os::peak_resident_bytes();
    std::string mget = "*601\r\n$4\r\nMGET\r\n", lranges, gets, infos = "*100002\r\n$7\r\nCOMMAND\r\n$4\r\nINFO\r\n";
    for (int i = 0; i < 600; ++i) mget += "$1\r\nm\r\n";
    for (int i = 0; i < 120; ++i) lranges += encode({"LRANGE", "l", "0", "-1"});
    for (int i = 0; i < 600; ++i) gets += encode({"GET", "m"});
    for (int i = 0; i < 100'000; ++i) infos += "$4\r\nINCR\r\n";
    int connections = 1;
    for (const std::string& requests : {mget, lranges, gets, infos}) {
      const net::Conn greedy = serving.connect();
      const std::string came = fmt::format("total_connections_received:{}\r\n", ++connections);
      while (ask(other, {"INFO", "stats"}).find(came) == std::string::npos) sleep(kMillisecond);
      greedy.write(requests);
      while (ask(other, {"INFO", "clients"}).find("connected_clients:1\r\n") == std::string::npos) sleep(kMillisecond);
      greedy.close();
    }
    EXPECT_LT(os::peak_resident_bytes() - before, std::uint64_t{128} << 20);
    other.close();
  });
}

TEST_P(KvLimits, PastTheOutputLimitTheConnectionEndsAndOthersGoOn) {
  run([] {
    Serving serving({.query_bytes = 1 << 20, .output_bytes = 1 << 20});
    const net::Conn greedy = serving.connect(), other = serving.connect();
    ASSERT_EQ(ask(other, {"SET", "key", std::string(100'000, 'v')}), "+OK\r\n");
    std::string requests;
    for (int i = 0; i < 100; ++i) requests += encode({"GET", "key"});
    while (greedy.write(requests).ok()) {
    }
    EXPECT_EQ(ask(other, {"PING"}), "+PONG\r\n");
    greedy.close();
    other.close();
  });
}

TEST_P(KvLimits, PastTheQueryLimitTheConnectionEnds) {
  run([] {
    Serving serving({.query_bytes = 1 << 20, .output_bytes = 1 << 20});
    const net::Conn conn = serving.connect();
    const std::string much = encode({std::string(1 << 16, 'x')}).substr(4);
    conn.write("*1000\r\n");
    while (conn.write(much).ok()) {
    }
    char byte[1];
    EXPECT_EQ(conn.read(byte).bytes, 0u);
    conn.close();
  });
}

// The longest value that is accepted comes back, whatever the limits are; the next longer one is refused in words.
TEST_P(KvLimits, WhatCanBeSetCanBeGot) {
  run([] {
    for (const Limits& limits :
         {Limits{.query_bytes = 2 << 20, .output_bytes = 2 << 20},
          Limits{.query_bytes = 8 << 20, .output_bytes = 2 << 20},
          Limits{.query_bytes = 2 << 20, .output_bytes = 8 << 20}, Limits{.memory_bytes = 4 << 20},
          Limits{.query_bytes = 20 << 20, .output_bytes = 16 << 20, .memory_bytes = 40 << 20}}) {
      Serving serving(limits);
      const net::Conn conn = serving.connect();
      const std::string config = ask(conn, {"CONFIG", "GET", "proto-max-bulk-len"});
      const std::size_t most = std::stoul(config.substr(config.rfind('\n', config.size() - 2) + 1));
      ASSERT_EQ(most, limits.value_bytes()) << config;
      std::string value(most, 0);
      for (std::size_t i = 0; i < value.size(); ++i) value[i] = static_cast<char>(i * 2654435761u >> 23);
      ASSERT_EQ(ask(conn, {"SET", "k", value}), "+OK\r\n");
      ASSERT_TRUE(ask(conn, {"GET", "k"}) == fmt::format("${}\r\n{}\r\n", most, value));
      ASSERT_TRUE(ask(conn, {"ECHO", value}) == fmt::format("${}\r\n{}\r\n", most, value));
      ASSERT_EQ(ask(conn, {"RPUSH", "l", value}), ":1\r\n");
      ASSERT_TRUE(ask(conn, {"LPOP", "l"}) == fmt::format("${}\r\n{}\r\n", most, value));
      conn.write(fmt::format("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", most + 1));
      std::string input;
      EXPECT_EQ(next_reply(conn, input), "-ERR Protocol error: invalid bulk length\r\n");
      conn.close();
      while (serving.server().client_memory_bytes() > 0) sleep(kMillisecond);
    }
  });
}

// Many that each stay below their own limit: together they do not take more than all may have, and who asks for little
// still gets it.
TEST_P(KvLimits, AllConnectionsTogetherAreBounded) {
  run([] {
    Serving serving({.memory_bytes = 16 << 20});
    const net::Conn other = serving.connect();
    ASSERT_EQ(ask(other, {"SET", "m", std::string(1 << 20, 'v')}), "+OK\r\n");
    const std::uint64_t before = os::peak_resident_bytes();
    std::vector<net::Conn> greedy;
    std::string gets;
    for (int i = 0; i < 40; ++i) gets += encode({"GET", "m"});
    for (int i = 0; i < 10; ++i) {
      greedy.push_back(serving.connect());
      if (i % 2 == 0)
        greedy.back().write(gets);  // replies that nobody reads
      else
        go([conn = greedy.back()] {  // and requests that never end
          conn.write("*1000000\r\n");
          for (const std::string part = "$1000000\r\n" + std::string(1'000'000, 'x') + "\r\n"; conn.write(part).ok();) {
          }
        });
      for (int n = 0; n < 20; ++n) {
        ASSERT_EQ(ask(other, {"PING"}), "+PONG\r\n");
        EXPECT_LE(serving.server().client_memory_bytes(), (std::size_t{16} << 20) + 11 * 2 * Quota::kFloorBytes);
        sleep(kMillisecond);
      }
    }
    EXPECT_LT(os::peak_resident_bytes() - before, std::uint64_t{128} << 20);
    for (const net::Conn& conn : greedy) conn.close();
    while (ask(other, {"INFO", "clients"}).find("connected_clients:1\r\n") == std::string::npos) sleep(kMillisecond);
    EXPECT_LE(serving.server().client_memory_bytes(), 2 * Quota::kFloorBytes);
    ASSERT_EQ(ask(other, {"GET", "m"}).size(), std::size_t{(1 << 20) + 12});  // there is room again
    other.close();
  });
}

// A request of a million words takes more beside its bytes than in them.
TEST_P(KvLimits, TheWordsOfARequestArePaidFor) {
  run([] {
    Serving serving({.memory_bytes = 8 << 20});
    const net::Conn conn = serving.connect();
    std::string request = "*1000000\r\n$4\r\nMGET\r\n";
    for (int i = 1; i < 1'000'000; ++i) request += "$0\r\n\r\n";
    conn.write(request);
    std::string input;
    const std::string reply = next_reply(conn, input);
    EXPECT_TRUE(reply.empty() || reply.find("the request takes more memory") != std::string::npos) << reply;
    conn.close();
    while (serving.server().client_memory_bytes() > 0) sleep(kMillisecond);
  });
}

TEST_P(KvLimits, OneClientTooManyIsToldSo) {
  run([] {
    Serving serving({.clients = 3});
    std::vector<net::Conn> conns;
    for (int i = 0; i < 3; ++i) {
      conns.push_back(serving.connect());
      ASSERT_EQ(ask(conns.back(), {"PING"}), "+PONG\r\n");
    }
    const net::Conn refused = serving.connect();
    std::string input;
    EXPECT_EQ(next_reply(refused, input), "-ERR max number of clients reached\r\n");
    EXPECT_EQ(next_reply(refused, input), "");
    refused.close();
    EXPECT_NE(ask(conns[0], {"INFO", "stats"}).find("rejected_connections:1\r\n"), std::string::npos);
    conns.back().close();
    for (;;) {  // there is room again as soon as the server has noticed
      const net::Conn next = serving.connect();
      const std::string reply = ask(next, {"PING"});
      next.close();
      if (reply == "+PONG\r\n") break;
      sleep(kMillisecond);
    }
    for (const net::Conn& conn : conns) conn.close();
  });
}

TEST_P(KvLimits, SilentConnectionsEndAndOthersDoNot) {
  run([] {
    Serving serving({.idle_seconds = 1});
    const net::Conn active = serving.connect(), silent = serving.connect(), deaf = serving.connect();
    ASSERT_EQ(ask(active, {"SET", "m", std::string(1 << 20, 'v')}), "+OK\r\n");
    std::string gets;
    for (int i = 0; i < 100; ++i) gets += encode({"GET", "m"});
    ASSERT_TRUE(deaf.write(gets).ok());  // and reads nothing
    while (ask(active, {"INFO", "clients"}).find("connected_clients:1\r\n") == std::string::npos) sleep(kMillisecond);
    char byte[1];
    EXPECT_EQ(silent.read(byte).bytes, 0u);
    EXPECT_EQ(ask(active, {"PING"}), "+PONG\r\n");
    for (const net::Conn& conn : {active, silent, deaf}) conn.close();
  });
}

TEST_P(KvLimits, ClientsWithoutThePasswordGetLittle) {
  run([] {
    Limits limits;
    limits.password = "secret";
    Serving serving(limits);
    const net::Conn conn = serving.connect();
    EXPECT_EQ(ask(conn, {"GET", "a"}), "-NOAUTH Authentication required.\r\n");
    EXPECT_EQ(ask(conn, {"AUTH", "wrong"}), "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    std::string input;  // in one write: what follows AUTH is read with the limits of a client that is known
    conn.write(encode({"AUTH", "secret"}) + encode({"SET", "a", std::string(100'000, 'v')}) + encode({"DBSIZE"}));
    for (const char* reply : {"+OK\r\n", "+OK\r\n", ":1\r\n"}) EXPECT_EQ(next_reply(conn, input), reply);
    const net::Conn stranger = serving.connect();
    stranger.write("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$16385\r\n");
    EXPECT_EQ(next_reply(stranger, input), "-ERR Protocol error: unauthenticated bulk length\r\n");
    stranger.close();
    conn.close();
  });
}

// Announcing costs nothing: memory comes with the bytes.
TEST_P(KvLimits, AnAnnouncedValueTakesNoMemory) {
  run([] {
    Serving serving;
    std::vector<net::Conn> conns;
    const std::uint64_t before = os::peak_resident_bytes();
    for (int i = 0; i < 8; ++i) {
      conns.push_back(serving.connect());
      conns.back().write("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nx");
    }
    const net::Conn other = serving.connect();
    for (int i = 0; i < 50; ++i) EXPECT_EQ(ask(other, {"PING"}), "+PONG\r\n");
    EXPECT_LT(os::peak_resident_bytes() - before, std::uint64_t{256} << 20);
    for (const auto& conn : conns) conn.close();
    other.close();
  });
}

}  // namespace
}  // namespace gearbox::workloads::kv
