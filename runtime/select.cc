#include "runtime/select.h"

namespace gearbox::detail {
namespace {

// Distinct channels in address order: the lock order that all selects share. Only the first `count` are ever written:
// zeroing 64 places costs more than a select of two.
struct Locks {
  Locks() noexcept {}  // NOLINT(modernize-use-equals-default,cppcoreguidelines-pro-type-member-init)
  std::array<ChanCore*, kMostCases> channels;
  int count = 0;
  // By insertion: selects are short, and often written in order.
  void add(ChanCore* channel) {
    int at = count;
    while (at > 0 && channels[static_cast<std::size_t>(at - 1)] > channel) --at;
    if (at > 0 && channels[static_cast<std::size_t>(at - 1)] == channel) return;
    for (int i = count++; i > at; --i)
      channels[static_cast<std::size_t>(i)] = channels[static_cast<std::size_t>(i - 1)];
    channels[static_cast<std::size_t>(at)] = channel;
  }
  // A list of locks is more than the analysis can name.
  void lock_all() GEARBOX_NO_THREAD_SAFETY_ANALYSIS {
    for (int i = 0; i < count; ++i) channels[static_cast<std::size_t>(i)]->lock_.lock();
  }
  void unlock_all() GEARBOX_NO_THREAD_SAFETY_ANALYSIS {
    for (int i = count; i-- > 0;) channels[static_cast<std::size_t>(i)]->lock_.unlock();
  }
};

// Fisher and Yates, from the end.
void shuffle(SelectCase** order, int count) {
  Random& random = current_processor()->random;
  for (int left = count; left > 1; --left)
    std::swap(order[left - 1], order[random.below(static_cast<std::uint32_t>(left))]);
}

}  // namespace

int select_cases(SelectCase* const* cases, int count, bool may_block) {
  const Inside inside;
  safepoint();
  // The order in which ready cases are looked at.
  std::array<SelectCase*, kMostCases> order;  // NOLINT(cppcoreguidelines-pro-type-member-init): see Locks
  int live = 0;
  for (int i = 0; i < count; ++i) {
    cases[i]->index = i;
    if (cases[i]->channel != nullptr) order[static_cast<std::size_t>(live++)] = cases[i];
  }
  if (live == 0) {
    if (!may_block) return -1;
    ChanCore::block_for_ever("select (no cases)");
  }
  if (live > 1) shuffle(order.data(), live);

  // One that is ready now needs no other channel's lock: it was ready at that moment, whatever the others were.
  for (int k = 0; k < live; ++k) {
    SelectCase& c = *order[static_cast<std::size_t>(k)];
    if (!(c.is_send ? c.channel->may_send() : c.channel->may_receive())) continue;
    Goroutine* wake = nullptr;
    c.channel->lock_.lock();
    const bool done = c.attempt(c, wake);
    c.channel->lock_.unlock();
    if (!done) continue;  // somebody was faster, or it was a Waiter whose select is decided
    if (wake != nullptr) current_runtime().ready(wake);
    return c.index;
  }
  // With one case, the look was as good as a look with the lock, but for the two reasons above: those end here too.
  if (!may_block && live == 1) return -1;

  // Nothing was: that none is ready is true of one moment only with all locks held.
  Locks locks;
  for (int k = 0; k < live; ++k) locks.add(order[static_cast<std::size_t>(k)]->channel);
  locks.lock_all();
  for (int k = 0; k < live; ++k) {
    SelectCase& c = *order[static_cast<std::size_t>(k)];
    Goroutine* wake = nullptr;
    if (!c.attempt(c, wake)) continue;
    locks.unlock_all();
    if (wake != nullptr) current_runtime().ready(wake);
    return c.index;
  }
  if (!may_block) {
    locks.unlock_all();
    return -1;
  }
  SelectState state;
  Goroutine* g = current_goroutine();
  g->wait_word = nullptr;
  for (int k = 0; k < live; ++k) {
    SelectCase& c = *order[static_cast<std::size_t>(k)];
    ::new (&c.waiter) Waiter{.g = g, .element = c.element, .select = &state};
    (c.is_send ? c.channel->senders_ : c.channel->receivers_).push(c.waiter);
  }
  current_runtime().park([](Runtime&, Goroutine*, void* held) { static_cast<Locks*>(held)->unlock_all(); }, &locks,
                         "select");

  // The winner's Waiter is out of its queue and its element is done; the others are still linked, or dropped by
  // somebody who came too late, and who may be looking at the Waiter still: hence the lock, of one channel at a time.
  const auto* winner = static_cast<const Waiter*>(current_goroutine()->wait_word);
  SelectCase* chosen = nullptr;
  for (int k = 0; k < live; ++k) {
    SelectCase& c = *order[static_cast<std::size_t>(k)];
    if (&c.waiter == winner) {
      chosen = &c;
    } else {
      Guard<SpinLock> hold(c.channel->lock_);
      (c.is_send ? c.channel->senders_ : c.channel->receivers_).remove(c.waiter);
    }
  }
  GEARBOX_REQUIRE(chosen != nullptr, "a select was woken by nobody");
  chosen->ok = chosen->waiter.success;
  chosen->closed = chosen->is_send && !chosen->waiter.success;
  return chosen->index;
}

}  // namespace gearbox::detail
