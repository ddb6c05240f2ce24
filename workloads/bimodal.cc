// bimodal: requests that compute, most of them shortly and a few for long, each on a goroutine of its own.
//
// Idea.     What a scheduler does with unequal work: with first come, first served and no preemption a short request waits
//           for the long one before it; with slices it waits for a slice. 99.5 % of 0.5 us and 0.5 % of 500 us is the mix
//           of Shinjuku (Kaffes et al., NSDI 2019) and Shenango (Ousterhout et al., NSDI 2019); spans here are longer,
//           since two cores and a loopback clock resolve less.
// Load.     Poisson by default (load/schedule.h): the main goroutine starts each request when it is due, and a request is
//           charged from then. arrivals=closed keeps `clients` requests under way instead.
// Work.     A chain of multiplications, counted and not timed, so that a request which loses its CPU does not get shorter.
//           How many make a microsecond is measured at the beginning, without other goroutines. No safepoint is inside: a
//           long request yields only if it is preempted.
// Checks.   Every request's chain ends at the number that the seed says; as many end as began.
#include <cmath>

#include "base/random.h"
#include "interfaces/workload.h"
#include "runtime/api.h"
#include "workloads/load/latencies.h"
#include "workloads/load/schedule.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t requests = 50'000;
  std::uint64_t short_us = 10;
  std::uint64_t long_us = 2000;
  std::uint64_t long_per_mille = 5;
  std::uint64_t clients = 16;
  load::Load load = {.arrivals = load::Arrivals::kPoisson};

  void visit(OptionVisitor& v) {
    v.field("requests", requests, {1, 100'000'000}, "Requests. Each keeps 24 bytes until the end.");
    v.field("short_us", short_us, {1, 1'000'000}, "Work of a short request, microseconds of an undisturbed CPU.");
    v.field("long_us", long_us, {1, 10'000'000}, "Work of a long one.");
    v.field("long_per_mille", long_per_mille, {0, 1000}, "Long requests of a thousand.");
    v.field("clients", clients, {1, 1'000'000},
            "Requests under way with arrivals=closed, and while the peak is measured.");
    load.visit(v);
  }
};

// The seed after `steps` links of the chain.
[[gnu::noinline]] std::uint64_t chain(std::uint64_t value, std::uint64_t steps) {
  for (std::uint64_t i = 0; i < steps; ++i) value = value * 6364136223846793005ULL + 1442695040888963407ULL;
  return value;
}
// The same without the work: x -> a x + c, done `steps` times, by squaring.
std::uint64_t chain_end(std::uint64_t value, std::uint64_t steps) {
  std::uint64_t a = 6364136223846793005ULL, c = 1442695040888963407ULL, all_a = 1, all_c = 0;
  for (; steps != 0; steps >>= 1) {
    if ((steps & 1) != 0) {
      all_a *= a;
      all_c = all_c * a + c;
    }
    c = (a + 1) * c;
    a *= a;
  }
  return all_a * value + all_c;
}

double steps_a_us() {
  constexpr std::uint64_t kSteps = 200'000;
  double best = 0;
  std::uint64_t value = 1;
  for (int i = 0; i < 20; ++i) {
    const std::int64_t began = now_ns();
    value = chain(value, kSteps);
    best = std::max(best, kSteps * 1e3 / static_cast<double>(std::max<std::int64_t>(now_ns() - began, 1)));
  }
  return value == 0 ? best + 1 : best;  // the value is used
}

struct Request {
  std::int64_t due_ns = 0, began_ns = 0, ended_ns = 0;
};

class Server {
 public:
  Server(const Params& params, double steps_a_us) : params_(params), steps_a_us_(steps_a_us) {}
  bool is_long(std::uint64_t i) const {
    std::uint64_t state = params_.load.arrival_seed + i;
    return splitmix64(state) % 1000 < params_.long_per_mille;
  }
  void serve(std::uint64_t i, Request& request) {
    const double us = static_cast<double>(is_long(i) ? params_.long_us : params_.short_us);
    const auto steps = static_cast<std::uint64_t>(us * steps_a_us_);
    request.began_ns = now_ns();
    const std::uint64_t end = chain(i, steps);
    request.ended_ns = now_ns();
    if (end != chain_end(i, steps)) wrong_.fetch_add(1, std::memory_order_relaxed);
  }
  std::uint64_t wrong() const { return wrong_.load(std::memory_order_relaxed); }

 private:
  const Params& params_;
  const double steps_a_us_;
  std::atomic<std::uint64_t> wrong_{0};
};

// Both return how long it took.
std::int64_t serve_closed(Server& server, std::vector<Request>& requests, std::uint64_t clients) {
  std::atomic<std::uint64_t> next{0};
  WaitGroup all;
  const std::int64_t began = now_ns();
  all.add(static_cast<std::int64_t>(clients));
  for (std::uint64_t client = 0; client < clients; ++client)
    go([&] {
      for (std::uint64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < requests.size();) {
        requests[i].due_ns = now_ns();
        WaitGroup one;
        one.add(1);
        go([&, i] {
          server.serve(i, requests[i]);
          one.done();
        });
        one.wait();
      }
      all.done();
    });
  all.wait();
  return now_ns() - began;
}
std::int64_t serve_open(Server& server, std::vector<Request>& requests, const load::Load& load, double rate) {
  WaitGroup all;
  const std::int64_t began = now_ns();
  load::Schedule schedule(load.arrivals, rate, began, load.arrival_seed);
  all.add(static_cast<std::int64_t>(requests.size()));
  for (std::uint64_t i = 0; i < requests.size(); ++i) {
    requests[i].due_ns = schedule.next();
    load::wait_until(requests[i].due_ns, load::Waiting::kParked);
    go([&, i] {
      server.serve(i, requests[i]);
      all.done();
    });
  }
  all.wait();
  return now_ns() - began;
}

void run(const Params& params, Report& report) {
  Server server(params, steps_a_us());
  std::vector<Request> requests(params.requests);
  std::int64_t elapsed = 0;
  if (params.load.open()) {
    double peak = 0;
    if (params.load.rate == 0) {
      std::vector<Request> few(std::max<std::size_t>(params.requests / 10, 1));
      const std::int64_t took = serve_closed(server, few, params.clients);
      peak = load::per_second(few.size(), took);
    }
    const double rate = load::rate_of(params.load, peak);
    report.metric("offered_rate", "requests/s", "higher", rate);
    elapsed = serve_open(server, requests, params.load, rate);
  } else {
    elapsed = serve_closed(server, requests, params.clients);
  }
  load::Latencies all, shorts, longs;
  std::uint64_t ended = 0;
  for (std::uint64_t i = 0; i < requests.size(); ++i) {
    const Request& request = requests[i];
    (server.is_long(i) ? longs : shorts).record(request.due_ns, request.began_ns, request.ended_ns);
    ended += request.ended_ns != 0 ? 1 : 0;
  }
  all.merge(shorts);
  all.merge(longs);
  report.throughput(static_cast<double>(params.requests), elapsed, "requests/s");
  all.report(report);
  if (shorts.charged().count() != 0)
    report.metric("short_p99", "ns", "lower", static_cast<double>(shorts.charged().percentile(99)));
  if (longs.charged().count() != 0)
    report.metric("long_p99", "ns", "lower", static_cast<double>(longs.charged().percentile(99)));
  report.check_equal("requests that ended", ended, params.requests);
  report.check_equal("wrong answers", server.wrong(), std::uint64_t{0});
}

}  // namespace

WorkloadEntry bimodal() {
  return make_workload<Params>({.name = "bimodal",
                                .summary = "Short requests beside a few long ones: how long each waits for the others.",
                                .headline = "p99"},
                               run);
}

}  // namespace gearbox::workloads
