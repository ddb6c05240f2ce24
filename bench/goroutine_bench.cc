// Goroutines in numbers: a goroutine a call, and a million that sleep.
#include "bench/program.h"

namespace gearbox::bench {
namespace {

void fib(std::uint64_t n, Chan<std::uint64_t> up) {
  if (n < 2) return up.send(n);
  const auto down = make_chan<std::uint64_t>(2);
  go([=] { fib(n - 1, down); });
  go([=] { fib(n - 2, down); });
  const std::uint64_t one = down.recv();
  up.send(one + down.recv());
}

// 832 039 goroutines, each of whose parents waits for two.
void fib_27(benchmark::State& state) {
  in_program(state, Choice{.procs = 2}, [](benchmark::State& s) {
    for (auto _ : s) {
      const auto up = make_chan<std::uint64_t>();
      go([=] { fib(27, up); });
      if (up.recv() != 196418) s.SkipWithError("fib(27) is wrong");
    }
  });
}
BENCHMARK(fib_27)->UseRealTime();

void sleep_million(benchmark::State& state) {
  in_program(state, Choice{.procs = 2}, [](benchmark::State& s) {
    constexpr std::int64_t kSleepers = 1'000'000;
    for (auto _ : s) {
      WaitGroup group;
      group.add(kSleepers);
      for (std::int64_t i = 0; i < kSleepers; ++i)
        go([&group] {
          gearbox::sleep(kMillisecond);
          group.done();
        });
      group.wait();
    }
    s.SetItemsProcessed(s.iterations() * kSleepers);
  });
}
BENCHMARK(sleep_million)->UseRealTime();

}  // namespace
}  // namespace gearbox::bench
