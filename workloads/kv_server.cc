// kv_server: a server that speaks Redis's protocol, driven by the real redis-benchmark.
//
// Idea.       An application and not a microbenchmark: keys and values on the collected heap, requests parsed and
//             answered in batches, two goroutines a connection so that a client which sends without reading does not
//             stand still. The client is the one everybody uses for Redis, in a process of its own, so the server
//             cannot know what it is measured with.
// Structure.  kv_server/resp, replies: the protocol. kv_server/limits: what clients may take. kv_server/store: the data. kv_server/data_commands, server_commands: what
//             commands do; kv_server/commands: their table. kv_server/connection: reading, queueing, sending.
//             kv_server/server: the accepter. Here: the child process, and a client of our own that checks answers,
//             before and after.
// Checks.     Known keys come back; counters incremented by many connections at once sum up; lists keep their order;
//             DBSIZE counts; redis-benchmark ends with 0 and a line for each test. While it runs, a probe asks for a
//             known key: `latency`, from the moment the question was due, one every millisecond, whether or not the
//             one before had been answered by then. So a server that stands still for a while is charged for every
//             question that fell into it.
// Rejected.   Only our own load generator: it would share the process's scheduler and poller with the server.
// Weak spot.  redis-benchmark is one thread: on two cores it, not the server, is the limit of many tests. With auth=on
//             it is given the password on its command line, where other users of the machine can see it: it has no
//             other way.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/os/file.h"
#include "base/os/interrupt.h"
#include "base/os/process.h"
#include "base/os/socket.h"
#include "interfaces/workload.h"
#include "runtime/api.h"
#include "workloads/kv_server/server.h"

namespace gearbox::workloads {
namespace {

struct Params {
  enum class Bind : std::uint8_t { kLoopback, kAny } bind = Bind::kLoopback;
  enum class Tests : std::uint8_t { kAll, kStrings, kGet } tests = Tests::kAll;
  std::uint64_t port = 0;
  bool serve = false;
  std::uint64_t connections = 50;
  std::uint64_t requests = 200'000;
  std::uint64_t pipeline = 16;
  std::uint64_t keyspace = 100'000;
  std::uint64_t value_bytes = 32;
  bool auth = false;
  std::uint64_t max_clients = 10'000;
  std::uint64_t idle_s = 300;
  std::uint64_t query_mib = 256;
  std::uint64_t output_mib = 256;
  std::uint64_t client_memory_mib = 1024;

  void visit(OptionVisitor& v) {
    v.field("port", port, {0, 65535}, "TCP port. 0: any free one.");
    v.field("bind", bind, {"loopback", "any"},
            "Who may connect: this machine, or everybody who can reach it. any needs auth=on.");
    v.field("auth", auth,
            "Clients must know the password (AUTH; Redis's requirepass). It comes from the environment: "
            "GEARBOX_KV_PASSWORD.");
    v.field("serve", serve, "Serve until SIGINT or SIGTERM instead of running redis-benchmark.");
    v.field("tests", tests, {"all", "strings", "get"},
            "Tests of redis-benchmark. all: set,get,incr,lpush,mset; strings: set,get; get: get.");
    v.field("connections", connections, {1, 10'000}, "Connections of redis-benchmark.");
    v.field("requests", requests, {1, 1'000'000'000}, "Requests of each test.");
    v.field("pipeline", pipeline, {1, 1024}, "Requests sent before their replies are awaited.");
    v.field("keyspace", keyspace, {1, 100'000'000}, "Different keys the tests choose from.");
    v.field("value_bytes", value_bytes, {1, 1 << 20}, "Bytes of a value.");
    v.field("max_clients", max_clients, {1, 65'536}, "Connections at a time; the next one is told so and closed.");
    v.field("idle_s", idle_s, {0, 86'400}, "Seconds after which a silent connection is closed. 0: never.");
    v.field("query_mib", query_mib, {2, 65'536},
            "MiB of a request. The longest value follows from this and the next two.");
    v.field("output_mib", output_mib, {2, 65'536},
            "MiB of a connection's replies that are built or wait to be read; past it the connection is closed.");
    v.field("client_memory_mib", client_memory_mib, {4, 1 << 20},
            "MiB of the requests and replies of all connections; on top come 128 KiB for each connection.");
  }
};

constexpr const char* kPasswordVariable = "GEARBOX_KV_PASSWORD";  // not an option: options end up in records and in ps
constexpr std::string_view kTestNames[] = {"set,get,incr,lpush,mset", "set,get", "get"};
constexpr std::size_t kTestCounts[] = {5, 2, 1};

// ---- a client for the checks

class Client {
 public:
  Client(const std::string& address, const std::string& password) {
    if (auto conn = net::dial(address)) conn_ = *conn;
    if (!password.empty()) ask({"AUTH", password});
  }
  ~Client() {
    if (conn_) conn_.close();
  }
  // The reply as it came, or "" when the connection broke.
  std::string ask(std::initializer_list<std::string_view> arguments) {
    if (!conn_ || !conn_.write(kv::encode(arguments)).ok()) return "";
    for (;;) {
      if (const std::size_t length = kv::reply_length(input_); length > 0) {
        std::string reply = input_.substr(0, length);
        input_.erase(0, length);
        return reply;
      }
      char bytes[4096];
      const auto got = conn_.read(bytes);
      if (got.bytes == 0) return "";
      input_.append(bytes, got.bytes);
    }
  }

 private:
  net::Conn conn_;
  std::string input_;
};

std::string visible(std::string_view reply) {
  std::string out;
  for (const char c : reply.substr(0, 120))
    out += c == '\r' ? std::string("\\r") : c == '\n' ? std::string("\\n") : std::string(1, c);
  return out;
}

void check_answers(const std::string& address, const std::string& password, Report& report) {
  Client client(address, password);
  std::string wrong;
  const auto expect = [&](std::initializer_list<std::string_view> request, std::string_view expected) {
    const std::string found = client.ask(request);
    if (found == expected || !wrong.empty()) return;
    for (const auto& word : request) (wrong += word.substr(0, 40)) += ' ';
    wrong += "-> " + visible(found) + ", expected " + visible(expected);
  };
  expect({"PING"}, "+PONG\r\n");
  expect({"FLUSHALL"}, "+OK\r\n");
  constexpr int kKeys = 200;
  for (int i = 0; i < kKeys; ++i)
    expect({"SET", fmt::format("check:{}", i), fmt::format("value {}", i * i)}, "+OK\r\n");
  for (int i = 0; i < kKeys; ++i) {
    const std::string value = fmt::format("value {}", i * i);
    expect({"GET", fmt::format("check:{}", i)}, fmt::format("${}\r\n{}\r\n", value.size(), value));
  }
  expect({"DBSIZE"}, fmt::format(":{}\r\n", kKeys));
  expect({"GET", "check:none"}, "$-1\r\n");
  expect({"RPUSH", "check:list", "b", "c"}, ":2\r\n");
  expect({"LPUSH", "check:list", "a"}, ":3\r\n");
  expect({"LRANGE", "check:list", "0", "-1"}, "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
  expect({"INCR", "check:list"}, "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
  expect({"DEL", "check:list", "check:none"}, ":1\r\n");
  report.check("answers", wrong.empty(), wrong);

  constexpr int kCounters = 8, kEach = 250;
  WaitGroup done;
  for (int i = 0; i < kCounters; ++i) {
    done.add(1);
    go([&] {
      Client one(address, password);
      for (int n = 0; n < kEach; ++n) one.ask({"INCR", "check:sum"});
      done.done();
    });
  }
  done.wait();
  const std::string sum = std::to_string(kCounters * kEach);
  report.check_equal("counter incremented by eight connections", visible(client.ask({"GET", "check:sum"})),
                     visible(fmt::format("${}\r\n{}\r\n", sum.size(), sum)));
}

// Asks for one key while the benchmark runs, on a schedule of its own (Checks, above).
void probe(const std::string& address, const std::string& password, const std::atomic<bool>& stop, Histogram& latency,
           std::uint64_t& wrong) {
  Client client(address, password);
  for (std::int64_t due = now_ns(); !stop.load(std::memory_order_acquire); due += kMillisecond) {
    if (const std::int64_t early = due - now_ns(); early > 0) sleep(early);
    if (client.ask({"GET", "check:7"}) != "$8\r\nvalue 49\r\n") ++wrong;
    latency.record(static_cast<std::uint64_t>(std::max<std::int64_t>(now_ns() - due, 0)));
  }
}

// ---- redis-benchmark

std::string find_benchmark() {
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    const std::size_t colon = std::min(rest.find(':'), rest.size());
    const std::filesystem::path file = std::filesystem::path(rest.substr(0, colon)) / "redis-benchmark";
    std::error_code ignored;
    if (std::filesystem::is_regular_file(file, ignored)) return file.string();
    rest.remove_prefix(std::min(colon + 1, rest.size()));
  }
  return "";
}

// Runs the program; its standard output comes through the poller. Error: it could not be started, or did not end well.
Result<std::string> run_benchmark(const std::string& program, const Params& params, const std::string& address,
                                  const std::string& password) {
  int ends[2];
  if (const int made = os::socket_pair(ends); made < 0) return os_error("socketpair", -made);
  os::set_blocking(ends[1], true);
  os::SpawnRequest request;
  const std::size_t colon = address.rfind(':');
  request.arguments = {program,
                       "-h",
                       "127.0.0.1",
                       "-p",
                       address.substr(colon + 1),
                       "-t",
                       std::string(kTestNames[static_cast<int>(params.tests)]),
                       "-n",
                       std::to_string(params.requests),
                       "-c",
                       std::to_string(params.connections),
                       "-P",
                       std::to_string(params.pipeline),
                       "-d",
                       std::to_string(params.value_bytes),
                       "-r",
                       std::to_string(params.keyspace),
                       "--csv"};
  if (!password.empty()) request.arguments.insert(request.arguments.end(), {"-a", password});
  request.output = ends[1];
  request.own_group = false;  // Ctrl-C and the end of a cell's group reach it, too
  auto child = os::spawn(request);
  os::close_descriptor(ends[1]);
  if (!child) {
    os::close_descriptor(ends[0]);
    return child.error();
  }
  std::string text;
  auto pipe = net::adopt(ends[0]);
  if (!pipe) {
    os::close_descriptor(ends[0]);
    os::signal_process(*child, SIGKILL);
    blocking([pid = *child] { return os::wait_for(pid, kSecond).has_value(); });
    return pipe.error();
  }
  char bytes[4096];
  for (auto got = pipe->read(bytes); got.bytes > 0; got = pipe->read(bytes)) text.append(bytes, got.bytes);
  pipe->close();
  const auto ended = blocking([pid = *child] {
    auto end = os::wait_for(pid, 10 * kSecond);
    if (end) return end;
    os::signal_process(pid, SIGKILL);
    return os::wait_for(pid, kSecond);
  });
  if (!ended || ended->signal != 0 || ended->exit_code != 0)
    return Error{fmt::format("redis-benchmark ended with code {} and signal {}: {}", ended ? ended->exit_code : -1,
                             ended ? ended->signal : 0, visible(text)),
                 0};
  return text;
}

struct Row {
  std::string test;
  double numbers[7] = {};  // rps, then milliseconds: average, min, p50, p95, p99, max
};
std::vector<Row> parse_csv(const std::string& text) {
  std::vector<Row> rows;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    std::vector<std::string> cells;
    for (std::size_t i = 0; i < line.size();) {
      const std::size_t open = line.find('"', i), close = open == std::string::npos ? open : line.find('"', open + 1);
      if (close == std::string::npos) break;
      cells.push_back(line.substr(open + 1, close - open - 1));
      i = close + 1;
    }
    if (cells.size() != 8 || cells[1] == "rps") continue;
    Row row;
    for (const char c : cells[0].substr(0, cells[0].find(' ')))
      row.test += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    for (std::size_t i = 0; i < 7; ++i) row.numbers[i] = std::strtod(cells[i + 1].c_str(), nullptr);
    rows.push_back(std::move(row));
  }
  return rows;
}

void run_load(const Params& params, const std::string& address, const std::string& password, Report& report) {
  const std::string program = find_benchmark();
  if (program.empty()) {
    report.check("redis-benchmark", false, "redis-benchmark is not on PATH: install the package redis-tools");
    return;
  }
  check_answers(address, password, report);
  std::atomic<bool> stop{false};
  Histogram latency;
  std::uint64_t wrong = 0;
  WaitGroup probing;
  probing.add(1);
  go([&] {
    probe(address, password, stop, latency, wrong);
    probing.done();
  });
  const auto text = run_benchmark(program, params, address, password);
  stop.store(true, std::memory_order_release);
  probing.wait();
  if (!text) {
    report.check("redis-benchmark", false, text.error().message);
    return;
  }
  const std::vector<Row> rows = parse_csv(*text);
  report.check("redis-benchmark", rows.size() == kTestCounts[static_cast<int>(params.tests)],
               fmt::format("{} tests in its output: {}", rows.size(), visible(*text)));
  double seconds = 0;
  for (const Row& row : rows) {
    seconds += row.numbers[0] > 0 ? static_cast<double>(params.requests) / row.numbers[0] : 0;
    report.metric(row.test + "_rate", "requests/s", "higher", row.numbers[0]);
    report.metric(row.test + "_p50", "ms", "lower", row.numbers[3]);
    report.metric(row.test + "_p95", "ms", "lower", row.numbers[4]);
    report.metric(row.test + "_p99", "ms", "lower", row.numbers[5]);
    report.metric(row.test + "_max", "ms", "lower", row.numbers[6]);
  }
  report.throughput(static_cast<double>(params.requests * rows.size()), static_cast<std::int64_t>(seconds * 1e9),
                    "requests/s");
  report.histogram("latency", "ns", std::move(latency));
  report.check_equal("wrong answers to the probe", wrong, std::uint64_t{0});
  Client client(address, password);
  std::int64_t keys = 0;
  const std::string size = client.ask({"DBSIZE"});
  const bool counted = size.size() > 3 && kv::parse_integer(std::string_view(size).substr(1, size.size() - 3), keys);
  report.check("DBSIZE after the load", counted && keys >= 201, visible(size));
}

kv::Limits limits_of(const Params& params, std::string password) {
  kv::Limits limits;
  limits.query_bytes = params.query_mib << 20;
  limits.output_bytes = params.output_mib << 20;
  limits.memory_bytes = params.client_memory_mib << 20;
  limits.clients = params.max_clients;
  limits.idle_seconds = static_cast<std::int64_t>(params.idle_s);
  limits.password = std::move(password);
  return limits;
}

void run(const Params& params, Report& report) {
  if (!net::real())
    return report.check("poller", false,
                        "kv_server needs a poller that moves bytes; this one completes everything at once");
  const std::string wanted =
      fmt::format("{}:{}", params.bind == Params::Bind::kAny ? "0.0.0.0" : "127.0.0.1", params.port);
  if (params.bind == Params::Bind::kAny && !params.auth)
    return report.check("bind", false,
                        fmt::format("bind=any listens on {}, which others can reach, and there is no password: set "
                                    "auth=on and the password in {}, or bind=loopback",
                                    wanted, kPasswordVariable));
  const char* secret = std::getenv(kPasswordVariable);
  const std::string password = params.auth && secret != nullptr ? secret : "";
  if (params.auth && password.empty())
    return report.check("auth", false,
                        fmt::format("auth=on needs the password in the environment variable {}, which is {}",
                                    kPasswordVariable, secret == nullptr ? "not set" : "empty"));
  auto listener = net::listen(wanted);
  if (!listener) return report.check("listen", false, listener.error().message);
  const std::string address = listener->address();
  auto owned =
      std::make_unique<kv::Server>(*listener, limits_of(params, password));  // too large for a goroutine's stack
  kv::Server& server = *owned;
  server.start();
  if (!params.serve) {
    run_load(params, address, password, report);
    server.stop();
    report.check("accepter", server.failure().empty(), server.failure());
    return;
  }
  auto told = os::interrupt_eventfd();
  auto told_conn = told ? net::adopt(*told) : Result<net::Conn>(told.error());
  if (!told_conn) {
    server.stop();
    return report.check("signals", false, told_conn.error().message);
  }
  const std::string line = fmt::format("kv_server: serving on {}; Ctrl-C ends it\n", address);
  os::write_all(1, line.data(), line.size());
  char count[8];
  told_conn->read(count);
  told_conn->close();
  server.stop();
  report.check("served", server.failure().empty(), server.failure().empty() ? address : server.failure());
}

}  // namespace

WorkloadEntry kv_server() {
  return make_workload<Params>(
      {.name = "kv_server",
       .summary = "A server for Redis's protocol with its data on the collected heap, under redis-benchmark."},
      run);
}

}  // namespace gearbox::workloads
