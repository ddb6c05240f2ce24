// Runs a body on the first goroutine of a runtime with gears chosen by name, and fails the test if the runtime is
// refused.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "runtime/api.h"
#include "runtime/boot.h"
#include "tests/procs.h"
#include "tests/sanitized.h"

namespace gearbox::testing {

struct Program {
  std::string scheduler = "gmp", allocator = "size_class", collector = "concurrent", poller = "null";
  RuntimeOptions options{};
  bool exactly = false;  // the test is about this number of Ps (tests/procs.h)
  Program& procs(std::uint64_t n) {
    options.procs = n;
    return *this;
  }
};

template <class Entry>
Entry pick(std::vector<Entry> all, const std::string& name) {
  for (Entry& e : all)
    if (e.name == name) return e;
  ADD_FAILURE() << "no member is called " << name;
  return all.front();
}

inline GearSet gears_of(const Program& setup) {
  GearSet gears{pick(all_schedulers(), setup.scheduler),
                pick(all_allocators(), setup.allocator),
                pick(all_collectors(), setup.collector),
                pick(all_pollers(), setup.poller),
                nullptr,
                nullptr,
                nullptr,
                nullptr};
  gears.scheduler_options = gears.scheduler.make_options();
  gears.allocator_options = gears.allocator.make_options();
  gears.collector_options = gears.collector.make_options();
  gears.poller_options = gears.poller.make_options();
  return gears;
}

inline RunStats run(const Program& setup, std::function<void()> body) {
  const GearSet gears = gears_of(setup);
  RuntimeOptions options = setup.options;
  if (!setup.exactly) options.procs = several_procs(options.procs, gears.scheduler.traits.max_procs);
  auto result = run_program(options, gears, std::move(body));
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
  return result.ok() ? std::move(result).value() : RunStats{};
}

}  // namespace gearbox::testing
