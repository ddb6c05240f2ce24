// echo: clients and a server in one process over loopback TCP. Each connection has a client goroutine that sends a
// message and waits for its echo.
//
// Measures what a round trip costs through net, poller, scheduler and kernel: two wake-ups, two sends, two receives.
// A batch that both sides' socket buffers may not hold is written by a goroutine of its own while the client reads: the
// server does not read on while nobody takes its echoes. Every byte that comes back is checked. The server's buffer is
// larger than a message, as a server's is; it does not know how long messages are.
//
// With an open load (load/schedule.h) each client writes a batch when it is due, and the round trip is charged from then.
// Where no rate is given, a closed load over a tenth of the requests says first what the peak is.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "interfaces/workload.h"
#include "runtime/api.h"
#include "workloads/load/latencies.h"
#include "workloads/load/schedule.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t connections = 64;
  std::uint64_t message_bytes = 64;
  std::uint64_t requests = 300'000;
  std::uint64_t pipeline = 1;
  load::Load load;

  void visit(OptionVisitor& v) {
    v.field("connections", connections, {1, 50'000},
            "Connections, each with a client and a server goroutine. Each needs two descriptors.");
    v.field("message_bytes", message_bytes, {1, 1 << 20}, "Bytes of a message.");
    v.field("requests", requests, {1, 1'000'000'000}, "Round trips, all connections together.");
    v.field("pipeline", pipeline, {1, 1024}, "Messages sent in one write before their echoes are awaited.");
    load.visit(v);
  }
};

constexpr std::size_t kServerBufferBytes = 4096;
// Fits into the receive window that a connection begins with: the server can always write that much back.
constexpr std::size_t kSafeBatchBytes = 32 * 1024;

void serve(const net::Conn& conn, std::size_t batch_bytes) {
  std::vector<char> buffer(std::max(kServerBufferBytes, std::min<std::size_t>(batch_bytes, 64 * 1024)));
  for (;;) {
    const net::Transfer got = conn.read(buffer);
    if (got.bytes == 0) return;
    if (!conn.write({buffer.data(), got.bytes}).ok()) return;
  }
}

struct ClientResult {
  load::Latencies latencies;
  std::uint64_t round_trips = 0, wrong_bytes = 0;
  std::string failure;
};

// Different for each connection, round and place, so that a byte from elsewhere is noticed.
void fill(std::vector<char>& message, std::uint64_t connection, std::uint64_t round) {
  std::uint64_t state = connection * 0x9e3779b97f4a7c15ULL + round;
  for (std::size_t i = 0; i < message.size(); i += sizeof(state)) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    std::memcpy(&message[i], &state, std::min(sizeof(state), message.size() - i));
  }
}

// rate: batches a second of this connection; 0 is a closed load.
void play(const net::Conn& conn, std::uint64_t connection, std::uint64_t rounds, const Params& params, double rate,
          bool real, ClientResult& out) {
  std::vector<char> message(params.message_bytes * params.pipeline), echo(message.size());
  std::optional<load::Schedule> schedule;
  if (rate > 0)
    schedule.emplace(params.load.arrivals, rate, now_ns(), params.load.arrival_seed * 1'000'003 + connection);
  for (std::uint64_t round = 0; round < rounds; round += params.pipeline) {
    fill(message, connection, round);
    const std::int64_t due = schedule ? schedule->next() : 0;
    if (schedule) load::wait_until(due, load::Waiting::kParked);
    const std::int64_t began = now_ns();
    net::Transfer put;
    WaitGroup written;
    if (message.size() <= kSafeBatchBytes) {
      put = conn.write({message.data(), message.size()});
    } else {
      written.add(1);
      go([&] {
        put = conn.write({message.data(), message.size()});
        written.done();
      });
    }
    const auto got = conn.read_full(echo);
    if (got.bytes != echo.size()) conn.close();  // the write, too, has nothing to wait for
    written.wait();
    if (got.bytes != echo.size()) {
      out.failure = got.ok() ? "the server closed the connection" : "read: " + got.error.text();
      return;
    }
    if (!put.ok()) {
      out.failure = "write: " + put.error.text();
      return;
    }
    if (real && message != echo)
      for (std::size_t i = 0; i < echo.size(); ++i) out.wrong_bytes += message[i] != echo[i] ? 1 : 0;
    const std::int64_t now = now_ns();
    for (std::uint64_t i = 0; i < params.pipeline; ++i)
      schedule ? out.latencies.record(due, began, now) : out.latencies.record_closed(began, now);
    out.round_trips += params.pipeline;
  }
}

void run(const Params& params, Report& report) {
  auto listener = net::listen("127.0.0.1:0");
  if (!listener) return report.check("listen", false, listener.error().message);
  const bool real = net::real();
  const std::uint64_t each = (params.requests + params.connections * params.pipeline - 1) /
                             (params.connections * params.pipeline) * params.pipeline;
  WaitGroup done;
  std::string accept_failure;
  const std::size_t batch_bytes = params.message_bytes * params.pipeline;
  if (real) {
    done.add(1);
    go([&, listener = *listener] {
      for (std::uint64_t i = 0; i < params.connections; ++i) {
        auto conn = listener.accept();
        if (!conn) {
          if (conn.error().error_number != ECANCELED) accept_failure = conn.error().message;
          listener.close();  // with it go the connections that wait in its queue, and so their clients
          break;
        }
        done.add(1);
        go([&done, conn = *conn, batch_bytes] {
          serve(conn, batch_bytes);
          conn.close();
          done.done();
        });
      }
      done.done();
    });
  }
  std::vector<net::Conn> clients;
  for (std::uint64_t i = 0; i < params.connections; ++i) {
    auto conn = net::dial(listener->address());
    if (!conn) {
      listener->close();
      for (const auto& made : clients) made.close();
      done.wait();
      return report.check(
          "connections", false,
          accept_failure.empty() ? conn.error().message : accept_failure + "; then " + conn.error().message);
    }
    clients.push_back(*conn);
  }
  // Returns how long it took. rate: round trips a second of all connections together; 0 is a closed load.
  const auto load_with = [&](std::uint64_t rounds, double rate, ClientResult& all) {
    std::vector<ClientResult> results(params.connections);
    WaitGroup playing;
    playing.add(static_cast<std::int64_t>(params.connections));
    const std::int64_t began = now_ns();
    for (std::uint64_t i = 0; i < params.connections; ++i) {
      go([&, i] {
        play(clients[i], i, rounds, params, rate / static_cast<double>(params.connections * params.pipeline), real,
             results[i]);
        if (!results[i].failure.empty()) clients[i].close();
        playing.done();
      });
    }
    playing.wait();
    const std::int64_t took = now_ns() - began;
    for (const auto& result : results) {
      all.latencies.merge(result.latencies);
      all.round_trips += result.round_trips;
      all.wrong_bytes += result.wrong_bytes;
      if (!result.failure.empty()) all.failure = result.failure;
    }
    return took;
  };
  ClientResult peak, all;
  double rate = 0;
  if (params.load.open()) {
    double peak_per_s = 0;
    if (params.load.rate == 0) {
      const std::uint64_t few = (each + 10 * params.pipeline - 1) / (10 * params.pipeline) * params.pipeline;
      const std::int64_t took = load_with(few, 0, peak);
      peak_per_s = load::per_second(peak.round_trips, took);
    }
    rate = load::rate_of(params.load, peak_per_s);
    report.metric("offered_rate", "round trips/s", "higher", rate);
  }
  const std::int64_t elapsed = load_with(each, rate, all);
  for (const auto& client : clients) client.close();
  done.wait();
  listener->close();
  all.wrong_bytes += peak.wrong_bytes;
  if (all.failure.empty()) all.failure = peak.failure;

  report.throughput(static_cast<double>(all.round_trips), elapsed, "round trips/s");
  all.latencies.report(report);
  report.check_equal("round trips", all.round_trips, each * params.connections);
  report.check_equal("wrong bytes", all.wrong_bytes, std::uint64_t{0});
  report.check("connections", all.failure.empty() && accept_failure.empty(),
               all.failure.empty() || accept_failure.empty() ? accept_failure + all.failure
                                                             : accept_failure + "; then " + all.failure);
}

}  // namespace

WorkloadEntry echo() {
  return make_workload<Params>(
      {.name = "echo", .summary = "Clients and an echo server in one process over loopback TCP."}, run);
}

}  // namespace gearbox::workloads
