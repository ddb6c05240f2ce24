// RootedCall: a closure that is kept outside goroutine stacks and may hold plain pointers to heap objects.
//
// go([n] { ... }) may capture a plain pointer, so people write the same for finalizers, timers and deferred functions.
// A std::function would hide the captures in malloc memory that nobody scans. Here the closure lies in a RootBlock of
// its own, whose words are roots from construction to the end; they are shaded when they come in and before they leave.
// What a closure itself keeps in malloc memory (a std::function inside it, a container of plain pointers) stays hidden:
// such things hold Roots.
//
// A call in place never changes the captures (the closure is called as const), since the collector may have looked at
// them already; call_once() moves the closure to the caller's stack first, where anything goes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "runtime/holds_refs.h"
#include "runtime/root.h"

namespace gearbox {

// A move-only handle. Made, moved and dropped by any thread, one at a time; calls as the closure demands.
template <class... Arguments>
class RootedCall {
 public:
  RootedCall() noexcept = default;
  template <class F>
  requires(!std::is_same_v<std::decay_t<F>, RootedCall> &&
           std::is_invocable_v<std::decay_t<F>&, Arguments...>) explicit RootedCall(F&& f)
      : box_(new BoxOf<std::decay_t<F>>(std::forward<F>(f))) {}
  RootedCall(RootedCall&& other) noexcept : box_(std::exchange(other.box_, nullptr)) {}
  RootedCall& operator=(RootedCall&& other) noexcept {
    std::swap(box_, other.box_);
    return *this;
  }
  ~RootedCall() { delete box_; }

  explicit operator bool() const noexcept { return box_ != nullptr; }
  // REQUIRES: not empty. In place; several callers at once if the closure allows it.
  void operator()(Arguments... arguments) const { box_->call(arguments...); }
  // REQUIRES: not empty. Empty afterwards.
  void call_once(Arguments... arguments) { std::exchange(box_, nullptr)->leave(arguments...); }

 private:
  class Box : public RootBlock {
   public:
    Box() noexcept : RootBlock(Words::kAnything) {}
    virtual ~Box() = default;
    virtual void call(Arguments... arguments) const = 0;
    virtual void leave(Arguments... arguments) = 0;  // calls it from the caller's stack; the box is gone before
  };
  template <class F>
  class BoxOf final : public Box {
   public:
    template <class From>
    explicit BoxOf(From&& f) : f_(std::forward<From>(f)) {
      static_assert(!kHoldsRefs<F>, "only heap objects hold Refs: a function that is kept captures a T*, or a Root<T>");
      roots::shade(&f_, sizeof(F));
      this->enlist();
    }
    ~BoxOf() override {
      roots::shade(&f_, sizeof(F));
      this->withdraw();
    }
    void call(Arguments... arguments) const override {
      if constexpr (std::is_invocable_v<const F&, Arguments...>)
        f_(arguments...);
      else
        GEARBOX_PANIC("a closure that changes its captures was called in place");
    }
    void leave(Arguments... arguments) override {
      roots::shade(&f_, sizeof(F));
      F mine(std::move(f_));
      delete this;
      mine(arguments...);
    }

   private:
    void visit_words(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) override {
      if (GEARBOX_MUTANT(kHideClosures)) return;
      visit(context, reinterpret_cast<const std::uintptr_t*>(&f_), sizeof(F) / sizeof(std::uintptr_t));
    }
    alignas(alignof(F) < alignof(std::uintptr_t) ? alignof(std::uintptr_t) : alignof(F)) F f_;
  };
  Box* box_ = nullptr;
};

}  // namespace gearbox
