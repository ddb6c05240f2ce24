// Boot and end. The order is the original's:
//
//   entry      options checked, heap range reserved
//   schedinit  allocator, collector, scheduler, poller made in this order; Ps made; signals armed. Nothing has run yet
//   first M    a thread of its own becomes M 0 with P 0; the caller's only waits for the end
//   first G    collector's workers, then the init functions in dependency order, then main
//   end        main returned: no collection is running, the world stops for good, every M that can leaves its loop
//
// The caller is no M: a goroutine that sits in a blocking call on M 0 must not keep it. And a goroutine that never
// reaches a safepoint cannot be stopped, nor can a collection end that waits for it: then, after a second, the runtime is
// abandoned. Its threads, and so the whole of it, are left behind (the process is about to exit; a test that does this
// leaks on purpose).
#include "runtime/boot.h"

#include <fmt/format.h>

#include "base/last_words.h"
#include "base/os/clock.h"
#include "base/os/cpu_limit.h"
#include "base/os/file.h"
#include "base/sanitize.h"
#include "runtime/fatal.h"
#include "runtime/finalizer.h"
#include "runtime/go.h"
#include "runtime/init.h"
#include "runtime/signals.h"

namespace gearbox {
namespace {

constexpr std::uintptr_t kHeapHint = 0x00c000000000;  // Go's: a bit pattern that integers and text rarely have
constexpr std::size_t kHeapAlignment = std::size_t{32} << 20;
constexpr std::int64_t kPatienceNs = 1'000'000'000;  // for what cannot be stopped, once main has returned

class BootTrace {
 public:
  BootTrace(bool on, std::int64_t began) : on_(on), began_(began), last_(os::monotonic_ns()) {}
  void step(std::string_view what) {
    if (!on_) return;
    const std::int64_t now = os::monotonic_ns();
    const std::string line = fmt::format("boot {:>9.1f} us  (+{:.1f})  {}\n", static_cast<double>(now - began_) / 1e3,
                                         static_cast<double>(now - last_) / 1e3, what);
    os::write_all(2, line.data(), line.size());
    last_ = os::monotonic_ns();
  }

 private:
  bool on_;
  std::int64_t began_, last_;
};

Result<Stacks::Guard> choose_guard(RuntimeOptions::Guard wanted) {
  switch (wanted) {
    case RuntimeOptions::Guard::kNone:
      return Stacks::Guard::kNone;
    case RuntimeOptions::Guard::kMprotect:
      return Stacks::Guard::kMprotect;
    case RuntimeOptions::Guard::kInstall:
      if (os::best_guard() != os::GuardKind::kGuardInstall)
        return Error{
            "guard=install: this kernel has no MADV_GUARD_INSTALL (it came with Linux 6.13); guard=mprotect or "
            "guard=auto works",
            EINVAL};
      return Stacks::Guard::kInstall;
    case RuntimeOptions::Guard::kAuto:
      break;
  }
  return os::best_guard() == os::GuardKind::kGuardInstall ? Stacks::Guard::kInstall : Stacks::Guard::kMprotect;
}

}  // namespace

Runtime::Runtime(const RuntimeOptions& options, Stacks::Guard guard)
    : finalizers_(std::make_unique<Finalizers>()),
      options_(options),
      stacks_(options.stack_kib * 1024, options.stack_colour, guard) {
  config_.seed = options.seed;
  config_.stress_alloc = options.stress_alloc;
  config_.checkmark = options.checkmark;
}

#if GEARBOX_ASAN
// What goroutines hold that have not ended is left, as in Go, and to the leak checker it is no leak.
GEARBOX_NO_SANITIZE("address") void Runtime::disown_what_goroutines_hold() {
  for (std::uint32_t slot = 0; slot < goroutines_.count(); ++slot) {
    Goroutine* g = goroutines_.at(slot);
    if (g->status.load(std::memory_order_relaxed) == GStatus::kDead) continue;
    __lsan_ignore_object(g->closure);
    visit_stack(
        g, [](void*, const std::uintptr_t* first, std::size_t count) __attribute__((no_sanitize("address"))) {
          for (std::size_t i = 0; i < count; ++i) __lsan_ignore_object(reinterpret_cast<const void*>(first[i]));
        },
        nullptr);
  }
}
#endif

Runtime::~Runtime() {
#if GEARBOX_ASAN
  disown_what_goroutines_hold();
#endif
  procs_.destroy_all();
  if (owns_heap_range_) os::release(reinterpret_cast<void*>(heap_.base), heap_.bytes);
}

Result<std::unique_ptr<Runtime>> Runtime::create(const RuntimeOptions& given, const GearSet& gears) {
  RuntimeOptions options = given;
  if (options.procs == 0) options.procs = static_cast<std::uint64_t>(os::cpu_limit().procs);
  if (options.procs > kMaxPs) {
    if (given.procs != 0) return Error{fmt::format("procs={}: from 1 to {}", given.procs, kMaxPs), EINVAL};
    options.procs = kMaxPs;  // more CPUs than there can be Ps
  }
  if (const std::uint32_t most = gears.scheduler.traits.max_procs; most != 0 && options.procs > most)
    return Error{fmt::format("procs={}: scheduler={} runs at most {}", options.procs, gears.scheduler.name, most),
                 EINVAL};
  const std::int64_t began = os::monotonic_ns();
  BootTrace trace(options.trace, began);
  auto guard = choose_guard(options.guard);
  if (!guard) return guard.error();
  std::unique_ptr<Runtime> runtime(new Runtime(options, *guard));
  runtime->boot_began_ns_ = began;
  trace.step(fmt::format("entry: {} Ps, stacks of {} KiB, guard pages by {}", options.procs, options.stack_kib,
                         *guard == Stacks::Guard::kInstall
                             ? "MADV_GUARD_INSTALL"
                             : (*guard == Stacks::Guard::kMprotect ? "mprotect" : "nothing")));

  Heap& heap = runtime->heap_;
  const std::size_t heap_bytes = (options.heap_mib << 20) / kHeapAlignment * kHeapAlignment;
  const auto refused = [](std::string_view kind, std::string_view name, const Error& e) {
    return Error{fmt::format("{}={} is not to be had here: {}", kind, name, e.message), e.error_number};
  };
  auto allocator = gears.allocator.make(*runtime, *gears.allocator_options);
  if (!allocator) return refused("allocator", gears.allocator.name, allocator.error());
  runtime->allocator_ = std::move(*allocator);
  heap.bytes = heap_bytes;
  auto theirs = runtime->allocator_->reserve(heap);
  if (!theirs) return refused("allocator", gears.allocator.name, theirs.error());
  if (!*theirs) {
    auto range = os::reserve(heap_bytes, kHeapHint, kHeapAlignment);
    if (!range)
      range = os::reserve(heap_bytes, 0, kHeapAlignment);  // taken by another runtime of this process: anywhere does
    if (!range) return Error{"cannot reserve the heap: " + range.error().message, range.error().error_number};
    heap.base = reinterpret_cast<std::uintptr_t>(*range);
    runtime->owns_heap_range_ = true;
  }
  trace.step(fmt::format("heap range reserved: {} MiB at {:#x}", heap.bytes >> 20, heap.base));

  if (auto started = runtime->allocator_->start(heap); !started)
    return refused("allocator", gears.allocator.name, started.error());
  trace.step(fmt::format("schedinit: allocator {}", gears.allocator.name));

  auto collector = gears.collector.make(*runtime, *gears.collector_options);
  if (!collector) return refused("collector", gears.collector.name, collector.error());
  runtime->collector_ = std::move(*collector);
  runtime->collector_->start(heap, *runtime->allocator_);
  trace.step(fmt::format("schedinit: collector {}", gears.collector.name));

  auto scheduler = gears.scheduler.make(*runtime, *gears.scheduler_options);
  if (!scheduler) return refused("scheduler", gears.scheduler.name, scheduler.error());
  runtime->scheduler_ = std::move(*scheduler);
  runtime->max_procs_ = gears.scheduler.traits.max_procs;
  trace.step(fmt::format("schedinit: scheduler {}", gears.scheduler.name));

  auto poller = gears.poller.make(*runtime, *gears.poller_options);
  if (!poller) return refused("poller", gears.poller.name, poller.error());
  runtime->poller_ = std::move(*poller);
  if (auto lane = runtime->poller_->prepare(0); !lane) return refused("poller", gears.poller.name, lane.error());
  runtime->lane_owner_ = runtime->poller_->caps().issuer == Issuer::kLaneOwner;
  trace.step(fmt::format("schedinit: poller {}", gears.poller.name));

  for (PId id = 0; id < options.procs; ++id) {
    Processor* p = runtime->make_processor(id, false);
    runtime->procs_.publish_count(id + 1);
    runtime->allocator_->p_added(*p);
    runtime->scheduler_->p_added(id);
    if (id == 0) continue;  // on its way to M 0
    Guard<SpinLock> hold(runtime->procs_.lock());
    runtime->procs_.to_idle(p);
  }
  trace.step(fmt::format("schedinit: {} Ps", options.procs));
  arm_signals();
  if (runtime->signals()) preempt::arm();
  trace.step("schedinit: signals armed");
  return runtime;
}

RunStats Runtime::run(std::function<void()> main) {
  BootTrace trace(options_.trace, boot_began_ns_);
  main_ = std::move(main);
  pthread_t sysmon{};
  bool has_sysmon = false;
  if (options_.sysmon) {
    auto started = os::start_thread(&Runtime::sysmon_entry, this, 128 * 1024, "gearbox-sysmon");
    if (!started) fatal_error(fmt::format("no thread for sysmon: {}", started.error().message));
    sysmon = *started;
    has_sysmon = true;
    trace.step("sysmon started");
  }

  first_goroutine_ = [this, &trace] {
    trace.step("first goroutine runs");
    {
      const Inside inside;
      collector_->start_workers();
    }
    trace.step("collector's workers made");
    run_init_functions([&trace](std::string_view name) { trace.step(fmt::format("init {}", name)); });
    trace.step("main begins");
    main_ns_.begin_ns = os::monotonic_ns();
    main_();
    main_ns_.end_ns = os::monotonic_ns();
    trace.step("main returned");
    const Inside inside;
    end_word_.store(kMainReturned, std::memory_order_release);  // from here the caller's stack may go at any time
    os::futex_wake(end_word_, 1);
    collector_->stop();
    finish();
  };
  Machine* m = new_machine();
  m->next_p = &procs_.at(0);
  m->starts_program = true;
  trace.step("M 0 is started");
  auto first = os::start_thread(&Runtime::machine_entry, m, kMachineStackBytes, "gearbox-m");
  if (!first) fatal_error(fmt::format("no thread to run goroutines on: {}", first.error().message));
  m->thread = *first;
  wait_for_the_end();
  if (last_words_claimed()) claim_last_words();  // a goroutine dies of a panic: its report, not main's end, is the last

  // The world is stopped for good, or given up. Threads leave their loops; those that cannot are left behind.
  sysmon_stop_.store(true, std::memory_order_release);
  sysmon_word_.fetch_add(1, std::memory_order_release);
  os::futex_wake(sysmon_word_, 1);
  if (has_sysmon) os::join_thread(sysmon);

  RunStats stats;
  stats.procs = p_count();
  const CollectorStats collector = collector_->stats();
  stats.gc_cycles = collector.cycles;
  stats.gc_cpu_ns = collector.cpu_ns + allocator_->stats().refill_sweep_ns;
  stats.gc_pause_ns = collector.pause_ns;
  stats.time_to_stop_ns = time_to_stop_ns_;
  stats.stops = std::move(stops_);
  stats.stops_left_out = stops_left_out_;
  stats.main_ns = main_ns_;
  {
    Guard<SpinLock> hold(pause_seen_lock_);
    stats.pause_seen_ns = pause_seen_ns_;
  }
  procs_.for_each_ever([&stats](const Processor& p) {
    stats.allocated_bytes += p.cache.allocated_bytes;
    stats.allocated_objects += p.cache.allocated_objects;
  });
  stats.peak_heap_bytes = heap_.peak_bytes.load(std::memory_order_relaxed);
  struct Named final : CounterVisitor {
    Named(RunStats& stats, std::string prefix) : out(stats), prefix(std::move(prefix)) {}
    void counter(std::string_view name, std::uint64_t value, std::string_view text) override {
      out.counters.push_back({prefix + std::string(name), value, std::string(text)});
    }
    RunStats& out;
    std::string prefix;
  };
  Named scheduler_counters(stats, "scheduler."), allocator_counters(stats, "allocator."),
      collector_counters(stats, "collector."), poller_counters(stats, "poller."), own(stats, "runtime.");
  scheduler_->counters(scheduler_counters);
  allocator_->counters(allocator_counters);
  collector_->counters(collector_counters);
  poller_->counters(poller_counters);
  std::size_t refused_numbers = 0;
  {
    Guard<SpinLock> hold(procs_.lock());  // an M that was left behind may still be asking for threads
    refused_numbers = spare_machines_.size();
  }
  own.counter("threads", counters_.machines_made.load() - refused_numbers,
              "Threads made for goroutines and blocking calls.");
  own.counter("threads_refused", counters_.threads_refused.load(),
              "Threads that the kernel refused; their P stayed idle until another thread was free.");
  own.counter("preemptions", counters_.preemptions.load(),
              "Goroutines that yielded at a safepoint because their slice was over.");
  own.counter("signals", counters_.signals.load(), "Signals sent to goroutines that answered no request in time.");
  own.counter("signals_refused", counters_.signals_refused.load(),
              "Of those, signals that came inside the runtime or a shared library.");
  own.counter("stopped_by_signal", counters_.stopped_by_signal.load(),
              "Goroutines interrupted for a stop of the world.");
  own.counter("preempted_by_signal", counters_.preempted_by_signal.load(),
              "Goroutines interrupted because their slice was over.");
  own.counter(
      "freezes_refused", counters_.freezes_refused.load(),
      "Goroutines that kept their P after their slice: too many were frozen (frozen_max), or no thread was to be "
      "had.");
  own.counter("hand_offs", counters_.hand_offs.load(), "Ps taken from blocked system calls.");
  own.counter("polls", counters_.polls.load(), "Non-blocking looks at the poller.");
  own.counter("poller_sleeps", counters_.poller_sleeps.load(), "Times an idle thread slept in the poller.");
  own.counter("futex_sleeps", counters_.futex_sleeps.load(), "Times an idle thread slept on its futex.");
  std::uint64_t ids_left = 0;
  procs_.for_each_ever([&ids_left](const Processor& p) { ids_left += p.id_end - p.next_id; });
  own.counter("goroutines_made", next_id_.load() - 1 - ids_left, "Goroutines started, the runtime's own included.");
  own.counter("goroutines_peak", goroutines_.count(), "Most goroutines that there were at a time, in batches.");
  own.counter("stacks", stacks_.made(),
              "Goroutine stacks made: one is needed from a goroutine's first run to its end.");
  own.counter("stacks_released", counters_.stacks_released.load(),
              "Times an unused stack gave its pages back to the kernel.");
  stats.guard_kind = stacks_.guard() == Stacks::Guard::kInstall
                         ? "install"
                         : (stacks_.guard() == Stacks::Guard::kMprotect ? "mprotect" : "none");
  return stats;
}

// On the caller's thread.
void Runtime::wait_for_the_end() {
  while (end_word_.load(std::memory_order_acquire) == kRunning) os::futex_wait(end_word_, kRunning, os::kForever);
  const std::int64_t deadline = os::monotonic_ns() + kPatienceNs;
  while (end_word_.load(std::memory_order_acquire) != kEnded) {
    const std::int64_t left = deadline - os::monotonic_ns();
    if (left <= 0) break;
    os::futex_wait(end_word_, kMainReturned, left);
  }
  if (end_word_.load(std::memory_order_acquire) != kEnded) send_machines_home();  // those that can go, go
}

// On the main goroutine: the end of everything. Does not return to it.
void Runtime::finish() {
  stop_the_world("exit");
  send_machines_home();
  end_word_.store(kEnded, std::memory_order_release);
  os::futex_wake(end_word_, 1);
  on_system_stack([](void*) {}, nullptr);  // leaves this stack; the loop sees that all has ended
}

std::vector<Machine*> Runtime::all_machines() {
  std::vector<Machine*> all;
  Guard<SpinLock> hold(procs_.lock());
  for (const auto& m : machines_) all.push_back(m.get());
  return all;
}

void Runtime::send_machines_home() {
  ended_.store(true, std::memory_order_release);
  procs_.end_for_good();
  os::futex_wake(procs_.epoch(), 1 << 30);
  for (Machine* m : all_machines()) {
    m->wake_word.fetch_add(1, std::memory_order_release);
    os::futex_wake(m->wake_word, 1);
    if (lane_owner_ && !m->blocking_only) poller_->wake(m->id);
  }
  if (!lane_owner_) poller_->wake(0);
}

bool Runtime::join_machines() {
  if (end_word_.load(std::memory_order_acquire) != kEnded) return false;
  const std::int64_t began = os::monotonic_ns();
  for (Machine* m : all_machines()) {
    while (!m->left.load(std::memory_order_acquire)) {
      if (os::monotonic_ns() - began > kPatienceNs) return false;
      os::sleep_ns(20'000);
    }
    os::join_thread(m->thread);
  }
  return true;
}

Result<RunStats> run_program(const RuntimeOptions& options, const GearSet& gears, std::function<void()> main) {
  auto runtime = Runtime::create(options, gears);
  if (!runtime) return runtime.error();
  Runtime* r = runtime->get();
  RunStats stats = r->run(std::move(main));
  if (!r->join_machines()) (void)runtime->release();  // a thread is still inside: the runtime is left behind
  return stats;
}

}  // namespace gearbox
