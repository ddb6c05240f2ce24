// Runtime: the fixed part between the four gears. One object holds all of it; tests make many.
//
// Who runs where. Each thread (Machine, an M) has its own stack, on which it looks for work, sleeps, polls and stops;
// and it runs goroutines on theirs. A goroutine that parks picks the next one itself, from its P's own queue only, and
// switches to it directly; for anything more it switches to the M's stack. What must happen after a goroutine has left
// its stack (unlock a channel, put itself into a queue, free itself) is handed to the other side of the switch in
// Machine::after and done there first: so nobody can resume a G that has not left, and no wake-up is lost.
//
// Invariants (tags are used by checks in sched.cc and world.cc).
//   S1  A G's context is saved before anything can pick it: it enters a queue either before its first run or from
//       `after`, on the other side of the switch.
//   S2  to S4: runtime/procs.h. Of S4 the other half: while the world is stopped no G runs but the stopper's, and every
//       other G's context is saved.
//   S5  If a G is runnable, some M with a P will look, or some P is idle and being woken.
//   S6  A P that is given to an M travels in next_p, with the locked G it was given for, and is taken out under
//       the lock of Procs by an M that owns no P. No M writes another's `held`, `p` or `current`, except while the world
//       is stopped and that M is held.
//
// Locks, in the order they may be taken: world (a goroutine-level lock) < Procs::lock() < leaf locks (a channel's, a timer
// heap's, a scheduler's own).
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/lock.h"
#include "base/random.h"
#include "interfaces/allocator.h"
#include "interfaces/collector.h"
#include "interfaces/poller.h"
#include "interfaces/scheduler.h"
#include "interfaces/world.h"
#include "runtime/boot.h"
#include "runtime/preempt.h"
#include "runtime/procs.h"
#include "runtime/root.h"
#include "runtime/stacks.h"
#include "runtime/timer.h"

namespace gearbox {

class Runtime;
inline constexpr std::size_t kMachineStackBytes = 512 * 1024;

struct Machine : M {
  Context context;  // of its own stack, while it runs a goroutine
  StackIdentity identity;
  Runtime* runtime = nullptr;
  pthread_t thread{};
  int* errno_address = nullptr;  // of this thread: errno's own accessor may be cached by the compiler across a switch
  void** exception_globals = nullptr;  // __cxa_get_globals() of this thread: two words
  // For the other side of the next switch: done first thing after arriving.
  void (*after)(Runtime& runtime, Goroutine* g, void* argument) = nullptr;
  Goroutine* after_g = nullptr;
  void* after_argument = nullptr;
  Goroutine* held = nullptr;      // picked already, to be run next by the loop; its own M's alone
  void (*call)(void*) = nullptr;  // on_system_stack()
  void* call_argument = nullptr;
  // Guarded by Procs::lock().
  Processor* next_p = nullptr;  // given to it by a wake
  Goroutine* next_g = nullptr;  // with next_p: its locked goroutine, handed over by whoever picked it (S6)
  bool woken_to_search = false;
  Machine* next_idle = nullptr;
  std::atomic<std::uint32_t> wake_word{0};
  bool starts_program = false;                // the first: it spawns the first goroutine
  bool blocking_only = false;                 // runs blocking calls for lane-owner pollers; never owns a P
  std::atomic<bool> sleeps_in_poller{false};  // set under Procs::lock() before it lies down
  Goroutine* locked_g = nullptr;              // lock_os_thread(): the only goroutine this M runs
  Goroutine* blocking_g = nullptr;            // to be resumed without a P; guarded by Procs::lock()
  void* signal_stack = nullptr;
  std::atomic<bool> left{false};  // its thread has left the runtime for good
};

inline Machine* current_machine() noexcept { return static_cast<Machine*>(current_m()); }
inline Goroutine* current_goroutine() noexcept { return static_cast<Goroutine*>(current_g()); }
inline Processor* current_processor() noexcept { return static_cast<Processor*>(current_p()); }
Runtime& current_runtime() noexcept;  // REQUIRES: on an M

class Runtime final : public World {
 public:
  using After = void (*)(Runtime& runtime, Goroutine* g, void* argument);

  static Result<std::unique_ptr<Runtime>> create(const RuntimeOptions& options, const GearSet& gears);
  ~Runtime() override;
  // Starts the first M, runs main on the first goroutine, and returns when that has ended and the world has stopped, or
  // would not within a second. The calling thread is none of the Ms.
  RunStats run(std::function<void()> main);
  // After run(): joins every thread; false if one is stuck in a blocking call, which is waited for for a second, or in a
  // loop without safepoints.
  bool join_machines();

  // ---- goroutines (sched.cc). On a goroutine unless said otherwise.
  Goroutine* new_goroutine();  // a dead G with a stack, not yet runnable; dies with a message when there is no memory
  void start_goroutine(Goroutine* g, Why why);  // entry and closure set
  // Leaves the stack; `after` runs on the other side. Returns when ready() was called for this G. HOT.
  void park(After after, void* argument, const char* why);
  void ready_g(Goroutine* g) { ready(g); }
  void gosched(Why why);
  [[noreturn]] void exit_goroutine();
  void safepoint_slow();
  // The handler of SIGURG, on the thread that was asked (preempt.h).
  void interrupted(Machine* m, ucontext_t* registers);
  // Blocking calls (blocking.cc).
  void enter_blocking();  // context saved by the caller (save_context)
  void exit_blocking();
  void move_to_blocking_thread();
  void lock_to_thread();  // lock_os_thread()
  bool blocking_needs_thread() const noexcept { return lane_owner_; }

  // ---- World
  const WorldConfig& config() const override { return config_; }
  PId p_count() const override { return procs_.count(); }
  Processor& p(PId id) override { return procs_.at(id); }
  PId idle_p_count() const override { return procs_.idle_count(); }
  bool has_runnable() const override { return scheduler_->has_runnable(); }
  void prepare_to_park(PId p) override;
  bool cancel_park(PId p) override;
  bool wake_one_parked_p() override;
  void spawn_system(std::function<void()> body, const char* name) override;
  void park_and_unlock(SpinLock& lock, const char* why) override GEARBOX_RELEASE(lock);
  void ready(G* g) override;
  void hand_over(G* g) override;
  void yield() override;
  void sleep_ns(std::int64_t ns) override;
  void on_system_stack(void (*f)(void*), void* argument) override;
  std::int64_t stop_the_world(const char* why) override;
  std::int64_t start_the_world() override;
  std::size_t g_slots() const override { return goroutines_.count(); }
  G* g_at(std::size_t slot) override { return goroutines_.at(static_cast<std::uint32_t>(slot)); }
  void visit_gs(std::size_t group, void (*visit)(void*, G*), void* context) override;
  void visit_stack(G* g, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) override;
  std::size_t root_jobs() const override;
  void visit_roots(std::size_t job, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) override;
  bool root_job_is_exact(std::size_t job) const override { return job >= roots::kShards || roots::exact(job); }
  void take_shaded(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) override {
    shaded_.take(visit, context);
  }
  std::uint32_t arm_stack_scan() override;
  void disarm_stack_scan() override;
  void set_marking(bool on) override;
  std::size_t finalizer_jobs() const override;
  void visit_finalizer_objects(std::size_t job, void (*visit)(void*, void*), void* context) override;
  void queue_dead_finalizers(std::size_t job, bool (*is_dead)(void*, void*), void* context) override;

  // ---- timers
  void arm_timer(Timer& t);                              // on the current P; on an M or goroutine with a P
  std::int64_t earliest_timer() const noexcept;          // 0: none
  void wake_watcher_before(std::int64_t when);           // if it sleeps longer than that and a P is idle
  void watch_timers_anew();                              // Ps became idle, with whatever timers there are
  std::uint64_t total_allocated_bytes() const noexcept;  // by all Ps there ever were; world stopped

  // ---- changes
  PId set_procs(PId n);  // GOMAXPROCS(n); on a goroutine; returns the former number

  // ---- parts (public: the rooms of runtime/ are one subsystem and reach each other through here)
  Scheduler& scheduler() noexcept { return *scheduler_; }
  Allocator& allocator() noexcept { return *allocator_; }
  Collector& collector() noexcept { return *collector_; }
  Poller& poller() noexcept { return *poller_; }
  Heap& heap() noexcept { return heap_; }
  Stacks& stacks() noexcept { return stacks_; }
  const GoroutineTable& goroutine_table() const noexcept { return goroutines_; }
  const RuntimeOptions& options() const noexcept { return options_; }
  std::uint32_t lane() const noexcept { return lane_owner_ ? current_m()->id : 0; }
  std::uint64_t goroutine_count() const noexcept;  // the user's; any thread, exact when the world is stopped
  std::uint64_t next_goroutine_id(Processor* p) noexcept;
  void print_all_goroutines(bool including_running);
  [[noreturn]] void report_deadlock();
  void report_slow_stop();  // by the stopper of the world, which goes on waiting
  std::atomic<std::uint64_t> io_waiters_{
      0};  // goroutines that wait for I/O, from before they park until they run again

  struct Finalizers;
  std::unique_ptr<Finalizers> finalizers_;

 private:
  Runtime(const RuntimeOptions& options, Stacks::Guard guard);
  // sched.cc
  void leave(Goroutine* g, Machine* m, Processor* p, bool dies);
  void begin_running(Machine* m, Processor* p, Goroutine* g, bool inherit_slice);
  void give_stack(Goroutine* g, Stack stack);
  void arrive();
  void machine_loop(Machine* m);
  void run_goroutine(Machine* m, Processor* p, Goroutine* g, bool inherit_slice);
  Goroutine* find_work(Processor* p, bool slice_over, bool& inherit_slice);
  bool poll_now(Machine* m, Processor* p);
  void unpark(G* g, Why why);
  bool enqueue_polled(GList& list, PId p, Why why);  // what a poll made ready; false: nothing. p may be kNoP
  bool run_due_timers(Processor* p, bool of_all);
  static void goroutine_main();
  static void recycle(Runtime& runtime, Goroutine* g, void*);
  // preempt.cc
  bool may_freeze();
  void freeze_until_picked(Machine* m, Goroutine* g);
  [[noreturn]] void leave_for_good(Machine* m, Goroutine* g);
  bool signals() const noexcept {
    return options_.preempt == RuntimeOptions::Preempt::kSignal && preempt::can_signal();
  }
  // machines.cc
  bool spare_machine_is_there();  // one sleeps that could take a P, or could be made
  Machine* new_machine();
  Status start_thread_of(Machine* m);
  // Releases the lock. False: no thread could be made.
  bool start_machine_for(Processor* p, bool search) GEARBOX_RELEASE(procs_.lock());
  void take_back(Machine* m) GEARBOX_LOCK_HELD(procs_.lock());  // its thread was refused
  bool nobody_can_run() GEARBOX_LOCK_HELD(procs_.lock());
  static void* machine_entry(void* machine);
  void machine_begin(Machine* m);
  void machine_end(Machine* m);
  void idle(Machine* m);
  void sleep_locked(Machine* m);
  void wake_machine(Machine* m);
  bool receive(Machine* m);     // m takes the P it was given; false: it was given none
  void hand_off(Processor* p);  // a P whose M is stuck: to another M, or idle
  bool nothing_can_happen() GEARBOX_LOCK_HELD(procs_.lock());
  void blocking_thread_loop(Machine* m);
  // world.cc
  void hold_at_safepoint(Machine* m, Processor* p);
  void wait_for_start(std::uint32_t epoch);
  void signal_unanswered();
  void take_the_world();
  std::int64_t stop_all_others(std::int64_t began_ns, bool wait_for_arrivals);
  void record_pause_seen(std::int64_t asked_ns);
  bool spin_until(const std::atomic<std::uint32_t>& word, std::uint32_t differs_from) const;
  void stamp_birth(Goroutine* g, const P* p);
  void finish();
  [[noreturn]] void never_return();
#if GEARBOX_ASAN
  void disown_what_goroutines_hold();
#endif
  void wait_for_the_end();
  void send_machines_home();
  std::vector<Machine*> all_machines();
  Processor* make_processor(PId id, bool world_stopped);
  void remove_processor(Processor* p);
  // sysmon.cc
  void sysmon_loop();
  bool ask_for_slice(Processor& p, std::int64_t now);
  void wake_sysmon();  // after a P has left the idle list
  static void* sysmon_entry(void* runtime);

  const RuntimeOptions options_;
  WorldConfig config_;
  Heap heap_;
  bool owns_heap_range_ = false;  // false: the allocator keeps it (Allocator::reserve)
  GoroutineTable goroutines_;
  Stacks stacks_;
  roots::ShadeList shaded_;  // by threads without a P, for this runtime's collector
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<Collector> collector_;
  std::unique_ptr<Poller> poller_;
  bool lane_owner_ = false;
  std::uint32_t max_procs_ = 0;  // the scheduler's limit; 0: none

  Procs procs_;
  // Which Ms there are, and which of them sleep.
  Machine* idle_machines_ GEARBOX_GUARDED_BY(procs_.lock()) = nullptr;
  std::uint32_t idle_machine_count_ GEARBOX_GUARDED_BY(procs_.lock()) = 0;
  Machine* idle_blocking_machines_ GEARBOX_GUARDED_BY(procs_.lock()) = nullptr;
  // Sleeps in the poller until the next event or timer.
  Machine* poll_machine_ GEARBOX_GUARDED_BY(procs_.lock()) = nullptr;
  std::uint32_t idle_blocking_count_ GEARBOX_GUARDED_BY(procs_.lock()) = 0;
  std::uint32_t locked_asleep_ GEARBOX_GUARDED_BY(procs_.lock()) = 0;
  std::vector<std::unique_ptr<Machine>> machines_ GEARBOX_GUARDED_BY(procs_.lock());
  // Machines whose thread the kernel refused: their numbers are used by the next. Until refused_until_ns_ nobody asks.
  std::vector<std::unique_ptr<Machine>> spare_machines_ GEARBOX_GUARDED_BY(procs_.lock());
  std::int64_t refused_until_ns_ GEARBOX_GUARDED_BY(procs_.lock()) = 0;
  std::int64_t refusal_pause_ns_ GEARBOX_GUARDED_BY(procs_.lock()) = 0;
  // Goroutines whose blocking call got no thread of its own.
  GList waits_for_blocking_machine_ GEARBOX_GUARDED_BY(procs_.lock());

  std::atomic<std::int64_t> poll_until_{
      0};  // deadline of the M that sleeps in the poller; INT64_MAX: none; 0: nobody sleeps there
  std::atomic<std::uint32_t> watcher_lane_{0};  // of that M, for lane-owner pollers
  std::atomic<std::uint32_t> held_asleep_{0};   // Ms that sleep on Procs::epoch(), or are about to
  std::atomic<std::uint32_t> blocked_calls_{0};
  std::atomic<bool> ended_{false};
  std::atomic<bool> short_of_threads_{false};  // a P may lie idle with work queued: sysmon tries again
  std::atomic<std::uint64_t> next_id_{1};
  std::int64_t boot_began_ns_ = 0;
  const PId cpus_ = static_cast<PId>(os::online_cpus());  // that this process may run on, at its beginning

  SpinLock world_lock_;  // guards the two below: a lock on which goroutines park
  bool world_taken_ GEARBOX_GUARDED_BY(world_lock_) = false;
  GList world_waiters_ GEARBOX_GUARDED_BY(world_lock_);
  SpinLock free_lock_;
  GList free_gs_ GEARBOX_GUARDED_BY(free_lock_);
  std::atomic<std::int64_t> goroutines_elsewhere_{0};  // as Processor::goroutines, born without a P
  std::uint32_t scan_epoch_ = 0;  // of stack scans; changed with the world stopped, under free_lock_

  std::atomic<std::uint32_t> sysmon_word_{0};
  std::atomic<bool> sysmon_sleeps_{false};
  std::atomic<bool> sysmon_stop_{false};
  std::atomic<std::int64_t> last_poll_ns_{0};

  std::atomic<std::int64_t> stop_asked_ns_{0};  // when the stop under way began to ask
  Histogram time_to_stop_ns_;
  std::vector<Interval> stops_;       // whoever has the world adds to it; from the request to the release
  std::uint64_t stops_left_out_ = 0;  // when there are too many to keep
  Interval main_ns_{0, 0};
  SpinLock pause_seen_lock_;
  Histogram pause_seen_ns_ GEARBOX_GUARDED_BY(pause_seen_lock_);
  std::atomic<std::uint64_t> frozen_{0};  // goroutines that wait in a handler for their turn
  std::atomic<bool> said_frozen_max_{false};
  struct Counters {
    std::atomic<std::uint64_t> signals{0}, signals_refused{0}, stopped_by_signal{0}, preempted_by_signal{0},
        freezes_refused{0}, threads_refused{0}, preemptions{0}, hand_offs{0}, machines_made{0}, stacks_released{0},
        polls{0}, futex_sleeps{0}, poller_sleeps{0};
  } counters_;
  std::function<void()> main_;
  std::function<void()> first_goroutine_;  // run by it: the start of the program, main_, and the end
  // What the caller waits for. A futex.
  static constexpr std::uint32_t kRunning = 0, kMainReturned = 1, kEnded = 2;
  std::atomic<std::uint32_t> end_word_{kRunning};
};

inline Runtime& current_runtime() noexcept { return *current_machine()->runtime; }

// In `checked` builds: the caller is inside the runtime (interfaces/current.h), or no goroutine runs here. At the doors
// that every operation of the language surface goes through.
inline void check_inside() {
  GEARBOX_INVARIANT(N2, current_g() == nullptr || current_inside() != 0,
                    "an operation of the runtime runs where its goroutine may be interrupted");
}

// A place where this goroutine may be stopped. In loops that call nothing of the runtime: GEARBOX_SAFEPOINT().
inline void safepoint() {  // REQUIRES: a P
  if (current_p()->attention.load(std::memory_order_relaxed) != 0) [[unlikely]]
    current_runtime().safepoint_slow();
}

// The same in calls that are also made from blocking(f), where there is no P and nothing may park.
inline void safepoint_if_on_p() {
  const P* p = current_p();
  if (p != nullptr && p->attention.load(std::memory_order_relaxed) != 0) [[unlikely]]
    current_runtime().safepoint_slow();
}

}  // namespace gearbox
