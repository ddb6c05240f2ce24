#include "runtime/procs.h"

#include <algorithm>

#include "base/check.h"
#include "base/os/futex.h"
#include "interfaces/current.h"

namespace gearbox {
namespace {

// m owns p from here on. On m's thread.
void join(M* m, Processor* p) noexcept {
  p->m = m;
  m->p = p;
  p->thread_id.store(m->thread_id, std::memory_order_relaxed);
  set_current_p(p);
}

}  // namespace

// ---- one P changes hands

bool Procs::arrive(M* m, Processor* p) noexcept {
  const PStatus status = p->status.load(std::memory_order_relaxed);
  if (status == PStatus::kStopped) return false;
  GEARBOX_INVARIANT(S3, status == PStatus::kTaken, "P {} has status {} where its M arrives", p->id,
                    static_cast<int>(status));
  GEARBOX_INVARIANT(S2, m->p == nullptr && p->m == nullptr, "M {} takes P {}", m->id, p->id);
  p->status.store(PStatus::kRunning, std::memory_order_release);
  join(m, p);
  return true;
}

void Procs::release(M* m) noexcept {
  auto* p = static_cast<Processor*>(m->p);
  p->thread_id.store(0, std::memory_order_relaxed);
  p->m = nullptr;
  m->p = nullptr;
  set_current_p(nullptr);
}

void Procs::to_idle(Processor* p) noexcept {
  // On its way when the world stopped, and stopped with the others: idle when the world starts.
  if (p->status.load(std::memory_order_relaxed) == PStatus::kStopped) {
    p->on_its_way = false;
    return;
  }
  if (stop_requested_) {
    p->status.store(PStatus::kStopped, std::memory_order_release);
    count_stopped();
    return;
  }
  p->status.store(PStatus::kIdle, std::memory_order_release);
  idle_.push_back(p);
  set_idle_count();
}

void Procs::part(Processor* p) noexcept {
  if (stop_requested_ && !arrivals_awaited_) {
    p->status.store(PStatus::kStopped, std::memory_order_release);
    p->on_its_way = true;
    count_stopped();
    return;
  }
  p->status.store(PStatus::kTaken, std::memory_order_relaxed);
}

Processor* Procs::take_idle() noexcept {
  if (idle_.empty() || stop_requested_) return nullptr;
  Processor* p = idle_.back();
  idle_.pop_back();
  p->status.store(PStatus::kTaken, std::memory_order_relaxed);
  set_idle_count();
  return p;
}

Processor* Procs::take_idle_for(M* m) noexcept {
  Processor* p = take_idle();
  if (p != nullptr && !arrive(m, p)) GEARBOX_PANIC("S3: P {} stopped between two lines under the lock", p->id);
  return p;
}

bool Procs::cancel_idle(M* m, Processor* p) noexcept {
  const auto at = std::find(idle_.begin(), idle_.end(), p);
  if (at == idle_.end()) return false;
  idle_.erase(at);
  set_idle_count();
  p->status.store(PStatus::kTaken, std::memory_order_relaxed);
  return arrive(m, p);
}

// ---- blocking calls

Processor* Procs::enter_call(M* m) noexcept {
  auto* p = static_cast<Processor*>(m->p);
  release(m);
  p->syscall_tick.fetch_add(1, std::memory_order_relaxed);
  p->status.store(PStatus::kSyscall, std::memory_order_seq_cst);  // partner: begin_stop()
  if ((p->attention.load(std::memory_order_seq_cst) & kAttentionStop) != 0) {
    // The stopper may have looked at this P just before: it waits for a safepoint, and this is one.
    Guard<SpinLock> hold(lock_);
    if (stop_requested_ && stop_in_call(*p)) count_stopped();
  }
  return p;
}

bool Procs::leave_call(M* m, Processor* p) noexcept {
  PStatus in_call = PStatus::kSyscall;
  if (!p->status.compare_exchange_strong(in_call, PStatus::kRunning, std::memory_order_acq_rel)) return false;
  join(m, p);
  return true;
}

bool Procs::retake(Processor* p) noexcept {
  PStatus in_call = PStatus::kSyscall;
  if (!p->status.compare_exchange_strong(in_call, PStatus::kTaken, std::memory_order_acq_rel)) return false;
  p->syscall_tick.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// ---- stopping all

void Procs::count_stopped() noexcept {
  GEARBOX_INVARIANT(S4, awaited_ > 0, "more Ps stopped than there are");
  if (--awaited_ != 0) return;
  if (stop_word_.exchange(kReached, std::memory_order_acq_rel) == kSleeps) os::futex_wake(stop_word_, 1);
}

bool Procs::stop_in_call(Processor& p) noexcept {
  PStatus in_call = PStatus::kSyscall;
  return p.status.compare_exchange_strong(in_call, PStatus::kStopped, std::memory_order_acq_rel);
}

void Procs::begin_stop(const Processor* mine, bool wait_for_arrivals) noexcept {
  Guard<SpinLock> hold(lock_);
  stop_requested_ = true;
  arrivals_awaited_ = wait_for_arrivals;
  stop_word_.store(kAwaited, std::memory_order_relaxed);
  awaited_ = 0;
  for (PId i = 0; i < count(); ++i) {
    Processor& p = at(i);
    if (&p == mine) continue;
    p.attention.fetch_or(kAttentionStop, std::memory_order_seq_cst);  // partner: enter_call()
    PStatus on_its_way = PStatus::kTaken;
    if (p.status.load(std::memory_order_relaxed) == PStatus::kIdle) {
      p.status.store(PStatus::kStopped, std::memory_order_relaxed);
    } else if (stop_in_call(p)) {
      // Taken from its call.
    } else if (!wait_for_arrivals &&
               p.status.compare_exchange_strong(on_its_way, PStatus::kStopped, std::memory_order_acq_rel)) {
      p.on_its_way = true;
    } else {
      ++awaited_;
    }
  }
  idle_.clear();
  set_idle_count();
  if (awaited_ == 0) stop_word_.store(kReached, std::memory_order_relaxed);
}

void Procs::take_calls(const Processor* mine) noexcept {
  Guard<SpinLock> hold(lock_);
  for (PId i = 0; i < count() && awaited_ > 0; ++i)
    if (&at(i) != mine && stop_in_call(at(i))) count_stopped();
}

std::size_t Procs::unanswered(std::span<int> threads) noexcept {
  Guard<SpinLock> hold(lock_);
  std::size_t found = 0;
  for (PId i = 0; i < count(); ++i) {
    const Processor& p = at(i);
    const int thread = p.thread_id.load(std::memory_order_relaxed);
    if (p.status.load(std::memory_order_relaxed) == PStatus::kRunning && p.m != nullptr && thread != 0 &&
        (p.attention.load(std::memory_order_relaxed) & kAttentionStop) != 0 && p.m != current_m())
      threads[found++] = thread;
  }
  return found;
}

bool Procs::stop_at_safepoint(Processor* p, std::uint32_t& epoch) noexcept {
  Guard<SpinLock> hold(lock_);
  // Read under the lock that end_stop() changes the epoch under: an epoch from before the last start would let this M go
  // while the next stop counts on it.
  epoch = epoch_.load(std::memory_order_relaxed);
  if (!stop_requested_ || ended_) {
    p->attention.fetch_and(~kAttentionStop, std::memory_order_relaxed);
    return false;
  }
  p->status.store(PStatus::kStopped, std::memory_order_release);
  count_stopped();
  return true;
}

void Procs::end_stop() noexcept {
  Guard<SpinLock> hold(lock_);
  stop_requested_ = false;
  for (PId i = 0; i < count(); ++i) {
    Processor& p = at(i);
    p.attention.fetch_and(~kAttentionStop, std::memory_order_relaxed);
    if (p.status.load(std::memory_order_relaxed) != PStatus::kStopped) continue;
    if (p.m != nullptr) {
      p.status.store(PStatus::kRunning, std::memory_order_release);
    } else if (p.on_its_way) {
      p.on_its_way = false;
      p.status.store(PStatus::kTaken, std::memory_order_release);
    } else {
      p.status.store(PStatus::kIdle, std::memory_order_release);
      idle_.push_back(&p);
    }
  }
  set_idle_count();
  epoch_.fetch_add(1, std::memory_order_seq_cst);  // partner: Runtime::wait_for_start()
}

void Procs::end_for_good() noexcept {
  Guard<SpinLock> hold(lock_);
  ended_ = true;
  epoch_.fetch_add(1, std::memory_order_seq_cst);  // partner: Runtime::wait_for_start()
}

void Procs::check_stopped(const P* mine) {
  Guard<SpinLock> hold(lock_);
  GEARBOX_REQUIRE(idle_.empty() && awaited_ == 0, "S3: {} Ps idle, {} awaited in a stopped world", idle_.size(),
                  awaited_);
  for (PId i = 0; i < kMaxPs && ps_[i] != nullptr; ++i) {
    const Processor* p = ps_[i].get();
    const PStatus status = p->status.load(std::memory_order_acquire);
    const bool is_mine = p == mine;
    GEARBOX_REQUIRE(status == (i >= count() ? PStatus::kRemoved : (is_mine ? PStatus::kRunning : PStatus::kStopped)),
                    "S4: P {} of {} has status {} in a stopped world", i, count(), static_cast<int>(status));
    GEARBOX_REQUIRE(p->m == nullptr ? !is_mine : p->m->p == p, "S2: P {} and its M disagree in a stopped world", i);
    GEARBOX_REQUIRE(status != PStatus::kRemoved || p->m == nullptr, "S2: P {} is removed and has an M", i);
    GEARBOX_REQUIRE(!p->on_its_way || p->m == nullptr, "S3: P {} is on its way and has an M", i);
  }
}

// ---- their number

Processor* Procs::add(PId id, bool world_stopped) {
  if (ps_[id] == nullptr) ps_[id] = std::make_unique<Processor>();
  Processor* p = ps_[id].get();
  p->id = id;
  p->attention.store(0, std::memory_order_relaxed);
  p->on_its_way = false;
  p->status.store(world_stopped ? PStatus::kStopped : PStatus::kTaken, std::memory_order_relaxed);
  return p;
}

void Procs::remove(Processor* p) noexcept {
  if (p->m != nullptr) p->m->p = nullptr;
  p->m = nullptr;
  p->thread_id.store(0, std::memory_order_relaxed);
  p->status.store(PStatus::kRemoved, std::memory_order_relaxed);
}

void Procs::move_to_first(M* m) noexcept {
  auto* from = static_cast<Processor*>(m->p);
  Processor* first = ps_[0].get();
  if (first->m != nullptr) first->m->p = nullptr;
  from->m = nullptr;
  first->status.store(PStatus::kRunning, std::memory_order_relaxed);
  join(m, first);
}

}  // namespace gearbox
