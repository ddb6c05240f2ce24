// RunNext: the slot before a P's ring. Its owner puts and takes all the time, thieves come hardly ever.
//
// With an exchange on either side the two of them cost as much as the rest of a switch. So the owner uses plain loads and
// stores (`asymmetric`), and a thief pays for both: it announces itself, makes the owner's thread pass a full fence, and
// then looks whether the owner is in the middle of taking. Either the owner has seen the announcement (and uses
// an exchange while it stands), or the thief sees the owner inside (and goes without).
//
// Invariants. N1  A G that was put is taken once, by the owner or by a thief.
//             N2  A thief only ever turns a G into null, so an owner that sees null may store without more ado.
// Source.     The asymmetric Dekker protocol: Dice, Huang, Yang, "Asymmetric Dekker Synchronization", 2001.
#pragma once

#include <atomic>

#include "base/check.h"
#include "base/os/fence.h"
#include "interfaces/goroutine.h"

namespace gearbox::schedulers::gmp_parts {

class RunNext {
 public:
  // Before first use. REQUIRES: os::has_heavy_fence(), for asymmetric.
  void configure(bool asymmetric) {
    GEARBOX_REQUIRE(!asymmetric || os::has_heavy_fence(), "this kernel has no membarrier, or refuses it");
    asymmetric_ = asymmetric;
  }

  // Any thread; a hint but for the owner, who may trust null.
  G* look(std::memory_order order = std::memory_order_relaxed) const noexcept { return next_.load(order); }

  // Owner. HOT. Puts g in; what was there before, or null.
  G* put(G* g) noexcept {
    if (!asymmetric_) return next_.exchange(g, std::memory_order_seq_cst);
    G* before = take();
    next_.store(g, std::memory_order_release);  // partner: steal()
    return before;
  }

  // Owner. HOT. Null when it is empty.
  G* take() noexcept {
    if (next_.load(std::memory_order_relaxed) == nullptr) return nullptr;
    if (!asymmetric_) return next_.exchange(nullptr, std::memory_order_acquire);
    owner_inside_.store(true, std::memory_order_relaxed);
    os::light_fence();  // partner: steal()
    G* g = nullptr;
    if (thief_inside_.load(std::memory_order_relaxed)) [[unlikely]] {
      g = next_.exchange(nullptr, std::memory_order_acq_rel);
    } else {
      g = next_.load(std::memory_order_relaxed);
      next_.store(nullptr, std::memory_order_relaxed);
    }
    owner_inside_.store(false, std::memory_order_release);  // partner: steal(), which then sees the null
    return g;
  }

  // A thief, any thread. COLD: some microseconds when something is there. Null when there is nothing, or when somebody
  // else is at it.
  G* steal() noexcept {
    if (next_.load(std::memory_order_relaxed) == nullptr) return nullptr;
    if (!asymmetric_) return next_.exchange(nullptr, std::memory_order_acquire);
    if (thief_inside_.exchange(true, std::memory_order_acquire)) return nullptr;
    os::heavy_fence();  // partner: take()
    G* g = nullptr;
    if (!owner_inside_.load(std::memory_order_acquire)) g = next_.exchange(nullptr, std::memory_order_acq_rel);
    thief_inside_.store(false, std::memory_order_release);
    return g;
  }

 private:
  std::atomic<G*> next_{nullptr};
  std::atomic<bool> owner_inside_{false}, thief_inside_{false};
  bool asymmetric_ = false;
};

}  // namespace gearbox::schedulers::gmp_parts
