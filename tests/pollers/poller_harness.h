// What the poller tests share: gears by name, a program on them, and a watchdog that turns a hang into a failure.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "interfaces/registry.h"
#include "runtime/boot.h"
#include "tests/procs.h"

namespace gearbox::testing {

// Sets one option by name; integers and the index of a level alike.
class SetOption final : public OptionVisitor {
 public:
  SetOption(std::string name, std::uint64_t value) : name_(std::move(name)), value_(value) {}
  bool found = false;

 private:
  void integer(std::string_view name, std::uint64_t& value, Range, std::string_view) override {
    if (name == name_) value = value_, found = true;
  }
  void flag(std::string_view name, bool& value, std::string_view) override {
    if (name == name_) value = value_ != 0, found = true;
  }
  void choice(std::string_view name, std::size_t& index, const std::vector<std::string>&, std::string_view) override {
    if (name == name_) index = value_, found = true;
  }
  std::string name_;
  std::uint64_t value_;
};

struct PollerCase {
  std::string poller;
  std::vector<std::pair<std::string, std::uint64_t>> options;
  std::string name() const {
    std::string out = poller;
    for (const auto& [option, value] : options) out += "_" + option + "_" + std::to_string(value);
    return out;
  }
};

// Every real poller, with its defaults and with each option at every level or both ends.
inline std::vector<PollerCase> all_cases() {
  struct Ends final : OptionVisitor {
    explicit Ends(std::string poller) : poller(std::move(poller)) {}
    void integer(std::string_view name, std::uint64_t&, Range range, std::string_view) override {
      cases.push_back({poller, {{std::string(name), range.low}}});
      cases.push_back({poller, {{std::string(name), range.high}}});
    }
    void flag(std::string_view name, bool& value, std::string_view) override {
      cases.push_back({poller, {{std::string(name), value ? 0u : 1u}}});
    }
    void choice(std::string_view name, std::size_t& index, const std::vector<std::string>& levels,
                std::string_view) override {
      for (std::size_t i = 0; i < levels.size(); ++i)
        if (i != index) cases.push_back({poller, {{std::string(name), i}}});
    }
    std::string poller;
    std::vector<PollerCase> cases;
  };
  std::vector<PollerCase> out;
  for (const auto& entry : all_pollers()) {
    if (!entry.traits.real_io) continue;
    out.push_back({std::string(entry.name), {}});
    Ends ends{std::string(entry.name)};
    entry.make_options()->visit(ends);
    for (auto& each : ends.cases) out.push_back(std::move(each));
  }
  return out;
}

inline PollerEntry poller_named(const std::string& name) {
  for (auto& entry : all_pollers())
    if (entry.name == name) return entry;
  ADD_FAILURE() << "there is no poller " << name;
  return all_pollers().front();
}
inline std::unique_ptr<OptionSet> options_of(const PollerEntry& entry, const PollerCase& which) {
  auto options = entry.make_options();
  for (const auto& [name, value] : which.options) {
    SetOption set(name, value);
    options->visit(set);
    EXPECT_TRUE(set.found) << name;
  }
  return options;
}

template <class Entry>
Entry named(std::vector<Entry> all, std::string_view name) {
  for (auto& entry : all)
    if (entry.name == name) return entry;
  ADD_FAILURE() << "there is no gear " << name;
  return all.front();
}

inline GearSet gears_with(const PollerCase& which) {
  GearSet gears;
  gears.scheduler = named(all_schedulers(), "gmp");
  gears.allocator = named(all_allocators(), "size_class");
  gears.collector = named(all_collectors(), "stw");
  gears.poller = poller_named(which.poller);
  gears.scheduler_options = gears.scheduler.make_options();
  gears.allocator_options = gears.allocator.make_options();
  gears.collector_options = gears.collector.make_options();
  gears.poller_options = options_of(gears.poller, which);
  return gears;
}

// A test that hangs ends the process with a name on its lips, sanitizers or not.
class Watchdog {
 public:
  explicit Watchdog(unsigned seconds = 120) {
    ::signal(SIGALRM, [](int) {
      constexpr char kText[] = "watchdog: the test hangs\n";
      [[maybe_unused]] const auto ignored = ::write(2, kText, sizeof(kText) - 1);
      ::abort();
    });
    ::alarm(seconds);
  }
  ~Watchdog() { ::alarm(0); }
};

inline void run_on(const PollerCase& which, std::function<void()> main, std::uint64_t procs = 2) {
  Watchdog watchdog;
  RuntimeOptions options;
  options.procs = several_procs(procs);
  options.heap_mib = 256;
  const GearSet gears = gears_with(which);
  bool ran = false;
  auto stats = run_program(options, gears, [&] {
    main();
    ran = true;
  });
  ASSERT_TRUE(stats) << stats.error().message;
  EXPECT_TRUE(ran);
}

}  // namespace gearbox::testing
