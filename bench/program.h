// Runs a benchmark's loop inside a runtime: on the first goroutine, with gears chosen by name, as a user reaches them.
#pragma once

#include <benchmark/benchmark.h>

#include <string_view>

#include "runtime/api.h"
#include "runtime/boot.h"

namespace gearbox::bench {

struct Choice {
  std::string_view scheduler = "gmp", allocator = "size_class", collector = "concurrent", poller = "epoll";
  std::uint64_t procs = 1;
};

template <class Entry>
Entry pick(std::vector<Entry> all, std::string_view name) {
  for (Entry& e : all)
    if (e.name == name) return e;
  GEARBOX_PANIC("no member is called '{}'", name);
}

// f(state) on a goroutine. Real time: the work may move between threads.
template <class F>
void in_program(benchmark::State& state, const Choice& choice, F f) {
  RuntimeOptions options;
  options.procs = choice.procs;
  GearSet gears{pick(all_schedulers(), choice.scheduler),
                pick(all_allocators(), choice.allocator),
                pick(all_collectors(), choice.collector),
                pick(all_pollers(), choice.poller),
                nullptr,
                nullptr,
                nullptr,
                nullptr};
  gears.scheduler_options = gears.scheduler.make_options();
  gears.allocator_options = gears.allocator.make_options();
  gears.collector_options = gears.collector.make_options();
  gears.poller_options = gears.poller.make_options();
  auto result = run_program(options, gears, [&] { f(state); });
  if (!result) state.SkipWithError(result.error().message.c_str());
}

}  // namespace gearbox::bench
