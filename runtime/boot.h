// Boot: from four registry entries to a running first goroutine, and back. This is all of the runtime that the harness
// sees.
//
// The order is the original's: entry -> schedinit (allocator, collector, scheduler, poller made; signals armed; nothing
// has run yet) -> a first goroutine runs the registered init functions in dependency order, then main -> main returns,
// and the runtime stops whatever other goroutines do. With `trace` each step is printed with its time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/histogram.h"
#include "base/result.h"
#include "base/utilization.h"
#include "interfaces/option.h"
#include "interfaces/registry.h"

namespace gearbox {

// The fixed part's own options: text form `--runtime stack_kib=64,heap_mib=16384`.
struct RuntimeOptions {
  std::uint64_t procs = 0;  // 0: one P per CPU this process may use. Set by --procs, so not visited
  bool trace = false;       // print the boot trace. Set by --boot-trace, so not visited
  std::uint64_t stack_kib = 64;
  std::uint64_t heap_mib = 32768;
  bool stack_colour = true;
  enum class Guard : std::uint8_t { kAuto, kInstall, kMprotect, kNone } guard = Guard::kAuto;
  bool sysmon = true;
  std::uint64_t slice_us = 10000;
  enum class Preempt : std::uint8_t { kOff, kFlag, kSignal } preempt = Preempt::kSignal;
  std::uint64_t frozen_max = 1000;
  std::uint64_t seed = 1;
  std::uint64_t stress_alloc = 0;
  bool checkmark = false;

  void visit(OptionVisitor& v) {
    v.field("stack_kib", stack_kib, {16, 8192},
            "KiB reserved for each goroutine's stack, guard page included. Pages are committed when touched.");
    v.field("heap_mib", heap_mib, {64, 1048576},
            "MiB of address space reserved for the collected heap. A full heap is reported as out of memory.");
    v.field("stack_colour", stack_colour,
            "Start stacks at different offsets in their first page, so that they do not fight for one cache set.");
    v.field("guard", guard, {"auto", "install", "mprotect", "none"},
            "How a stack's guard page is made. auto: MADV_GUARD_INSTALL where the kernel has it, else mprotect.");
    v.field("sysmon", sysmon,
            "Run the monitor thread: takes Ps back from blocked system calls, preempts long runners, polls when nobody "
            "does.");
    v.field("slice_us", slice_us, {10, 1000000},
            "Microseconds a goroutine may run before sysmon asks it to yield at its next safepoint.");
    v.field("preempt", preempt, {"off", "flag", "signal"},
            "How a goroutine is made to yield, and to stop. signal: asked at safepoints, and where none comes, "
            "interrupted (SIGURG). flag: at safepoints only. off: slices never end by request; stops use the flag.");
    v.field("frozen_max", frozen_max, {0, 4000},
            "Goroutines at a time that may wait for their turn on threads of their own, since they were interrupted. "
            "One more keeps its P for another slice.");
    v.field("seed", seed, {0, UINT64_MAX},
            "Seed of every random choice the runtime makes (select order, victim order).");
    v.field("stress_alloc", stress_alloc, {0, 1000000000},
            "Stress: force a collection at every N-th allocation refill. 0 is off.");
    v.field("checkmark", checkmark,
            "Verify: after every mark, mark again in a pause and die, naming object and path, if anything reachable "
            "was missed.");
  }
};

// One combination: four entries with their option sets. Owned by the caller, which keeps it alive until run_program()
// returns.
struct GearSet {
  SchedulerEntry scheduler;
  AllocatorEntry allocator;
  CollectorEntry collector;
  PollerEntry poller;
  std::unique_ptr<OptionSet> scheduler_options, allocator_options, collector_options, poller_options;
};

// What the runtime saw, collected when main has returned.
struct RunStats {
  std::uint64_t procs = 0;  // Ps in use at the end
  std::uint64_t gc_cycles = 0;
  std::int64_t gc_cpu_ns = 0;           // CPU spent in the collector: pauses, workers, assists, sweep
  std::uint64_t allocated_bytes = 0;    // handed out over the whole run
  std::uint64_t allocated_objects = 0;  // 0 when the allocator does not count them
  std::uint64_t peak_heap_bytes = 0;    // largest heap in use seen at a collection or refill
  Histogram gc_pause_ns;                // world stopped, per pause
  Histogram time_to_stop_ns;            // from the request until every P had stopped
  std::vector<Interval> stops;          // in order, each from its request until the world was released
  std::uint64_t stops_left_out = 0;     // those after the first million
  Interval main_ns{0, 0};               // when main began, and when it returned
  Histogram pause_seen_ns;              // per stop and goroutine held: from the request until that goroutine went on
  struct Counter {
    std::string name;  // "scheduler.steals"
    std::uint64_t value;
    std::string text;
  };
  std::vector<Counter> counters;  // of the four gears and of the runtime
  std::string guard_kind;         // "install", "mprotect" or "none": what was used
};

// Boots, runs `main` on the first goroutine, stops. Blocks the calling thread, which runs nothing itself. Returns when
// main has, whatever other goroutines do: one that cannot be stopped within a second is left behind with all the runtime.
// Several runtimes may exist one after another, and at the same time in different threads. An Error when a gear is refused by
// this machine (error_number says why) or memory cannot be reserved; then nothing has run. An unrecovered panic and
// "all goroutines are asleep" do not return: they print Go's message and exit the process with 2.
Result<RunStats> run_program(const RuntimeOptions& options, const GearSet& gears, std::function<void()> main);

}  // namespace gearbox
