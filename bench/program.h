// Runs a benchmark's loop inside a runtime: on the first goroutine, with gears chosen by text, as a user reaches them.
#pragma once

#include <benchmark/benchmark.h>

#include <string>

#include "harness/choice.h"
#include "runtime/api.h"
#include "runtime/boot.h"

namespace gearbox::bench {

// Texts as on the command line: "gmp", or "gmp:yield_to=local".
struct Choice {
  std::string scheduler = "gmp", allocator = "size_class", collector = "concurrent", poller = "epoll";
  std::uint64_t procs = 1;
};

// f(state) on a goroutine. Real time: the work may move between threads.
template <class F>
void in_program(benchmark::State& state, const Choice& choice, F f) {
  RuntimeOptions options;
  options.procs = choice.procs;
  auto gears = harness::make_gear_set({choice.scheduler, choice.allocator, choice.collector, choice.poller});
  if (!gears) return state.SkipWithError(gears.error().message.c_str());
  auto result = run_program(options, *gears, [&] { f(state); });
  if (!result) state.SkipWithError(result.error().message.c_str());
}

}  // namespace gearbox::bench
