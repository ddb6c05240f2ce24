// A small World for tests of allocators and collectors: goroutines are threads that own a P each, and their stacks are
// arrays of words that hold everything the goroutine may touch. Nothing else of the runtime exists, so a failure here
// is the gear's.
//
// A test makes a MockWorld, start()s it, runs its mutators with run() or adopts the calling thread with Adopt, and
// stops. Allocation takes the same way as in the runtime: window, on_refill, refill, and a collection when the range is
// full.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/os/clock.h"
#include "base/os/memory.h"
#include "interfaces/allocator.h"
#include "interfaces/collector.h"
#include "interfaces/mutant.h"
#include "interfaces/object.h"
#include "interfaces/registry.h"
#include "interfaces/world.h"

namespace gearbox::testing {

inline constexpr std::size_t kStackSlots = 512;
inline constexpr std::size_t kRootSlots = 256;

struct MockG : G {
  std::array<std::atomic<std::uintptr_t>, kStackSlots>
      stack{};           // owner writes, a scanner reads while the owner is held
  bool running = false;  // guarded by MockWorld::lock_
  bool readied = false;  // the same
  bool parked = false;   // the same
  P p;
  M own_m;
  std::function<void()> body;
  std::thread thread;
};

struct MockConfig {
  std::size_t heap_mib = 64;
  WorldConfig world;
  std::uint32_t write_buffer_limit = WriteBuffer::kCapacity;
  std::string allocator = "size_class", collector = "stw";
  std::function<void(OptionSet&)> allocator_options, collector_options;
  // Puts a test's own allocator around the member.
  std::function<std::unique_ptr<Allocator>(std::unique_ptr<Allocator>)> around_allocator;
  std::int64_t slow_restart_ns = 0;  // whoever starts the world is this long on its way back, while others run
};

class MockWorld final : public World {
 public:
  explicit MockWorld(MockConfig config) : settings_(std::move(config)) { gs_.reserve(kMaxPs); }
  ~MockWorld() override {
    for (auto& g : gs_)
      if (g->thread.joinable()) g->thread.join();
    allocator_.reset();
    if (own_range_) os::release(reinterpret_cast<void*>(heap_.base), heap_.bytes);
  }

  // Makes both gears. The error of a gear that this machine refuses comes back.
  Status start() {
    for (AllocatorEntry& entry : all_allocators()) {
      if (entry.name != settings_.allocator) continue;
      auto options = entry.make_options();
      if (settings_.allocator_options) settings_.allocator_options(*options);
      auto made = entry.make(*this, *options);
      if (!made) return made.error();
      allocator_ = std::move(made).value();
      if (settings_.around_allocator) allocator_ = settings_.around_allocator(std::move(allocator_));
    }
    for (CollectorEntry& entry : all_collectors()) {
      if (entry.name != settings_.collector) continue;
      auto options = entry.make_options();
      if (settings_.collector_options) settings_.collector_options(*options);
      auto made = entry.make(*this, *options);
      if (!made) return made.error();
      collector_ = std::move(made).value();
    }
    GEARBOX_REQUIRE(allocator_ != nullptr && collector_ != nullptr, "no such gear: {} or {}", settings_.allocator,
                    settings_.collector);
    heap_.bytes = settings_.heap_mib << 20;
    Result<bool> theirs = allocator_->reserve(heap_);
    if (!theirs) return theirs.error();
    if (!*theirs) {
      Result<void*> range = os::reserve(heap_.bytes, 0, os::kPageBytes);
      if (!range) return range.error();
      heap_.base = reinterpret_cast<std::uintptr_t>(*range);
      own_range_ = true;
    }
    if (Status ok = allocator_->start(heap_); !ok) return ok;
    collector_->start(heap_, *allocator_);
    return Ok{};
  }

  // Runs the bodies, each on a goroutine of its own, the first one like a program's main: when it returns, the
  // collector is stopped. All others must have returned by then or shortly after.
  void run(std::vector<std::function<void()>> bodies) {
    auto first = std::move(bodies[0]);
    std::vector<MockG*> gs;
    gs.push_back(add_g(nullptr));
    for (std::size_t i = 1; i < bodies.size(); ++i) gs.push_back(add_g(std::move(bodies[i])));
    std::vector<MockG*> mutators = gs;
    gs[0]->body = [this, mutators, first = std::move(first)] {
      collector_->start_workers();
      for (std::size_t i = 1; i < mutators.size(); ++i) launch(mutators[i]);
      first();
      for (std::size_t i = 1; i < mutators.size(); ++i)
        while (mutators[i]->status.load(std::memory_order_acquire) != GStatus::kDead) sleep_ns(100'000);
      collector_->stop();
    };
    launch(gs[0]);
    gs[0]->thread.join();
    for (std::size_t i = 0; i < gs_.size(); ++i)
      if (gs_[i]->thread.joinable()) gs_[i]->thread.join();
  }
  void run(std::function<void()> body) { run(std::vector<std::function<void()>>{std::move(body)}); }

  Heap& heap() { return heap_; }
  Allocator& allocator() { return *allocator_; }
  Collector& collector() { return *collector_; }
  static MockG& self() { return *static_cast<MockG*>(current_g()); }

  // ---- the mutator's side. On a goroutine.
  void safepoint() {
    if (current_p()->attention.load(std::memory_order_acquire) != 0) {
      enter_safe(GStatus::kStopped);
      leave_safe();
    }
  }
  // A zeroed object; null when the heap is full even after a collection. `bytes` counts for arrays only.
  void* allocate(const TypeDesc* type, std::size_t bytes);

  // Root slots: what Root<T> is in the runtime.
  void set_root(std::size_t i, void* value) {
    P* p = current_p();
    const auto word = reinterpret_cast<std::uintptr_t>(value);
    if (p->marking) write_barrier(*p, roots_[i].load(std::memory_order_relaxed), word);
    roots_[i].store(word, std::memory_order_release);
  }
  void* root(std::size_t i) const { return reinterpret_cast<void*>(roots_[i].load(std::memory_order_acquire)); }
  void set_finalizer(void* payload) {
    std::lock_guard hold(finalizer_lock_);
    finalizers_.push_back(payload);
  }
  // Payloads looked at by a collector while the world was stopped, whole run.
  std::size_t finalizers_visited_in_pauses() {
    std::lock_guard hold(finalizer_lock_);
    return visited_in_pauses_;
  }
  std::size_t finalized() {
    std::lock_guard hold(finalizer_lock_);
    return queued_.size();
  }
  template <class F>
  void with_world_stopped(F&& f) {
    stop_the_world("test");
    f();
    start_the_world();
  }
  std::vector<Object> all_objects() {
    std::vector<Object> out;
    with_world_stopped([&] {
      allocator_->enumerate([](void* v, const Object& o) { static_cast<std::vector<Object>*>(v)->push_back(o); }, &out);
    });
    return out;
  }

  // ---- World
  const WorldConfig& config() const override { return settings_.world; }
  PId p_count() const override { return p_count_.load(std::memory_order_acquire); }
  P& p(PId id) override { return gs_[id]->p; }
  PId idle_p_count() const override { return 0; }
  bool has_runnable() const override { return true; }
  void prepare_to_park(PId) override {}
  bool cancel_park(PId) override { return true; }
  bool wake_one_parked_p() override { return false; }
  void spawn_system(std::function<void()> body, const char*) override {
    MockG* g = add_g(std::move(body));
    g->system = true;
    launch(g);
  }
  void park_and_unlock(SpinLock& lock, const char*) override {
    MockG& g = self();
    std::unique_lock hold(lock_);
    g.running = false;
    g.parked = true;
    g.status.store(GStatus::kWaiting, std::memory_order_release);
    lock.unlock();
    cv_.notify_all();
    cv_.wait(hold, [&] { return g.readied && !stop_requested_; });
    g.readied = g.parked = false;
    resume(g, hold);
  }
  void ready(G* g) override {
    std::lock_guard hold(lock_);
    static_cast<MockG*>(g)->readied = true;
    cv_.notify_all();
  }
  void hand_over(G* g) override { ready(g); }
  void yield() override {
    safepoint();
    std::this_thread::yield();
  }
  void sleep_ns(std::int64_t ns) override {
    enter_safe(GStatus::kWaiting);
    os::sleep_ns(ns);
    leave_safe();
  }
  void on_system_stack(void (*f)(void*), void* argument) override { f(argument); }
  std::int64_t stop_the_world(const char*) override {
    const std::int64_t began = os::monotonic_ns();
    MockG& g = self();
    std::unique_lock hold(lock_);
    while (stop_requested_) {
      g.running = false;
      g.status.store(GStatus::kStopped, std::memory_order_release);
      cv_.notify_all();
      cv_.wait(hold, [&] { return !stop_requested_; });
      resume(g, hold);
      hold.lock();
    }
    stop_requested_ = true;
    for (auto& other : gs_)
      if (other.get() != &g) other->p.attention.fetch_or(kAttentionStop, std::memory_order_release);
    cv_.wait(hold, [&] {
      for (auto& other : gs_)
        if (other.get() != &g && other->running) return false;
      return true;
    });
    is_stopped_.store(true, std::memory_order_relaxed);
    return os::monotonic_ns() - began;
  }
  std::int64_t start_the_world() override {
    std::int64_t started = 0;
    {
      std::lock_guard hold(lock_);
      for (auto& g : gs_) g->p.attention.store(0, std::memory_order_relaxed);
      stop_requested_ = false;
      is_stopped_.store(false, std::memory_order_relaxed);
      started = os::monotonic_ns();
      cv_.notify_all();
    }
    if (settings_.slow_restart_ns != 0)
      std::this_thread::sleep_for(std::chrono::nanoseconds(settings_.slow_restart_ns));
    return started;
  }
  std::size_t g_slots() const override { return p_count(); }
  G* g_at(std::size_t slot) override { return gs_[slot].get(); }
  void visit_stack(G* g, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) override {
    visit(context, reinterpret_cast<const std::uintptr_t*>(static_cast<MockG*>(g)->stack.data()), kStackSlots);
  }
  std::size_t root_jobs() const override { return 2; }
  void visit_roots(std::size_t job, void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) override {
    if (GEARBOX_MUTANT(kSkipRoots)) return;
    visit(context, reinterpret_cast<const std::uintptr_t*>(roots_.data() + job * (kRootSlots / 2)), kRootSlots / 2);
  }
  void visit_gs(std::size_t group, void (*visit)(void*, G*), void* context) override {
    for (std::size_t i = group * kSlotsAGroup; i < std::min<std::size_t>((group + 1) * kSlotsAGroup, p_count()); ++i)
      if (gs_[i]->status.load(std::memory_order_acquire) != GStatus::kDead) visit(context, gs_[i].get());
  }
  std::uint32_t arm_stack_scan() override {
    for (auto& g : gs_) g->p.scanning = true;
    return ++scan_epoch_;
  }
  void disarm_stack_scan() override {
    for (auto& g : gs_) g->p.scanning = false;
  }
  void set_marking(bool on) override {
    for (auto& g : gs_) g->p.marking = on;
  }
  // Jobs by address, as many as a test's few finalizers make worth while.
  std::size_t finalizer_jobs() const override {
    std::lock_guard hold(finalizer_lock_);
    return finalizers_.empty() ? 0 : kFinalizerJobs;
  }
  void visit_finalizer_objects(std::size_t job, void (*visit)(void*, void*), void* context) override {
    std::lock_guard hold(finalizer_lock_);
    for (void* payload : finalizers_) {
      if (job_of(payload) != job) continue;
      count_visit();
      visit(context, payload);
    }
  }
  void queue_dead_finalizers(std::size_t job, bool (*is_dead)(void*, void*), void* context) override {
    std::lock_guard hold(finalizer_lock_);
    std::erase_if(finalizers_, [&](void* payload) {
      if (job_of(payload) != job) return false;
      count_visit();
      if (!is_dead(context, payload)) return false;
      queued_.push_back(payload);
      return true;
    });
  }

 private:
  static constexpr std::size_t kFinalizerJobs = 4;
  static std::size_t job_of(const void* payload) {
    return (reinterpret_cast<std::uintptr_t>(payload) >> 6) % kFinalizerJobs;
  }
  void count_visit() {  // finalizer_lock_ held
    if (is_stopped_.load(std::memory_order_relaxed)) ++visited_in_pauses_;
  }
  MockG* add_g(std::function<void()> body) {
    std::lock_guard hold(lock_);
    GEARBOX_REQUIRE(heap_.phase.load() == GcPhase::kIdle, "the mock's Ps come before the first cycle");
    gs_.push_back(std::make_unique<MockG>());
    MockG* g = gs_.back().get();
    g->body = std::move(body);
    g->p.id = static_cast<PId>(gs_.size() - 1);
    g->p.collector = collector_.get();
    g->p.heap = &heap_;
    g->p.write_buffer.limit = settings_.write_buffer_limit;
    g->p.m = &g->own_m;
    g->own_m.id = g->p.id;
    g->own_m.p = &g->p;
    g->own_m.current = g;
    allocator_->p_added(g->p);
    p_count_.store(static_cast<PId>(gs_.size()), std::memory_order_release);
    return g;
  }
  void launch(MockG* g) {
    g->status.store(GStatus::kRunnable, std::memory_order_release);
    g->thread = std::thread([this, g] {
      set_current_g(g);
      set_current_m(&g->own_m);
      set_current_p(&g->p);
      leave_safe();
      g->body();
      for (auto& slot : g->stack) slot.store(0, std::memory_order_relaxed);
      enter_safe(GStatus::kDead);
    });
  }
  void enter_safe(GStatus status) {
    MockG& g = self();
    std::lock_guard hold(lock_);
    g.running = false;
    g.status.store(status, std::memory_order_release);
    cv_.notify_all();
  }
  void leave_safe() {
    std::unique_lock hold(lock_);
    cv_.wait(hold, [&] { return !stop_requested_; });
    resume(self(), hold);
  }
  // lock_ held; released.
  void resume(MockG& g, std::unique_lock<std::mutex>& hold) {
    g.running = true;
    hold.unlock();
    if (g.p.scanning && !GEARBOX_MUTANT(kRunUnscanned)) collector_->scan_before_run(&g);
    g.status.store(GStatus::kRunning, std::memory_order_release);
  }

  const MockConfig settings_;
  Heap heap_;
  bool own_range_ = false;
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<Collector> collector_;
  std::mutex lock_;  // guards who runs
  std::condition_variable cv_;
  bool stop_requested_ = false;
  std::atomic<bool> is_stopped_{false};
  std::uint32_t scan_epoch_ = 0;  // written while the world is stopped
  std::vector<std::unique_ptr<MockG>> gs_;
  std::atomic<PId> p_count_{0};
  std::array<std::atomic<std::uintptr_t>, kRootSlots> roots_{};
  mutable std::mutex finalizer_lock_;
  std::vector<void*> finalizers_, queued_;
  std::size_t visited_in_pauses_ = 0;
};

// One counter for the test process, as the runtime has one for its own: TypeDescs are shared by all worlds.
inline std::uint32_t window_of(const TypeDesc* type) {
  static std::atomic<std::uint32_t> next{kTypedWindow};
  std::uint32_t window = type->window.load(std::memory_order_acquire);
  if (window == 0) {
    static std::mutex lock;
    std::lock_guard hold(lock);
    window = type->window.load(std::memory_order_acquire);
    if (window == 0) {
      window = next.load() < kWindows ? next.fetch_add(1) : kHeaderWindow;  // kHeaderWindow: none was left
      type->window.store(window, std::memory_order_release);
    }
  }
  return window;
}

inline void* MockWorld::allocate(const TypeDesc* type, std::size_t bytes) {
  safepoint();
  const bool native = heap_.find == FindKind::kSpans;
  const bool scanned = type->ref_count != 0;
  const bool arrayed = type->array;
  if (!arrayed)
    bytes = type->bytes;
  else if (!GEARBOX_MUTANT(kNoPad))
    bytes += 1;
  const std::size_t need = bytes + (scanned && (arrayed || bytes > kMaxSmallBytes) ? sizeof(ObjectHeader) : 0);
  for (int attempt = 0; attempt < 3; ++attempt) {
    void* cell = nullptr;
    bool header = false;
    if (need > kMaxSmallBytes) {
      collector_->on_refill(bytes);
      header = scanned;
      cell = allocator_->allocate_large(*current_p(), scanned ? type : nullptr, bytes);
    } else {
      std::uint32_t window = size_class_of(need);
      if (scanned && !arrayed) {
        window = window_of(type);
        if (window == kHeaderWindow) {
          window = kHeaderWindow + size_class_of(bytes + sizeof(ObjectHeader));
          header = true;
        }
      } else if (scanned) {
        window += kHeaderWindow;
        header = true;
      }
      Window& w = current_p()->cache.windows[window];
      if (w.free != 0) {
        cell = reinterpret_cast<void*>(w.base + static_cast<std::size_t>(__builtin_ctzll(w.free)) * w.stride);
        w.free &= w.free - 1;
        if (w.needs_zero) std::memset(cell, 0, w.stride);
      } else {
        collector_->on_refill(bytes);
        cell = allocator_->refill(*current_p(), window, scanned ? type : nullptr, bytes);
      }
    }
    if (cell != nullptr) {
      if (!native || !header) return cell;
      auto* h = static_cast<ObjectHeader*>(cell);
      h->bytes = bytes;
      h->type.store(type, std::memory_order_release);  // partner: find_in_span()
      return h + 1;
    }
    collector_->collect(GcReason::kOutOfMemory);
  }
  return nullptr;
}

}  // namespace gearbox::testing
