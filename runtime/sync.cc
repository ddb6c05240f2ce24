#include "runtime/sync.h"

#include <limits>

#include "base/os/clock.h"
#include "runtime/fatal.h"
#include "runtime/panic.h"

namespace gearbox {
namespace {
constexpr std::int64_t kStarvingNs = 1'000'000;
constexpr int kSpins = 4, kPausesPerSpin = 30;

void park_in(detail::ParkedList& list, SpinLock& held, const char* why) GEARBOX_RELEASE(held) {
  detail::ParkedNode node;
  node.g = current_goroutine();
  list.push_back(node);
  current_runtime().park_and_unlock(held, why);
}
}  // namespace

void GoMutex::lock_slow() {
  const Inside inside;
  // The holder often runs on another P and is about done.
  if (current_runtime().p_count() > 1) {
    for (int spin = 0; spin < kSpins; ++spin) {
      for (int i = 0; i < kPausesPerSpin; ++i) cpu_relax();
      if (try_lock_now()) return;
    }
  }
  detail::ParkedNode node;
  node.g = current_goroutine();
  for (bool first = true;; first = false) {
    list_lock_.lock();
    // Under the list's lock the waiting bit and the list agree; the lock bit may change at any time.
    std::uint32_t state = state_.load(std::memory_order_relaxed);
    for (;;) {
      if ((state & kLocked) == 0) {
        if (state_.compare_exchange_weak(state, state | kLocked, std::memory_order_acquire,
                                         std::memory_order_relaxed)) {
          list_lock_.unlock();
          return;
        }
      } else if (state_.compare_exchange_weak(state, state | kWaiting, std::memory_order_relaxed)) {
        break;
      }
    }
    if (first) {
      node.since_ns = os::monotonic_ns();
      waiters_.push_back(node);
    } else {
      waiters_.push_front(node);  // it has waited already
    }
    current_runtime().park_and_unlock(list_lock_, "sync.Mutex.Lock");
    if (node.handed) return;
  }
}

void GoMutex::unlock_slow() {
  const Inside inside;
  if ((state_.load(std::memory_order_relaxed) & kLocked) == 0) fatal_error("sync: unlock of unlocked mutex");
  list_lock_.lock();
  detail::ParkedNode* node = waiters_.pop_front();
  const bool more = !waiters_.empty();
  if (node == nullptr) {
    state_.store(0, std::memory_order_release);
    list_lock_.unlock();
    return;
  }
  // A starving one is given the lock itself; otherwise it is woken and competes with whoever runs now.
  node->handed = os::monotonic_ns() - node->since_ns > kStarvingNs;
  state_.store((node->handed ? kLocked : 0) | (more ? kWaiting : 0), std::memory_order_release);
  Goroutine* g = node->g;
  list_lock_.unlock();
  current_runtime().ready(g);
}

void RWMutex::lock() {
  const Inside inside;
  safepoint_if_on_p();
  lock_.lock();
  if (!writer_ && readers_ == 0) {
    writer_ = true;
    lock_.unlock();
    return;
  }
  ++waiting_writers_;
  park_in(writers_, lock_, "sync.RWMutex.Lock");  // woken as the writer
}

void RWMutex::unlock() {
  const Inside inside;
  GList woken;
  lock_.lock();
  if (!writer_) {
    lock_.unlock();
    fatal_error("sync: Unlock of unlocked RWMutex");
  }
  writer_ = false;
  // Readers who came meanwhile first, then the next writer: neither side can be shut out.
  while (detail::ParkedNode* node = readers_waiting_.pop_front()) {
    ++readers_;
    woken.push_back(node->g);
  }
  if (readers_ == 0) {
    if (detail::ParkedNode* node = writers_.pop_front()) {
      --waiting_writers_;
      writer_ = true;
      woken.push_back(node->g);
    }
  }
  lock_.unlock();
  while (G* g = woken.pop_front()) current_runtime().ready(g);
}

void RWMutex::rlock() {
  const Inside inside;
  safepoint_if_on_p();
  lock_.lock();
  if (!writer_ && waiting_writers_ == 0) {
    ++readers_;
    lock_.unlock();
    return;
  }
  park_in(readers_waiting_, lock_, "sync.RWMutex.RLock");  // woken as a reader
}

void RWMutex::runlock() {
  const Inside inside;
  Goroutine* wake = nullptr;
  lock_.lock();
  if (readers_ <= 0) {
    lock_.unlock();
    fatal_error("sync: RUnlock of unlocked RWMutex");
  }
  if (--readers_ == 0) {
    if (detail::ParkedNode* node = writers_.pop_front()) {
      --waiting_writers_;
      writer_ = true;
      wake = node->g;
    }
  }
  lock_.unlock();
  if (wake != nullptr) current_runtime().ready(wake);
}

void WaitGroup::add(std::int64_t n) {
  const Inside inside;
  safepoint_if_on_p();
  std::int64_t count = count_.load(std::memory_order_relaxed), sum = 0;
  while (!__builtin_add_overflow(count, n, &sum) && sum > 0)
    if (count_.compare_exchange_weak(count, sum, std::memory_order_acq_rel, std::memory_order_relaxed)) return;
  // Down to zero only under the lock: a waiter that sees zero sees it under the lock too, so the group outlives this
  // call's last touch of it.
  GList woken;
  lock_.lock();
  std::int64_t now = 0;
  const bool overflows = __builtin_add_overflow(count_.fetch_add(n, std::memory_order_acq_rel), n, &now);
  if (now == 0 && !overflows)
    while (detail::ParkedNode* node = waiters_.pop_front()) woken.push_back(node->g);
  lock_.unlock();
  if (now < 0 || overflows) runtime_panic("sync: negative WaitGroup counter");
  while (G* g = woken.pop_front()) current_runtime().ready(g);
}

void WaitGroup::wait() {
  const Inside inside;
  safepoint_if_on_p();
  lock_.lock();
  if (count_.load(std::memory_order_acquire) == 0) {
    lock_.unlock();
    return;
  }
  park_in(waiters_, lock_, "sync.WaitGroup.Wait");
}

Semaphore::Semaphore(std::int64_t permits) : permits_(permits) {
  if (permits < 0) runtime_panic(fmt::format("semaphore: negative number of permits ({})", permits));
}

void Semaphore::acquire() {
  const Inside inside;
  safepoint_if_on_p();
  lock_.lock();
  if (permits_ > 0) {
    --permits_;
    lock_.unlock();
    return;
  }
  park_in(waiters_, lock_, "semaphore acquire");  // woken with the permit
}

bool Semaphore::try_acquire() {
  const Inside inside;
  safepoint_if_on_p();
  Guard<SpinLock> hold(lock_);
  if (permits_ <= 0) return false;
  --permits_;
  return true;
}

void Semaphore::release() {
  const Inside inside;
  safepoint_if_on_p();
  lock_.lock();
  detail::ParkedNode* node = waiters_.pop_front();
  const bool too_many = node == nullptr && permits_ == std::numeric_limits<std::int64_t>::max();
  if (node == nullptr && !too_many) ++permits_;
  Goroutine* g = node != nullptr ? node->g : nullptr;
  lock_.unlock();
  if (too_many) runtime_panic("semaphore: released more than held");
  if (g != nullptr) current_runtime().ready(g);
}

void Cond::wait() {
  const Inside inside;
  lock_.lock();
  mutex_.unlock();  // nobody can signal in between: signal() takes lock_
  park_in(waiters_, lock_, "sync.Cond.Wait");
  mutex_.lock();
}

void Cond::signal() {
  const Inside inside;
  safepoint_if_on_p();
  lock_.lock();
  detail::ParkedNode* node = waiters_.pop_front();
  Goroutine* g = node != nullptr ? node->g : nullptr;
  lock_.unlock();
  if (g != nullptr) current_runtime().ready(g);
}

void Cond::broadcast() {
  const Inside inside;
  safepoint_if_on_p();
  GList woken;
  lock_.lock();
  while (detail::ParkedNode* node = waiters_.pop_front()) woken.push_back(node->g);
  lock_.unlock();
  while (G* g = woken.pop_front()) current_runtime().ready(g);
}

}  // namespace gearbox
