// A world for tests of pollers: ready() collects, everything else is a mistake.
#pragma once

#include <cstdlib>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "interfaces/world.h"

namespace gearbox::testing {

// As much of a world as a poller asks for: ready(). Everything else is a mistake.
class ReadyWorld final : public World {
 public:
  std::vector<G*> take() {
    std::lock_guard hold(lock_);
    return std::exchange(readied_, {});
  }
  void ready(G* g) override {
    std::lock_guard hold(lock_);
    readied_.push_back(g);
  }
  const WorldConfig& config() const override { return config_; }
  PId p_count() const override { return 1; }
  P& p(PId) override { return p_; }
  PId idle_p_count() const override { return 0; }
  bool has_runnable() const override { return false; }
  void prepare_to_park(PId) override { ::abort(); }
  bool cancel_park(PId) override { ::abort(); }
  bool wake_one_parked_p() override { ::abort(); }
  void spawn_system(std::function<void()>, const char*) override { ::abort(); }
  void park_and_unlock(SpinLock&, const char*) override { ::abort(); }
  void hand_over(G*) override { ::abort(); }
  void yield() override { ::abort(); }
  void sleep_ns(std::int64_t) override { ::abort(); }
  void on_system_stack(void (*)(void*), void*) override { ::abort(); }
  std::int64_t stop_the_world(const char*) override { ::abort(); }
  std::int64_t start_the_world() override { ::abort(); }
  std::size_t g_slots() const override { return 0; }
  G* g_at(std::size_t) override { return nullptr; }
  void visit_stack(G*, void (*)(void*, const std::uintptr_t*, std::size_t), void*) override { ::abort(); }
  std::size_t root_jobs() const override { return 0; }
  void visit_roots(std::size_t, void (*)(void*, const std::uintptr_t*, std::size_t), void*) override { ::abort(); }
  void visit_gs(std::size_t, void (*)(void*, G*), void*) override { ::abort(); }
  std::uint32_t arm_stack_scan() override { ::abort(); }
  void disarm_stack_scan() override { ::abort(); }
  void set_marking(bool) override { ::abort(); }
  std::size_t finalizer_jobs() const override { return 0; }
  void visit_finalizer_objects(std::size_t, void (*)(void*, void*), void*) override {}
  void queue_dead_finalizers(std::size_t, bool (*)(void*, void*), void*) override {}

 private:
  WorldConfig config_;
  P p_;
  std::mutex lock_;
  std::vector<G*> readied_;
};

}  // namespace gearbox::testing
