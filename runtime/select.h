// select: waits for the first of several channel operations, as Go's.
//
//     select(on_recv(a, [&](int v) {...}),                  // or [&](int v, bool ok)
//            on_send(b, 7, [&] {...}),
//            otherwise([&] {...}));                          // Go's default: none is ready
//
// Cases are looked at in random order, so that none starves, and first without a lock: one that looks ready is tried with
// its own channel's lock. If none is, all channels are locked in address order, a Waiter goes into each queue, and the
// first partner to claim SelectState::decided wins. A case on a nil channel is never ready. select() without cases blocks
// for ever.
#pragma once

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "runtime/chan.h"

namespace gearbox {
namespace detail {

// One case, without its types. What only a case that waits needs is made when it does: most are done at once.
struct SelectCase {
  SelectCase() noexcept {}                              // NOLINT(*-use-equals-default,*-member-init): begin()
  ChanCore* channel;                                    // null: nil channel
  void* element;                                        // send: the value; receive: raw storage
  bool (*attempt)(SelectCase& self, Goroutine*& wake);  // locked; true when done
  int index;                                            // in the list of cases
  bool is_send;
  bool ok;      // receive: a value was built
  bool closed;  // send: the channel was found closed
  union {
    Waiter waiter;  // from the time it is in a queue
  };
  void begin(ChanCore* on, bool sends, void* what, bool (*how)(SelectCase&, Goroutine*&)) noexcept {
    channel = on;
    element = what;
    attempt = how;
    is_send = sends;
    ok = closed = false;
  }
};

inline constexpr int kMostCases = 64;

// The index of the case that was done, or -1 when none was ready and `may_block` is false.
int select_cases(SelectCase* const* cases, int count, bool may_block);

// A channel that a variable of the caller's keeps: counting it in and out would cost a select as much as its locks.
template <class T>
struct Borrowed {
  ChanOf<T>* channel;
  ChanOf<T>* core() const noexcept { return channel; }
};

// Holder: Chan<T> for a handle that was made for this case, else Borrowed<T>.
template <class T, class Holder, class F>
struct RecvCase {
  static_assert(!kHoldsRefs<F>, "only heap objects hold Refs: the function of a case captures a T*, or a Root<T>");
  Holder channel;
  F f;
  Slot<T> slot;
  SelectCase base;
  void prepare() {
    refuse_refs_in_channel<T>();
    base.begin(channel.core(), false, slot.bytes, [](SelectCase& self, Goroutine*& wake) {
      return static_cast<ChanOf<T>*>(self.channel)->try_receive_locked(self.element, self.ok, wake);
    });
  }
  void run() {
    if constexpr (std::is_invocable_v<F&, T, bool>) {
      base.ok ? f(slot.take(), true) : f(T{}, false);
    } else if constexpr (std::is_invocable_v<F&, T>) {
      base.ok ? f(slot.take()) : f(T{});
    } else {
      if (base.ok) slot.take();
      f();
    }
  }
};
template <class T, class Holder, class F>
struct SendCase {
  static_assert(!kHoldsRefs<F>, "only heap objects hold Refs: the function of a case captures a T*, or a Root<T>");
  Holder channel;
  T value;
  F f;
  SelectCase base;
  void prepare() {
    refuse_refs_in_channel<T>();
    base.begin(channel.core(), true, &value, [](SelectCase& self, Goroutine*& wake) {
      if (self.channel->closed_) {
        self.closed = true;
        return true;
      }
      return static_cast<ChanOf<T>*>(self.channel)->try_send_locked(*static_cast<T*>(self.element), wake);
    });
  }
  void run() {
    if (base.closed) runtime_panic("send on closed channel");
    f();
  }
};
template <class F>
struct Otherwise {
  F f;
};
template <class C>
inline constexpr bool kIsOtherwise = false;
template <class F>
inline constexpr bool kIsOtherwise<Otherwise<F>> = true;

}  // namespace detail

// A channel that is named by a variable must stay in that variable until the select has returned; one that is returned by
// a call (after(...)) is held by the case.
template <class T, class F>
auto on_recv(const Chan<T>& channel, F f) {
  return detail::RecvCase<T, detail::Borrowed<T>, F>{{channel.core()}, std::move(f), {}, {}};
}
template <class T, class F>
auto on_recv(Chan<T>&& channel, F f) {
  return detail::RecvCase<T, Chan<T>, F>{std::move(channel), std::move(f), {}, {}};
}
template <class T>
auto on_recv(const Chan<T>& channel) {
  return on_recv(channel, [] {});
}
template <class T>
auto on_recv(Chan<T>&& channel) {
  return on_recv(std::move(channel), [] {});
}
template <class T, class V, class F>
auto on_send(const Chan<T>& channel, V&& value, F f) {
  return detail::SendCase<T, detail::Borrowed<T>, F>{{channel.core()}, T(std::forward<V>(value)), std::move(f), {}};
}
template <class T, class V, class F>
auto on_send(Chan<T>&& channel, V&& value, F f) {
  return detail::SendCase<T, Chan<T>, F>{std::move(channel), T(std::forward<V>(value)), std::move(f), {}};
}
template <class F>
auto otherwise(F f) {
  return detail::Otherwise<F>{std::move(f)};
}

// By reference: a copy of a case that was just written word by word waits for each of the words.
template <class... Cases>
void select(Cases&&... cases) {
  constexpr bool kHasDefault = (detail::kIsOtherwise<std::remove_cvref_t<Cases>> || ... || false);
  constexpr int kCount = (static_cast<int>(!detail::kIsOtherwise<std::remove_cvref_t<Cases>>) + ... + 0);
  static_assert(kCount <= detail::kMostCases, "a select has at most 64 cases");
  static_assert((static_cast<int>(detail::kIsOtherwise<std::remove_cvref_t<Cases>>) + ... + 0) <= 1,
                "a select has at most one otherwise, as Go's has one default");
  std::array<detail::SelectCase*, kCount == 0 ? 1 : kCount> list{};
  int filled = 0;
  [[maybe_unused]] const auto add = [&]<class C>(C& c) {
    if constexpr (!detail::kIsOtherwise<C>) {
      c.prepare();
      list[static_cast<std::size_t>(filled++)] = &c.base;
    }
  };
  (add(cases), ...);
  const int chosen = detail::select_cases(list.data(), kCount, !kHasDefault);
  int at = 0;
  [[maybe_unused]] const auto run = [&]<class C>(C& c) {
    if constexpr (detail::kIsOtherwise<C>) {
      if (chosen < 0) c.f();
    } else if (at++ == chosen) {
      c.run();
    }
  };
  (run(cases), ...);
}

}  // namespace gearbox
