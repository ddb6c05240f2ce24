// Channel operations and select.
#include "bench/program.h"

namespace gearbox::bench {
namespace {

// An iteration is a round trip over two unbuffered channels.
void ping_pong(benchmark::State& state, Choice choice) {
  in_program(state, choice, [](benchmark::State& s) {
    const auto ping = make_chan<int>(), pong = make_chan<int>();
    go([=] {
      for (int v : ping) pong.send(v);
      pong.close();
    });
    for (auto _ : s) {
      ping.send(1);
      pong.recv();
    }
    ping.close();
  });
}
BENCHMARK_CAPTURE(ping_pong, gmp_1p, Choice{})->UseRealTime();
BENCHMARK_CAPTURE(ping_pong, gmp_2p, Choice{.procs = 2})->UseRealTime();
BENCHMARK_CAPTURE(ping_pong, global_queue_1p, Choice{.scheduler = "global_queue"})->UseRealTime();

// One value through a buffer of 128.
void buffered(benchmark::State& state, Choice choice) {
  in_program(state, choice, [](benchmark::State& s) {
    const auto channel = make_chan<int>(128);
    const auto done = make_chan<int>();
    go([=] {
      for (int v : channel) benchmark::DoNotOptimize(v);
      done.send(1);
    });
    for (auto _ : s) channel.send(1);
    channel.close();
    done.recv();
  });
}
BENCHMARK_CAPTURE(buffered, gmp_1p, Choice{})->UseRealTime();
BENCHMARK_CAPTURE(buffered, gmp_2p, Choice{.procs = 2})->UseRealTime();

// Four senders and four receivers on one channel of 128; an iteration is a value of each sender.
void buffered_4_to_4(benchmark::State& state) {
  in_program(state, Choice{.procs = 2}, [](benchmark::State& s) {
    const auto channel = make_chan<int>(128);
    const auto done = make_chan<int>();
    constexpr int kPairs = 4;
    for (int i = 0; i < kPairs; ++i)
      go([=] {
        for (int v : channel) benchmark::DoNotOptimize(v);
        done.send(1);
      });
    // The others send as many as this one will have sent: the number is known before the loop begins.
    WaitGroup senders;
    senders.add(kPairs - 1);
    const auto rounds = static_cast<std::int64_t>(s.max_iterations);
    for (int i = 1; i < kPairs; ++i)
      go([=, &senders] {
        for (std::int64_t k = 0; k < rounds; ++k) channel.send(1);
        senders.done();
      });
    while (s.KeepRunningBatch(rounds)) {  // one batch is all
      for (std::int64_t k = 0; k < rounds; ++k) channel.send(1);
      senders.wait();
    }
    channel.close();
    for (int i = 0; i < kPairs; ++i) done.recv();
    s.SetItemsProcessed(s.iterations() * kPairs);
  });
}
BENCHMARK(buffered_4_to_4)->UseRealTime();

// A send and a receive by one goroutine that never waits.
void uncontended(benchmark::State& state) {
  in_program(state, Choice{}, [](benchmark::State& s) {
    const auto channel = make_chan<int>(1);
    for (auto _ : s) {
      channel.send(1);
      benchmark::DoNotOptimize(channel.recv());
    }
  });
}
BENCHMARK(uncontended)->UseRealTime();

// Receives from whichever of two channels the partner chose.
void select_two(benchmark::State& state) {
  in_program(state, Choice{}, [](benchmark::State& s) {
    const auto a = make_chan<int>(), b = make_chan<int>(), stop = make_chan<int>();
    const auto done = make_chan<int>();
    go([=] {
      bool running = true;
      for (int i = 0; running; ++i)
        select(on_send(i % 2 == 0 ? a : b, i, [] {}), on_recv(stop, [&] { running = false; }));
      done.send(1);
    });
    for (auto _ : s)
      select(on_recv(a, [](int v) { benchmark::DoNotOptimize(v); }),
             on_recv(b, [](int v) { benchmark::DoNotOptimize(v); }));
    stop.close();
    done.recv();
  });
}
BENCHMARK(select_two)->UseRealTime();

void select_default(benchmark::State& state) {
  in_program(state, Choice{}, [](benchmark::State& s) {
    const auto a = make_chan<int>();
    for (auto _ : s) select(on_recv(a, [](int) {}), otherwise([] {}));
  });
}
BENCHMARK(select_default)->UseRealTime();

}  // namespace
}  // namespace gearbox::bench
