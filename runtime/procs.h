// Procs: the Ps, and the only writer of PStatus.
//
// Every P is in exactly one of these places, and its status says which.
//
//   kIdle     on the idle list, with no M
//   kTaken    off the idle list, or parted from an M, and on its way to an M that has not arrived
//   kRunning  owned by an M
//   kSyscall  left behind by an M whose goroutine is in a blocking call
//   kStopped  the world stops, or has stopped; Processor::m says whether an M is held with the P
//   kRemoved  GOMAXPROCS fell
//
//   from       to         by                                                          how
//   kIdle      kTaken     take_idle(): a wake, or an M that found something to do      lock
//   kTaken     kRunning   arrive(): the M that the P was given to                      lock
//   kTaken     kIdle      to_idle(): no thread could be had; a hand-off                lock
//   kRunning   kIdle      to_idle(): the owner, which has released the P               lock
//   kRunning   kTaken     part(): the owner gives the P to another M                   lock
//   kRunning   kSyscall   enter_call(): the owner                                      store
//   kSyscall   kRunning   leave_call(): the goroutine comes back                       compare-exchange
//   kSyscall   kTaken     retake(): sysmon                                             compare-exchange
//   all but kRunning      kStopped   begin_stop(), on the spot                         lock, and compare-exchange
//   kRunning   kStopped   stop_at_safepoint(): the owner                               lock
//   kStopped   what it was           end_stop()                                        lock
//   (none)     kTaken                add(), before anything runs                       -
//   (none), kRemoved      kStopped   add(): GOMAXPROCS rises                           world stopped
//   kStopped   kRemoved              remove(): GOMAXPROCS falls                        world stopped
//   kStopped   kRunning              move_to_first(): the stopper, whose own P goes    world stopped
//   kRunning   kRemoved              remove(): the P that it has left                  world stopped
//
// A P on its way is stopped on the spot like an idle one: its M may take as long to arrive as a thread takes to wake up,
// and the stop need not wait for that. When such an M arrives, arrive() refuses, and the M waits for the world to start.
//
// Invariants.
//   S2  An M that runs goroutines owns exactly one P, and a P has at most one M.
//   S3  The status of a P is one of the above, and only the passages of the table happen. A P in a call is taken by
//       exactly one of three: the goroutine that comes back, sysmon, a stop.
//   S4  While the world is stopped, every P is kStopped, kRemoved, or the stopper's own.
//
// The lock. lock() guards the idle list, the state of a stop, and every passage marked so in the table. The runtime keeps
// its lists of Ms under the same lock, because "no P is idle and no M is awake" is one question about both.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/lock.h"
#include "base/random.h"
#include "interfaces/processor.h"
#include "runtime/stacks.h"
#include "runtime/timer.h"

namespace gearbox {

struct Processor : P {
  // Owner only, up to the blank line.
  GList free_gs;  // dead
  StackCache free_stacks;
  std::uint64_t next_id = 0, id_end = 0;  // ids that goroutines born here get

  std::atomic<std::int64_t> goroutines{0};  // born here less ended here: negative when they move. Owner writes
  TimerHeap timers;
  std::atomic<std::uint32_t> slice_tick{0};  // a new value for each time slice; sysmon reads
  std::atomic<std::uint32_t> syscall_tick{0};
  std::atomic<int> thread_id{0};  // of the owner, while there is one: where a request is sent as a signal
  Random random{0};
  bool on_its_way = false;  // it was kTaken when the world stopped, and is again when the world starts; under the lock
  // sysmon's memory of what it saw last
  std::uint32_t seen_slice_tick = 0, seen_syscall_tick = 0, asked_at_tick = ~std::uint32_t{0};
  std::int64_t seen_slice_ns = 0, seen_syscall_ns = 0;
};

class Procs {
 public:
  Procs() { idle_.reserve(kMaxPs); }

  // ---- the Ps there are. Any thread.
  PId count() const noexcept { return count_.load(std::memory_order_acquire); }  // partner: publish_count()
  Processor& at(PId id) noexcept { return *ps_[id]; }  // REQUIRES: id < count(), or was so once
  const Processor& at(PId id) const noexcept { return *ps_[id]; }
  // Calls visit(const Processor&) for every P there ever was.
  template <class F>
  void for_each_ever(F&& visit) const {
    for (const auto& p : ps_)
      if (p != nullptr) visit(*p);
  }
  PId idle_count(std::memory_order order = std::memory_order_relaxed) const noexcept { return idle_count_.load(order); }
  SpinLock& lock() noexcept GEARBOX_RETURN_CAPABILITY(lock_) { return lock_; }
  bool all_idle() const noexcept GEARBOX_LOCK_HELD(lock_) { return idle_.size() == count(); }
  bool stop_requested() const noexcept GEARBOX_LOCK_HELD(lock_) { return stop_requested_; }

  // ---- one P changes hands
  // The M that p was given to takes it, on its own thread. False: the world stops, or has stopped, and p with it; the M
  // waits for the next epoch and asks again. REQUIRES: m owns no P.
  [[nodiscard]] bool arrive(M* m, Processor* p) noexcept GEARBOX_LOCK_HELD(lock_);
  // m's owner parts from its P, on its own thread. The caller says at once where p goes: to_idle(), part().
  static void release(M* m) noexcept;
  // p, released by the caller or on its way, becomes idle; while the world stops, it counts as stopped instead.
  void to_idle(Processor* p) noexcept GEARBOX_LOCK_HELD(lock_);
  // p, released by the caller, is on its way to another M.
  void part(Processor* p) noexcept GEARBOX_LOCK_HELD(lock_);
  // An idle P, which is then on its way; null when none is idle or the world stops.
  Processor* take_idle() noexcept GEARBOX_LOCK_HELD(lock_);
  // The same, and m, on whose thread this is, has it at once. REQUIRES: m owns no P.
  Processor* take_idle_for(M* m) noexcept GEARBOX_LOCK_HELD(lock_);
  // Takes p off the idle list again, for m. False if another was faster. REQUIRES: m owns no P, on m's thread.
  [[nodiscard]] bool cancel_idle(M* m, Processor* p) noexcept GEARBOX_LOCK_HELD(lock_);

  // ---- blocking calls (runtime/blocking.cc)
  // m's goroutine enters a call: m parts from its P, which may be taken by anybody from here on.
  Processor* enter_call(M* m) noexcept GEARBOX_LOCK_NOT_HELD(lock_);
  // m has p back, if nobody took it.
  [[nodiscard]] bool leave_call(M* m, Processor* p) noexcept;
  // Takes p from its call; p is then on its way. False if another was faster.
  [[nodiscard]] bool retake(Processor* p) noexcept;

  // ---- stopping all. One stop at a time: the caller has the world lock.
  // Asks every P but `mine`, and stops on the spot what no M runs. `wait_for_arrivals`: Ps on their way are awaited
  // like running ones (for changes of the number of Ps).
  void begin_stop(const Processor* mine, bool wait_for_arrivals) noexcept GEARBOX_LOCK_NOT_HELD(lock_);
  // Takes Ps that have entered calls since; the stopper calls this while it waits.
  void take_calls(const Processor* mine) noexcept GEARBOX_LOCK_NOT_HELD(lock_);
  // The threads of Ps that are still to stop; how many. At most kMaxPs.
  std::size_t unanswered(std::span<int> threads) noexcept GEARBOX_LOCK_NOT_HELD(lock_);
  // The owner of p has reached a safepoint. True: p counts as stopped, and the caller waits until epoch() differs from
  // `epoch`. False: the request is withdrawn.
  [[nodiscard]] bool stop_at_safepoint(Processor* p, std::uint32_t& epoch) noexcept GEARBOX_LOCK_NOT_HELD(lock_);
  // Puts every P where it was, and changes the epoch. Those who sleep on it are woken by the caller.
  void end_stop() noexcept GEARBOX_LOCK_NOT_HELD(lock_);
  // The program ends: the epoch changes, no P moves, and stop_at_safepoint() lets everybody go.
  void end_for_good() noexcept GEARBOX_LOCK_NOT_HELD(lock_);
  // A futex of the stopper: kAwaited until the last P has stopped. Only the stopper goes from kAwaited to kSleeps, so that
  // the last P makes a system call only for a stopper that sleeps.
  std::atomic<std::uint32_t>& stop_word() noexcept { return stop_word_; }
  static constexpr std::uint32_t kAwaited = 0, kReached = 1, kSleeps = 2;
  // A futex of those who are held. Changes when the world starts.
  std::atomic<std::uint32_t>& epoch() noexcept { return epoch_; }
  // S2 to S4 as far as Ps go. World stopped, by the owner of `mine`.
  void check_stopped(const P* mine) GEARBOX_LOCK_NOT_HELD(lock_);

  // ---- their number. Before anything runs, or world stopped.
  // The P of that number, made if need be: kStopped, or before anything runs kTaken.
  Processor* add(PId id, bool world_stopped);
  void publish_count(PId count) noexcept { count_.store(count, std::memory_order_release); }  // partner: count()
  // Parts p from the M that is held with it. What p holds has been moved.
  void remove(Processor* p) noexcept;
  // m, which owns a P that goes, goes on with P 0; P 0's M, if it has one, with nothing.
  void move_to_first(M* m) noexcept;
  // They end before their runtime: their timers lie on stacks, in handles, and among each other.
  void destroy_all() noexcept {
    for (auto& p : ps_) p.reset();
  }

 private:
  void set_idle_count() noexcept GEARBOX_LOCK_HELD(lock_) {
    idle_count_.store(static_cast<PId>(idle_.size()), std::memory_order_seq_cst);  // partner: Scheduler::enqueue's look
  }
  void count_stopped() noexcept GEARBOX_LOCK_HELD(lock_);
  bool stop_in_call(Processor& p) noexcept GEARBOX_LOCK_HELD(lock_);

  std::array<std::unique_ptr<Processor>, kMaxPs> ps_;
  std::atomic<PId> count_{0};
  SpinLock lock_;
  std::vector<Processor*> idle_ GEARBOX_GUARDED_BY(lock_);
  std::atomic<PId> idle_count_{0};
  bool stop_requested_ GEARBOX_GUARDED_BY(lock_) = false;
  bool arrivals_awaited_ GEARBOX_GUARDED_BY(lock_) = false;  // by the stop under way
  bool ended_ GEARBOX_GUARDED_BY(lock_) = false;
  std::uint32_t awaited_ GEARBOX_GUARDED_BY(lock_) = 0;  // Ps that have not stopped
  std::atomic<std::uint32_t> stop_word_{kAwaited};
  std::atomic<std::uint32_t> epoch_{0};
};

}  // namespace gearbox
