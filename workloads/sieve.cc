// sieve: the prime sieve of concurrent filters, a goroutine for each prime found, each passing on what its prime does
// not divide. A long pipeline of unbuffered channels. Source: Go's test/chan/sieve1.go, after McIlroy and Hoare.
#include <vector>

#include "interfaces/workload.h"
#include "runtime/api.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t primes = 2000;

  void visit(OptionVisitor& v) {
    v.field("primes", primes, {1, 20'000}, "How many primes to find; the pipeline has as many stages.");
  }
};

// The n-th prime by trial division: what the pipeline must find.
std::uint64_t nth_prime(std::uint64_t n) {
  std::vector<std::uint64_t> found;
  for (std::uint64_t candidate = 2; found.size() < n; ++candidate) {
    bool prime = true;
    for (std::uint64_t p : found) {
      if (p * p > candidate) break;
      if (candidate % p == 0) {
        prime = false;
        break;
      }
    }
    if (prime) found.push_back(candidate);
  }
  return found.back();
}

// Selecting on `stop` in every stage would measure select; instead the generator stops at the prime everybody knows to
// be the last.
void run(const Params& params, Report& report) {
  const std::uint64_t last = nth_prime(params.primes);
  const std::int64_t began = now_ns();
  auto stage = make_chan<std::uint64_t>();
  go([stage, last] {
    for (std::uint64_t i = 2; i <= last; ++i) stage.send(i);
    stage.close();
  });
  std::uint64_t prime = 0, sum = 0, handed_on = 0;
  const auto counts = make_chan<std::uint64_t>(static_cast<std::uint32_t>(params.primes));
  for (std::uint64_t i = 0; i < params.primes; ++i) {
    prime = stage.recv();
    sum += prime;
    const auto next = make_chan<std::uint64_t>();
    go([stage, next, prime, counts] {
      std::uint64_t seen = 0;
      for (std::uint64_t candidate : stage) {
        ++seen;
        if (candidate % prime != 0) next.send(candidate);
      }
      next.close();
      counts.send(seen);
    });
    stage = next;
  }
  const bool drained = !stage.recv_ok().ok;
  for (std::uint64_t i = 0; i < params.primes; ++i) handed_on += counts.recv();
  report.throughput(static_cast<double>(handed_on + last), now_ns() - began, "messages/s");
  report.check_equal("last prime", prime, last);
  report.check("nothing left behind the last prime", drained, drained ? "drained" : "a number came through");
  report.metric("sum_of_primes", "", "higher", static_cast<double>(sum));
}

}  // namespace

WorkloadEntry sieve() {
  return make_workload<Params>(
      {.name = "sieve", .summary = "Prime sieve: a chain of filters over unbuffered channels, one goroutine a prime."},
      run);
}

}  // namespace gearbox::workloads
