// Commands against the replies of Redis 7.0, byte for byte.
#include <gtest/gtest.h>

#include "tests/pollers/poller_harness.h"
#include "tests/runtime/program.h"
#include "workloads/kv_server/commands.h"

namespace gearbox::workloads::kv {
namespace {

// Words of a request, separated by blanks; '' is an empty one.
Request words(std::string_view line) {
  Request request;
  while (!line.empty()) {
    const std::size_t end = std::min(line.find(' '), line.size());
    const std::string_view word = line.substr(0, end);
    request.arguments.push_back(word == "''" ? std::string_view() : word);
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return request;
}
// A client without a connection: what it asks and what it gets.
struct Asker {
  explicit Asker(Limits given = {}) : limits(std::move(given)), pool(limits.memory_bytes) {}
  // "" when the replies have met a limit.
  std::string ask(const Request& request, bool stays = true) {
    Quota quota(pool, limits.output_bytes);
    Replies out(quota);
    EXPECT_EQ(execute(session, request, out), stays);
    return out.text();
  }
  std::string ask(std::string_view line) { return ask(words(line)); }

  const Limits limits;
  Pool pool;
  Store store;
  Session session{store, limits};
};
// "|" for the end of a line.
std::string shown(std::string reply) {
  for (std::size_t at = reply.find("\r\n"); at != std::string::npos; at = reply.find("\r\n", at))
    reply.replace(at, 2, "|");
  return reply;
}

struct Row {
  const char* request;
  const char* reply;
};
void expect_all(std::initializer_list<Row> rows) {
  testing::run(testing::Program{}, [&] {
    auto client = std::make_unique<Asker>();
    for (const Row& row : rows) EXPECT_EQ(shown(client->ask(row.request)), row.reply) << row.request;
  });
}

constexpr const char* kWrongType = "-WRONGTYPE Operation against a key holding the wrong kind of value|";
constexpr const char* kNotInteger = "-ERR value is not an integer or out of range|";

TEST(KvCommands, Strings) {
  expect_all({
      {"get a", "$-1|"},
      {"set a one", "+OK|"},
      {"GET a", "$3|one|"},
      {"set e ''", "+OK|"},
      {"get e", "$0||"},
      {"set a two nx", "$-1|"},
      {"set b two xx", "$-1|"},
      {"set a two XX", "+OK|"},
      {"set a x nx xx", "-ERR syntax error|"},
      {"set a x ex", "-ERR syntax error|"},
      {"set a x ex 1 px 1", "-ERR syntax error|"},
      {"set a x keepttl ex 1", "-ERR syntax error|"},
      {"set a x ex abc", kNotInteger},
      {"set a x ex 0", "-ERR invalid expire time in 'set' command|"},
      {"set a x exat -1", "-ERR invalid expire time in 'set' command|"},
      {"set a x ex 9223372036854775807", "-ERR invalid expire time in 'set' command|"},
      {"set a three get", "$3|two|"},
      {"set new first get", "$-1|"},
      {"set a four nx get", "$5|three|"},
      {"get a", "$5|three|"},
      {"set a four ex 1000", "+OK|"},
      {"set a five keepttl", "+OK|"},
      {"get a", "$4|five|"},
      {"set gone x exat 1", "+OK|"},
      {"get gone", "$-1|"},
      {"set later x pxat 99999999999999", "+OK|"},
      {"get later", "$1|x|"},
      {"mset a 1 b 2 a 3", "+OK|"},
      {"mget a b nothing", "*3|$1|3|$1|2|$-1|"},
      {"mset a 1 b", "-ERR wrong number of arguments for 'mset' command|"},
      {"exists a a b nothing", ":3|"},
      {"del a b nothing", ":2|"},
      {"get", "-ERR wrong number of arguments for 'get' command|"},
  });
}

TEST(KvCommands, Numbers) {
  expect_all({
      {"incr n", ":1|"},
      {"incr n", ":2|"},
      {"decr n", ":1|"},
      {"incrby n 41", ":42|"},
      {"incrby n -2", ":40|"},
      {"incrby n x", kNotInteger},
      {"set n 9223372036854775807", "+OK|"},
      {"incr n", "-ERR increment or decrement would overflow|"},
      {"set n abc", "+OK|"},
      {"incr n", kNotInteger},
      {"rpush l x", ":1|"},
      {"incr l", kWrongType},
  });
}

TEST(KvCommands, Lists) {
  expect_all({
      {"lpush l c b a", ":3|"},
      {"rpush l d e", ":5|"},
      {"lrange l 0 -1", "*5|$1|a|$1|b|$1|c|$1|d|$1|e|"},
      {"lrange l 1 2", "*2|$1|b|$1|c|"},
      {"lrange l -2 100", "*2|$1|d|$1|e|"},
      {"lrange l 3 1", "*0|"},
      {"lrange l x 1", kNotInteger},
      {"llen l", ":5|"},
      {"lpop l", "$1|a|"},
      {"rpop l", "$1|e|"},
      {"lpop l 0", "*0|"},
      {"lpop l 2", "*2|$1|b|$1|c|"},
      {"rpop l 10", "*1|$1|d|"},
      {"exists l", ":0|"},
      {"lpop l", "$-1|"},
      {"lpop l 1", "*-1|"},
      {"lpop l -1", "-ERR value is out of range, must be positive|"},
      {"lpop l x", "-ERR value is out of range, must be positive|"},
      {"LPOP l 1 2", "-ERR wrong number of arguments for 'lpop' command|"},
      {"llen l", ":0|"},
      {"set s x", "+OK|"},
      {"lpush s x", kWrongType},
      {"lpop s", kWrongType},
      {"llen s", kWrongType},
      {"lrange s 0 1", kWrongType},
      {"rpush l x", ":1|"},
      {"get l", kWrongType},
      {"mget l s", "*2|$-1|$1|x|"},
      {"set l x get", kWrongType},
      {"set l x", "+OK|"},
      {"get l", "$1|x|"},
  });
}

TEST(KvCommands, Server) {
  expect_all({
      {"ping", "+PONG|"},
      {"ping hello", "$5|hello|"},
      {"ping a b", "-ERR wrong number of arguments for 'ping' command|"},
      {"echo hi", "$2|hi|"},
      {"select 0", "+OK|"},
      {"select 17", "-ERR DB index is out of range|"},
      {"select x", kNotInteger},
      {"set a 1", "+OK|"},
      {"dbsize", ":1|"},
      {"flushall x", "-ERR syntax error|"},
      {"flushall async", "+OK|"},
      {"dbsize", ":0|"},
      {"foo a b", "-ERR unknown command 'foo', with args beginning with: 'a' 'b' |"},
      {"foo", "-ERR unknown command 'foo', with args beginning with: |"},
  });
  testing::run(testing::Program{}, [] { EXPECT_EQ(std::make_unique<Asker>()->ask(words("quit"), false), "+OK\r\n"); });
}

TEST(KvCommands, Info) {
  expect_all({
      {"info nosuch", "$0||"},
      {"info keyspace", "$12|# Keyspace||"},
      {"mset a 1 b 2", "+OK|"},
      {"set c 3 ex 100", "+OK|"},
      {"info keyspace", "$44|# Keyspace|db0:keys=3,expires=1,avg_ttl=0||"},
      {"del c", ":1|"},
      {"info KEYSPACE", "$44|# Keyspace|db0:keys=2,expires=0,avg_ttl=0||"},
      {"info clients", "$69|# Clients|connected_clients:0|maxclients:10000|blocked_clients:0||"},
  });
  testing::run(testing::Program{}, [] {
    auto client = std::make_unique<Asker>();
    for (const char* all : {"info", "info everything", "info all", "info stats keyspace clients memory server"}) {
      const std::string reply = client->ask(all);
      for (const char* part : {"# Server\r\n", "\r\n\r\n# Clients\r\n", "\r\n\r\n# Memory\r\n", "used_memory:",
                               "\r\n\r\n# Stats\r\n", "total_commands_processed:0", "\r\n\r\n# Keyspace\r\n"})
        EXPECT_NE(reply.find(part), std::string::npos) << all << ": " << part;
    }
    EXPECT_EQ(client->ask("info memory").find("# Server"), std::string::npos);
  });
}

TEST(KvCommands, Config) {
  expect_all({
      {"config", "-ERR wrong number of arguments for 'config' command|"},
      {"config foo", "-ERR unknown subcommand 'foo'. Try CONFIG HELP.|"},
      {"config get", "-ERR wrong number of arguments for 'config|get' command|"},
      {"config get save", "*2|$4|save|$0||"},
      {"config get SAVE appendonly nothing", "*4|$4|save|$0||$10|appendonly|$2|no|"},
      {"config get maxmem*y", "*4|$9|maxmemory|$1|0|$16|maxmemory-policy|$10|noeviction|"},
      {"config get maxmem?ry [a-b]ppend[^x]nly", "*4|$10|appendonly|$2|no|$9|maxmemory|$1|0|"},
      {"config get nosuch", "*0|"},
      {"config set maxmemory", "-ERR wrong number of arguments for 'config|set' command|"},
      {"config set a 1 b", "-ERR syntax error|"},
      {"config set foo 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'|"},
      {"config set databases 1",
       "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config|"},
      {"config resetstat", "+OK|"},
      {"config resetstat x", "-ERR wrong number of arguments for 'config|resetstat' command|"},
      {"config rewrite", "-ERR The server is running without a config file|"},
  });
  testing::run(testing::Program{}, [] {
    auto client = std::make_unique<Asker>();
    const std::string all = client->ask("config get *");
    for (const char* name : {"save", "appendonly", "maxmemory", "databases", "proto-max-bulk-len"})
      EXPECT_NE(all.find(name), std::string::npos) << name;
    EXPECT_EQ(kv::reply_length(all), all.size());
    EXPECT_EQ(client->ask("config help").substr(0, 5), "*11\r\n");
  });
}

// The stars of a pattern multiply for a matcher that tries each of them at every place: twelve of them against one name
// are millions of tries, and each pattern of the request is held against each name.
TEST(KvCommands, APatternOfStarsTakesNoLonger) {
  testing::Watchdog watchdog(60);
  testing::run(testing::Program{}, [] {
    auto client = std::make_unique<Asker>();
    std::string request = "config get";
    for (int i = 0; i < 1000; ++i) {
      request += ' ';
      for (int star = 0; star < 12; ++star) request += "*?";
      request += '!';
    }
    EXPECT_EQ(client->ask(request), "*0\r\n");
  });
}

TEST(KvCommands, ConfigTellsTheLimits) {
  testing::run(testing::Program{}, [] {
    Limits limits{.query_bytes = 3 << 20, .output_bytes = 4 << 20, .memory_bytes = 64 << 20, .clients = 7};
    limits.idle_seconds = 9;
    auto client = std::make_unique<Asker>(limits);
    for (const auto& [name, value] : {std::pair<std::string, std::string>{"maxclients", "7"},
                                      {"timeout", "9"},
                                      {"client-query-buffer-limit", std::to_string(3 << 20)},
                                      {"client-output-buffer-limit", fmt::format("normal {} 0 0", 4 << 20)},
                                      {"maxmemory-clients", std::to_string(64 << 20)},
                                      {"proto-max-bulk-len", std::to_string(limits.value_bytes())},
                                      {"requirepass", ""}})
      EXPECT_EQ(client->ask("config get " + name),
                fmt::format("*2\r\n${}\r\n{}\r\n${}\r\n{}\r\n", name.size(), name, value.size(), value));
  });
}

TEST(KvCommands, WithoutThePasswordThereIsNothingButAuth) {
  constexpr const char* kWrong = "-WRONGPASS invalid username-password pair or user is disabled.|";
  constexpr const char* kNone = "-NOAUTH Authentication required.|";
  testing::run(testing::Program{}, [&] {
    Limits limits;
    limits.password = "secret";
    auto client = std::make_unique<Asker>(limits);
    for (const Command& each : all_commands()) {
      if (each.name == "auth" || each.name == "quit") continue;
      Request request;
      request.arguments.assign(static_cast<std::size_t>(std::abs(each.arity)), "1");
      request.arguments[0] = each.name;
      EXPECT_EQ(shown(client->ask(request)), kNone) << each.name;
    }
    for (const char* wrong : {"auth secre", "auth secret1", "auth SECRET", "auth ''", "auth other secret"})
      EXPECT_EQ(shown(client->ask(wrong)), kWrong) << wrong;
    EXPECT_EQ(shown(client->ask("auth a b c")), "-ERR syntax error|");
    EXPECT_EQ(shown(client->ask("auth")), "-ERR wrong number of arguments for 'auth' command|");
    EXPECT_EQ(shown(client->ask("ping")), kNone);
    EXPECT_EQ(shown(client->ask("auth default secret")), "+OK|");
    EXPECT_EQ(shown(client->ask("ping")), "+PONG|");
    EXPECT_EQ(shown(client->ask("auth wrong")), kWrong);
    EXPECT_EQ(shown(client->ask("ping")), "+PONG|");  // as in Redis: the first AUTH still counts
  });
  expect_all({
      {"auth secret",
       "-ERR AUTH <password> called without any password configured for the default user. Are you sure your "
       "configuration is correct?|"},
      {"auth default anything", "+OK|"},
      {"auth other anything", kWrong},
  });
}

// Every command that can answer with more than it was asked with.
TEST(KvCommands, NoReplyIsBuiltBeyondTheLimit) {
  testing::run(testing::Program{}, [] {
    auto client = std::make_unique<Asker>(Limits{.output_bytes = 1 << 20});
    const std::string value(100'000, 'v');
    for (int i = 0; i < 50; ++i) EXPECT_NE(client->ask(Request{{"rpush", "l", value}, {}}), "") << "this one is short";
    EXPECT_EQ(client->ask(Request{{"set", "m", value}, {}}), "+OK\r\n");
    Request info{{"command", "info"}, {}}, docs{{"command", "docs"}, {}}, mget{{"mget"}, {}};
    Request keys{{"command", "getkeys", "del"}, {}};
    for (int i = 0; i < 20'000; ++i) info.arguments.push_back("get"), docs.arguments.push_back("get");
    for (int i = 0; i < 20; ++i) mget.arguments.push_back("m"), keys.arguments.push_back(value);
    for (const Request& request :
         {info, docs, mget, keys, Request{{"lrange", "l", "0", "-1"}, {}}, Request{{"lpop", "l", "40"}, {}}}) {
      EXPECT_EQ(client->ask(request), "") << request.arguments[0] << ' ' << request.arguments[1];
      EXPECT_EQ(client->pool.used(), 0u);
    }
    EXPECT_EQ(client->ask("lrange l 0 0").size(), value.size() + 15);  // what is asked for in its place is there
    std::int64_t left = 0;
    const std::string length = client->ask("llen l");
    ASSERT_TRUE(parse_integer(std::string_view(length).substr(1, length.size() - 3), left));
    EXPECT_GT(left, 35);  // an item that did not fit is still there
    const std::string big(2 << 20, 'v');
    EXPECT_EQ(client->ask(Request{{"echo", big}, {}}), "");
    EXPECT_EQ(client->ask(Request{{"ping", big}, {}}), "");
  });
}

TEST(KvCommands, CommandTellsAboutCommands) {
  expect_all({
      {"command foo", "-ERR unknown subcommand 'foo'. Try COMMAND HELP.|"},
      {"command count x", "-ERR wrong number of arguments for 'command|count' command|"},
      {"command info get nope", "*2|*10|$3|get|:2|*2|+readonly|+fast|:1|:1|:1|*3|+@read|+@string|+@fast|*0|*0|*0|$-1|"},
      {"command docs get", "*2|$3|get|*6|$7|summary|$22|Get the value of a key|$5|since|$5|1.0.0|$5|group|$6|string|"},
      {"command docs nope", "*0|"},
      {"command getkeys mset a 1 b 2", "*2|$1|a|$1|b|"},
      {"command getkeys get a", "*1|$1|a|"},
      {"command getkeys ping", "-ERR The command has no key arguments|"},
      {"command getkeys nope x", "-ERR Invalid command specified|"},
      {"command getkeys get a b", "-ERR Invalid number of arguments specified for command|"},
  });
  testing::run(testing::Program{}, [] {
    auto client = std::make_unique<Asker>();
    const std::string count = std::to_string(all_commands().size());
    EXPECT_EQ(client->ask("command count"), ":" + count + "\r\n");
    for (const char* each : {"command", "command info", "command list"}) {
      const std::string reply = client->ask(each);
      EXPECT_EQ(reply.substr(0, count.size() + 3), "*" + count + "\r\n") << each;
      EXPECT_EQ(reply_length(reply), reply.size()) << each;
    }
    const std::string docs = client->ask("command docs");
    EXPECT_EQ(reply_length(docs), docs.size());
  });
}

TEST(KvCommands, EachStoreHashesInItsOwnWay) {
  testing::run(testing::Program{}, [] {
    Store one, other;
    EXPECT_EQ(one.hash_of("key"), one.hash_of("key"));
    int same = 0;
    for (int i = 0; i < 64; ++i) same += one.hash_of(std::to_string(i)) == other.hash_of(std::to_string(i)) ? 1 : 0;
    EXPECT_LT(same, 64);
  });
}

}  // namespace
}  // namespace gearbox::workloads::kv
