#include "runtime/timer.h"

#include <algorithm>

#include "runtime/context.h"

namespace gearbox {

TimerHeap::~TimerHeap() {
  Guard<SpinLock> hold(lock_);
  for (const Entry& entry : heap_) {
#if GEARBOX_ASAN
    // A function that was to be called holds itself until then, and its captures are left as they are: their destructors
    // may want a goroutine under them. No leak.
    if (entry.timer->keeps_itself) __lsan_ignore_object(entry.timer->argument);
#endif
    entry.timer->index = Timer::kUnarmed;
    entry.timer->heap.store(nullptr, std::memory_order_release);
  }
  heap_.clear();
}

bool TimerHeap::arm(Timer& t) {
  Guard<SpinLock> hold(lock_);
  t.heap.store(this, std::memory_order_release);  // partner: disarm()
  t.index = static_cast<std::uint32_t>(heap_.size());
  heap_.push_back({t.when, &t});
  sift_up(t.index);
  publish();
  return heap_[0].timer == &t;
}

void TimerHeap::sift_up(std::uint32_t i) {
  const Entry entry = heap_[i];
  while (i > 0) {
    const std::uint32_t parent = (i - 1) / 4;
    if (heap_[parent].when <= entry.when) break;
    heap_[i] = heap_[parent];
    heap_[i].timer->index = i;
    i = parent;
  }
  heap_[i] = entry;
  entry.timer->index = i;
}

void TimerHeap::sift_down(std::uint32_t i) {
  const Entry entry = heap_[i];
  const auto size = static_cast<std::uint32_t>(heap_.size());
  for (;;) {
    const std::uint32_t first = i * 4 + 1;
    if (first >= size) break;
    std::uint32_t least = first;
    for (std::uint32_t c = first + 1; c < std::min(first + 4, size); ++c)
      if (heap_[c].when < heap_[least].when) least = c;
    if (heap_[least].when >= entry.when) break;
    heap_[i] = heap_[least];
    heap_[i].timer->index = i;
    i = least;
  }
  heap_[i] = entry;
  entry.timer->index = i;
}

void TimerHeap::remove(std::uint32_t i) {
  heap_[i].timer->index = Timer::kUnarmed;
  const Entry last = heap_.back();
  heap_.pop_back();
  if (i < heap_.size()) {
    heap_[i] = last;
    last.timer->index = i;
    sift_up(i);
    sift_down(last.timer->index);
  }
}

std::uint32_t TimerHeap::run(std::int64_t now) {
  std::uint32_t fired = 0;
  while (const std::int64_t next = next_when()) {
    if (next > now) break;
    lock_.lock();
    if (heap_.empty() || heap_[0].when > now) {
      lock_.unlock();
      break;
    }
    Timer& t = *heap_[0].timer;
    // Copied before the timer is let go: a one-shot timer may be gone (it may lie on a goroutine's stack) as soon as
    // fire() has readied its owner.
    const auto fire = t.fire;
    void* const argument = t.argument;
    const std::uint64_t sequence = t.sequence;
    const bool live = t.take == nullptr || t.take(argument);
    if (t.period > 0 && live) {
      t.when += t.period * (1 + (now - t.when) / t.period);  // missed ticks are dropped, as in Go
      heap_[0].when = t.when;
      sift_down(0);
    } else {
      remove(0);
      t.heap.store(nullptr, std::memory_order_release);  // partner: disarm(); the last touch of a timer that is no more
    }
    publish();
    lock_.unlock();
    if (!live) continue;
    fire(argument, sequence, now);
    ++fired;
  }
  return fired;
}

void TimerHeap::move_all_to(TimerHeap& other) {
  Guard<SpinLock> hold(lock_);
  for (const Entry& entry : heap_) {
    entry.timer->index = Timer::kUnarmed;
    other.arm(*entry.timer);
  }
  heap_.clear();
  publish();
}

bool disarm(Timer& t) {
  while (TimerHeap* heap = t.heap.load(std::memory_order_acquire)) {
    Guard<SpinLock> hold(heap->lock_);
    if (t.heap.load(std::memory_order_relaxed) != heap) continue;  // fired, or moved to another P meanwhile
    heap->remove(t.index);
    heap->publish();
    t.heap.store(nullptr, std::memory_order_release);
    return true;
  }
  return false;
}

}  // namespace gearbox
