// Channels: Go's, as counted handles.
//
// A Chan<T> may live anywhere and be copied freely; the channel lives as long as a handle does, and keeps what is in
// its buffer reachable. A default-constructed Chan is Go's nil channel: sending and receiving block for ever, closing
// panics.
//
// One spin lock per channel. A value goes straight from one goroutine's stack to another's when the partner waits
// already, else through the ring buffer; a goroutine that must wait links a Waiter on its own stack into the channel's
// queue and parks, and the lock is let go only after it has left its stack. Whoever takes the Waiter out of the queue
// does the copying and readies it.
//
// Invariants.  C1  Not both: values (or senders) to take, and receivers waiting.   C2  A Waiter is in its queue exactly
//              while in_queue.
//              C3  A select's Waiters compete for SelectState::decided; only the winner's element is touched.
// Collector.   While the world is marking, every value that moves is shaded (stacks are scanned once, buffers once);
//              buffers whose values may hold references are root blocks. Values are moved under the channel's lock, and
//              one with a Root inside takes a root shard's lock then; the collector comes with the shard's lock and
//              must not wait for the channel's. It only tries it: where the lock is held, it looks at the whole ring,
//              whatever is in it or on its way, and what moves meanwhile is shaded by whoever moves it.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/lock.h"
#include "base/sanitize.h"
#include "interfaces/mutant.h"
#include "runtime/count.h"
#include "runtime/heap.h"
#include "runtime/holds_refs.h"
#include "runtime/panic.h"
#include "runtime/root.h"
#include "runtime/runtime.h"

namespace gearbox {

namespace detail {

// Written under the channel's lock only, and looked at by a select without it.
template <class T>
class Watched {
 public:
  Watched(T value) noexcept : value_(value) {}  // NOLINT(google-explicit-constructor): it stands for a T
  // Acquire, for those without the lock: what is read after it is read later.
  operator T() const noexcept { return value_.load(std::memory_order_acquire); }  // NOLINT(google-explicit-constructor)
  Watched& operator=(T value) noexcept {
    value_.store(value, std::memory_order_relaxed);
    return *this;
  }

 private:
  std::atomic<T> value_;
};

struct SelectState {
  std::atomic<bool> decided{false};
  // True for the first that asks.
  bool win() noexcept {
    return !decided.load(std::memory_order_relaxed) && !decided.exchange(true, std::memory_order_acq_rel);
  }
};

// A goroutine that waits on a channel; on its stack.
struct Waiter {
  Goroutine* g = nullptr;
  Waiter* next = nullptr;
  Waiter* previous = nullptr;
  void* element = nullptr;        // sender: the value to take; receiver: raw storage to build it in
  SelectState* select = nullptr;  // null: not part of a select
  bool in_queue = false;
  bool success = false;  // by a partner; false: woken by close
};

class WaitQueue {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  void push(Waiter& w) noexcept {
    w.next = nullptr;
    w.previous = last_;
    if (last_ != nullptr)
      last_->next = &w;
    else
      first_ = &w;
    last_ = &w;
    w.in_queue = true;
  }
  void remove(Waiter& w) noexcept {
    if (!w.in_queue) return;
    if (w.previous != nullptr)
      w.previous->next = w.next;
    else
      first_ = w.next;
    (w.next != nullptr ? w.next->previous : last_) = w.previous;
    w.in_queue = false;
  }
  // The first that is still to be had; Waiters of selects that another case has won are dropped on the way.
  Waiter* pop() noexcept {
    while (Waiter* w = first_) {
      remove(*w);
      if (w->select == nullptr || w->select->win()) return w;
    }
    return nullptr;
  }

 private:
  Watched<Waiter*> first_{nullptr};
  Waiter* last_ = nullptr;
};

// What does not depend on T.
class ChanCore : public RootBlock {
 public:
  // `rooted`: the derived class enlists, when its buffer stands.
  ChanCore(std::uint64_t capacity, bool rooted) : RootBlock(Words::kAnything), capacity_(capacity), rooted_(rooted) {}
  virtual ~ChanCore() = default;
  void add_reference() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  // For whoever knows the channel without holding it. False: its last handle is gone, and it is about to end.
  bool try_add_reference() noexcept {
    std::uint32_t references = references_.load(std::memory_order_relaxed);
    while (references != 0)
      if (references_.compare_exchange_weak(references, references + 1, std::memory_order_relaxed)) return true;
    return false;
  }
  void drop_reference() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (rooted_) withdraw();
    delete this;
  }
  void close_channel();
  [[noreturn]] static void block_for_ever(const char* why);
  // The capacity, or Go's panic.
  static std::uint64_t checked(Count capacity, std::size_t element_bytes) {
    if (!capacity.fits(element_bytes)) [[unlikely]]
      runtime_panic("makechan: size out of range");
    return capacity.value();
  }
  static void* new_ring(std::uint64_t capacity, std::size_t element_bytes, std::size_t alignment);  // never null
  // Parks the current goroutine, which is linked in; the lock is released behind it.
  void park_unlocking(const char* why) GEARBOX_RELEASE(lock_) GEARBOX_NO_THREAD_SAFETY_ANALYSIS;

  // Without the lock: whether an attempt is worth taking it. False proves that, at one moment during the call, the channel
  // was open and the operation had to wait: what was seen not to be ready before it was seen open (or, sending, after: a
  // closed channel does not become full) was so while it was open.
  bool may_receive() const noexcept {
    if (count_ > 0 || !senders_.empty()) return true;
    return closed_;
  }
  bool may_send() const noexcept {
    if (closed_) return true;
    return count_ < capacity_ || !receivers_.empty();
  }

  SpinLock lock_;
  Watched<bool> closed_{false};
  const std::uint64_t capacity_;
  Watched<std::uint64_t> count_{0};
  std::uint64_t head_ = 0;
  WaitQueue receivers_, senders_;

 private:
  std::atomic<std::uint32_t> references_{1};
  const bool rooted_;
};

template <class T>
constexpr void refuse_refs_in_channel() noexcept {
  static_assert(!kHoldsRefs<T>,
                "only heap objects hold Refs: send a T*, which a channel keeps reachable, or a Root<T>");
}

template <class T>
inline void shade_value(const T& value) noexcept {
  if constexpr (kMayRefer<T>) {
    if (!GEARBOX_MUTANT(kNoShadeAtHandoff) && current_p() != nullptr) shade_if_marking(&value, sizeof(T));
  }
}

template <class T>
class ChanOf : public ChanCore {  // a timer's channel adds to it (time.cc)
 public:
  explicit ChanOf(Count capacity)
      : ChanCore(checked(capacity, sizeof(T)), kMayRefer<T> && capacity.value() > 0),
        ring_(capacity_ > 0 ? static_cast<T*>(new_ring(capacity_, sizeof(T), alignof(T))) : nullptr) {
    refuse_refs_in_channel<T>();
    if constexpr (kMayRefer<T>)
      if (capacity_ > 0) enlist();
  }
  ~ChanOf() override {
    for (std::uint64_t i = 0; i < count_; ++i) ring_[index(i)].~T();
    ::operator delete (ring_, std::align_val_t{alignof(T)});
  }

  // With the lock held: does it now, if it can. `wake` is to be readied after the lock is released.
  // REQUIRES: not closed.
  bool try_send_locked(T& value, Goroutine*& wake) {
    if (Waiter* w = receivers_.pop()) {
      shade_value(value);
      new (w->element) T(std::move(value));
      w->success = true;
      w->g->wait_word = w;
      wake = w->g;
      return true;
    }
    if (count_ == capacity_) return false;
    shade_value(value);
    new (&ring_[index(count_)]) T(std::move(value));
    count_ = count_ + 1;
    return true;
  }
  // `into` is raw storage; `ok` false: closed and drained, nothing was built.
  bool try_receive_locked(void* into, bool& ok, Goroutine*& wake) {
    if (count_ > 0) {
      T& first = ring_[head_];
      shade_value(first);
      new (into) T(std::move(first));
      first.~T();  // NOLINT(bugprone-use-after-move): what was moved from still has an end
      if constexpr (kMayRefer<T>)
        std::memset(static_cast<void*>(&first), 0, sizeof(T));  // what was received must not look reachable here
      head_ = head_ + 1 == capacity_ ? 0 : head_ + 1;
      count_ = count_ - 1;
      if (Waiter* w = senders_.pop()) {  // the buffer was full: its place goes to the first who waited
        T& value = *static_cast<T*>(w->element);
        shade_value(value);
        new (&ring_[index(count_)]) T(std::move(value));
        count_ = count_ + 1;
        w->success = true;
        w->g->wait_word = w;
        wake = w->g;
      }
      ok = true;
      return true;
    }
    if (Waiter* w = senders_.pop()) {
      T& value = *static_cast<T*>(w->element);
      shade_value(value);
      new (into) T(std::move(value));
      w->success = true;
      w->g->wait_word = w;
      wake = w->g;
      ok = true;
      return true;
    }
    ok = false;
    return closed_;
  }

  void send(T value) {
    const Inside inside;
    safepoint();
    lock_.lock();
    if (closed_) [[unlikely]] {
      lock_.unlock();
      runtime_panic("send on closed channel");
    }
    Goroutine* wake = nullptr;
    if (try_send_locked(value, wake)) {
      lock_.unlock();
      if (wake != nullptr) current_runtime().ready(wake);
      return;
    }
    Waiter w;
    w.g = current_goroutine();
    w.element = &value;
    senders_.push(w);
    park_unlocking("chan send");
    if (!w.success) runtime_panic("send on closed channel");
  }

  bool receive(void* into) {
    const Inside inside;
    safepoint();
    lock_.lock();
    bool ok = false;
    Goroutine* wake = nullptr;
    if (try_receive_locked(into, ok, wake)) {
      lock_.unlock();
      if (wake != nullptr) current_runtime().ready(wake);
      return ok;
    }
    Waiter w;
    w.g = current_goroutine();
    w.element = into;
    receivers_.push(w);
    park_unlocking("chan receive");
    return w.success;
  }

 private:
  std::uint64_t index(std::uint64_t i) const noexcept {
    const std::uint64_t at = head_ + i;
    return at >= capacity_ ? at - capacity_ : at;
  }
  GEARBOX_NO_SANITIZE("address")
  void visit_words(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) override {
    if (!lock_.try_lock()) {  // see "Collector"
      visit(context, reinterpret_cast<const std::uintptr_t*>(ring_), capacity_ * sizeof(T) / sizeof(std::uintptr_t));
      return;
    }
    for (std::uint64_t i = 0; i < count_; ++i)
      visit(context, reinterpret_cast<const std::uintptr_t*>(&ring_[index(i)]), sizeof(T) / sizeof(std::uintptr_t));
    lock_.unlock();
  }
  T* const ring_;
};

// Raw storage for a received value.
template <class T>
struct Slot {
  Slot() noexcept {}  // NOLINT(*-use-equals-default,*-member-init): not zeroed
  alignas(T) std::byte bytes[sizeof(T)];
  T take() {
    T& built = *std::launder(reinterpret_cast<T*>(bytes));
    T value = std::move(built);
    built.~T();
    return value;
  }
};

}  // namespace detail

template <class T>
struct Received {
  T value;
  bool ok;  // false: the channel is closed and drained, value is T{}
};

template <class T>
class Chan {
 public:
  Chan() noexcept = default;  // nil
  // 0: unbuffered. Panics as Go does when so many elements cannot be.
  explicit Chan(Count capacity) : core_(make_core(capacity)) {}
  Chan(const Chan& other) noexcept : core_(other.core_) {
    if (core_ != nullptr) core_->add_reference();
  }
  Chan(Chan&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  Chan& operator=(Chan other) noexcept {
    std::swap(core_, other.core_);
    return *this;
  }
  ~Chan() {
    if (core_ != nullptr) core_->drop_reference();
  }

  // Blocks until a receiver or the buffer takes the value. Panics when the channel is closed. On a goroutine, like all
  // below.
  void send(T value) const {
    detail::refuse_refs_in_channel<T>();
    if (core_ == nullptr) detail::ChanCore::block_for_ever("chan send (nil chan)");
    core_->send(std::move(value));
  }
  // Blocks until there is a value; T{} when the channel is closed and drained.
  T recv() const { return recv_ok().value; }
  Received<T> recv_ok() const {
    detail::refuse_refs_in_channel<T>();
    if (core_ == nullptr) detail::ChanCore::block_for_ever("chan receive (nil chan)");
    detail::Slot<T> slot;
    if (core_->receive(slot.bytes)) return {slot.take(), true};
    return {T{}, false};
  }
  // Wakes all who wait; what is buffered can still be received. Panics when it is closed already or nil.
  void close() const {
    safepoint_if_on_p();
    if (core_ == nullptr) runtime_panic("close of nil channel");
    core_->close_channel();
  }
  std::uint64_t len() const {
    safepoint_if_on_p();  // `while (c.len() == 0) {}` must not keep everybody else waiting
    if (core_ == nullptr) return 0;
    const Inside inside;
    Guard<SpinLock> hold(core_->lock_);
    return core_->count_;
  }
  std::uint64_t cap() const {
    safepoint_if_on_p();
    return core_ == nullptr ? 0 : core_->capacity_;
  }
  explicit operator bool() const noexcept { return core_ != nullptr; }
  bool operator==(const Chan& other) const noexcept { return core_ == other.core_; }

  // for (T x : channel): until it is closed and drained.
  class Iterator {
   public:
    explicit Iterator(const Chan* channel) : channel_(channel) { ++*this; }
    T& operator*() { return *value_; }
    Iterator& operator++() {
      auto received = channel_->recv_ok();
      if (received.ok)
        value_.emplace(std::move(received.value));
      else
        value_.reset();
      return *this;
    }
    bool operator!=(std::nullptr_t) const { return value_.has_value(); }

   private:
    const Chan* channel_;
    std::optional<T> value_;
  };
  Iterator begin() const { return Iterator(this); }
  std::nullptr_t end() const { return nullptr; }

  detail::ChanOf<T>* core() const noexcept { return core_; }  // for select and timers; null when nil
  // A handle that takes over a reference which the caller has.
  static Chan adopt(detail::ChanOf<T>* owned) noexcept {
    Chan handle;
    handle.core_ = owned;
    return handle;
  }

 private:
  static detail::ChanOf<T>* make_core(Count capacity) {
    safepoint_if_on_p();
    return new detail::ChanOf<T>(capacity);
  }
  detail::ChanOf<T>* core_ = nullptr;
};

// capacity 0: unbuffered.
template <class T>
Chan<T> make_chan(Count capacity = 0) {
  return Chan<T>(capacity);
}

}  // namespace gearbox
