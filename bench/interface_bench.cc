// One pass through each interface with its null member: what exchangeability itself costs.
#include "bench/program.h"

namespace gearbox::bench {
namespace {

const Choice kNull{.scheduler = "null", .allocator = "bump", .collector = "none", .poller = "null"};

// enqueue and pick_local of one G.
void scheduler_pass(benchmark::State& state) {
  in_program(state, kNull, [](benchmark::State& s) {
    Scheduler& scheduler = current_runtime().scheduler();
    G g;
    g.status.store(GStatus::kRunnable);
    const PId p = current_p()->id;
    bool inherit = false;
    for (auto _ : s) {
      scheduler.enqueue(&g, p, Why::kReadied);
      benchmark::DoNotOptimize(scheduler.pick_local(p, inherit));
    }
  });
}
BENCHMARK(scheduler_pass)->UseRealTime();

// One refill of the smallest window, emptied again so that the next one is a refill too.
void allocator_pass(benchmark::State& state) {
  in_program(state, kNull, [](benchmark::State& s) {
    Allocator& allocator = current_runtime().allocator();
    P& p = *current_p();
    for (auto _ : s) {
      benchmark::DoNotOptimize(allocator.refill(p, kNoscanWindow, nullptr, 16));
      p.cache.windows[kNoscanWindow].free = 0;
    }
  });
}
BENCHMARK(allocator_pass)->UseRealTime()->Iterations(1'000'000);  // bump never frees: bounded

void collector_pass(benchmark::State& state) {
  in_program(state, kNull, [](benchmark::State& s) {
    Collector& collector = current_runtime().collector();
    for (auto _ : s) collector.on_refill(16);
  });
}
BENCHMARK(collector_pass)->UseRealTime();

// begin() of a write of 64 bytes, complete at once, and an empty poll.
void poller_pass(benchmark::State& state) {
  in_program(state, kNull, [](benchmark::State& s) {
    Poller& poller = current_runtime().poller();
    Conn conn;
    char buffer[64] = {};
    GList ready;
    for (auto _ : s) {
      Op op;
      op.verb = Verb::kWrite;
      op.conn = &conn;
      op.buffer = buffer;
      op.bytes = sizeof(buffer);
      benchmark::DoNotOptimize(poller.begin(op, 0));
      benchmark::DoNotOptimize(poller.poll(0, 0, 1, ready));
    }
  });
}
BENCHMARK(poller_pass)->UseRealTime();

}  // namespace
}  // namespace gearbox::bench
