// The switch alone, then the ways in which one goroutine makes room for another.
#include "bench/program.h"
#include "runtime/context.h"

namespace gearbox::bench {
namespace {

#if !GEARBOX_ASAN && !GEARBOX_TSAN  // a bare stack is unknown to the sanitizers
struct Pair {
  Context here, there;
};
Pair* pair_of_stacks = nullptr;  // for the entry below, which gets no argument

[[gnu::noinline]] void other_side() {
  for (;;) switch_context(&pair_of_stacks->there, &pair_of_stacks->here);
}

// Two switches an iteration, one in each direction.
void raw_switch(benchmark::State& state) {
  alignas(16) static char stack[16384];
  Pair pair;
  pair_of_stacks = &pair;
  auto* top = reinterpret_cast<std::uintptr_t*>(stack + sizeof(stack) - 24);
  *top = 0;
  pair.there.sp = top;
  pair.there.pc = reinterpret_cast<void*>(&other_side);
  for (auto _ : state) {
    switch_context(&pair.here, &pair.there);
    switch_context(&pair.here, &pair.there);
  }
  state.SetItemsProcessed(state.iterations() * 4);
}
BENCHMARK(raw_switch);

// The floor: stack pointer and place to go on are kept and nothing else, nothing is declared lost but the register that is
// used. rdi holds this side's two words and rsi the other's, all the time.
[[gnu::naked, gnu::noinline]] void bare_other_side() {
  asm volatile(
      "1:\n\t"
      "leaq 2f(%rip), %rax\n\t"
      "movq %rsp, 0(%rsi)\n\t"
      "movq %rax, 8(%rsi)\n\t"
      "movq 0(%rdi), %rsp\n\t"
      "jmpq *8(%rdi)\n\t"
      "2:\n\t"
      "jmp 1b\n\t");
}
// Two switches an iteration.
void bare_switch_loop(benchmark::State& state) {
  alignas(16) static char stack[4096];
  struct Side {
    void* sp;
    void* pc;
  } here{}, there{stack + sizeof(stack) - 64, reinterpret_cast<void*>(&bare_other_side)};
  for (auto _ : state) {
    asm volatile(
        "leaq 1f(%%rip), %%rax\n\t"
        "movq %%rsp, 0(%0)\n\t"
        "movq %%rax, 8(%0)\n\t"
        "movq 0(%1), %%rsp\n\t"
        "jmpq *8(%1)\n\t"
        "1:\n\t"
        :
        : "D"(&here), "S"(&there)
        : "rax", "memory", "cc");
  }
  state.SetItemsProcessed(state.iterations() * 2);
}
BENCHMARK(bare_switch_loop);
#endif

// Two goroutines that yield to each other: an iteration is two switches.
void yield(benchmark::State& state, Choice choice) {
  in_program(state, choice, [](benchmark::State& s) {
    bool stop = false;
    const auto done = make_chan<int>();
    go([&] {
      while (!stop) gosched();
      done.send(1);
    });
    for (auto _ : s) gosched();
    stop = true;
    done.recv();
    s.SetItemsProcessed(s.iterations() * 2);
  });
}
BENCHMARK_CAPTURE(yield, gmp_1p, Choice{})->UseRealTime();
BENCHMARK_CAPTURE(yield, gmp_local_1p, Choice{.scheduler = "gmp:yield_to=local"})->UseRealTime();
BENCHMARK_CAPTURE(yield, global_queue_1p, Choice{.scheduler = "global_queue"})->UseRealTime();
BENCHMARK_CAPTURE(yield, null_1p,
                  Choice{.scheduler = "null", .allocator = "bump", .collector = "none", .poller = "null"})
    ->UseRealTime();

// 100 goroutines an iteration, joined by a WaitGroup.
void spawn_join(benchmark::State& state, Choice choice) {
  in_program(state, choice, [](benchmark::State& s) {
    for (auto _ : s) {
      WaitGroup group;
      group.add(100);
      for (int i = 0; i < 100; ++i) go([&group] { group.done(); });
      group.wait();
    }
    s.SetItemsProcessed(s.iterations() * 100);
  });
}
BENCHMARK_CAPTURE(spawn_join, gmp_1p, Choice{})->UseRealTime();
BENCHMARK_CAPTURE(spawn_join, gmp_2p, Choice{.procs = 2})->UseRealTime();
BENCHMARK_CAPTURE(spawn_join, global_queue_1p, Choice{.scheduler = "global_queue"})->UseRealTime();

void mutex_contended(benchmark::State& state) {
  in_program(state, Choice{.procs = 2}, [](benchmark::State& s) {
    GoMutex mutex;
    std::uint64_t counter = 0;
    for (auto _ : s) {
      WaitGroup group;
      group.add(8);
      for (int i = 0; i < 8; ++i)
        go([&] {
          for (int k = 0; k < 1000; ++k) {
            mutex.lock();
            ++counter;
            mutex.unlock();
          }
          group.done();
        });
      group.wait();
    }
    s.SetItemsProcessed(s.iterations() * 8000);
  });
}
BENCHMARK(mutex_contended)->UseRealTime();

}  // namespace
}  // namespace gearbox::bench
