// The member's state: what every part of it works on. The essay is in concurrent.cc.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/lock.h"
#include "collectors/concurrent/marker.h"
#include "collectors/concurrent/pacer.h"
#include "interfaces/allocator.h"
#include "interfaces/collector.h"
#include "interfaces/processor.h"
#include "interfaces/world.h"

namespace gearbox::collectors::concurrent_parts {

struct Options {
  std::uint64_t gogc = 100;
  std::uint64_t min_heap_mib = 4;
  std::uint64_t utilisation_pct = 25;
  std::uint64_t helpers = 0;
  std::uint64_t prefetch = 8;
  std::uint64_t write_buffer = WriteBuffer::kCapacity;
  std::uint64_t pause_work_kib = 64;
  bool assists = true;
  bool idle_marking = true;

  void visit(OptionVisitor& v) {
    v.field("gogc", gogc, {0, 10000},
            "Aim to end a cycle when the heap has grown by this percentage of what the last one left. 0: only when "
            "asked, or full.");
    v.field("min_heap_mib", min_heap_mib, {1, 65536},
            "MiB of heap at gogc=100 before the first collection; scaled with gogc.");
    v.field("utilisation_pct", utilisation_pct, {1, 100},
            "Share of all Ps that workers may take while goroutines want to run.");
    v.field("helpers", helpers, {0, 256},
            "Worker goroutines besides the coordinator. 0: one less than there are Ps at the start.");
    v.field("prefetch", prefetch, {0, kRing}, "Objects that wait, being fetched, between the mark stack and the scan.");
    v.field("write_buffer", write_buffer, {2, WriteBuffer::kCapacity},
            "Words a P's write buffer holds; a tiny one shakes the termination (stress).");
    v.field(
        "pause_work_kib", pause_work_kib, {0, 65536},
        "KiB of objects marked and slots looked at in the second pause before it gives up and lets the world run on.");
    v.field("assists", assists, "Goroutines that allocate while marking is under way mark in proportion.");
    v.field("idle_marking", idle_marking, "Workers go on beyond their share while Ps are idle.");
  }
};

inline constexpr std::uint64_t kSliceBytes =
    256 << 10;  // of work between two looks at a worker's share: some hundred microseconds
inline constexpr double kAssistChunkBytes = 32 << 10;  // an assist is worth its fixed cost from here on
inline constexpr std::int64_t kOutOfSightNs = 50'000;  // a wait for those who hold what is left to mark
inline constexpr std::size_t kSweepUnits = 32;         // a background step
inline constexpr std::size_t kSweepUnitsLate = 16;     // a refill's, when the next cycle waits for the sweep

class Concurrent final : public Collector {
 public:
  Concurrent(World& world, const Options& options)
      : world_(world), options_(options), pacer_(options.gogc, options.min_heap_mib << 20) {
    marking_.prefetch = options.prefetch;
  }

  void start(Heap& heap, Allocator& allocator) override {
    heap_ = &heap;
    allocator_ = &allocator;
    marking_.heap = &heap;
  }
  void start_workers() override {
    world_.spawn_system([this] { coordinate(); }, "collector");
    const std::uint64_t helpers = options_.helpers != 0 ? options_.helpers : world_.p_count() - 1;
    for (std::uint64_t i = 0; i < helpers; ++i) world_.spawn_system([this] { help(); }, "collector helper");
  }
  void on_refill(std::size_t bytes) override;
  void flush_write_buffer(P& p) override;
  void shade_words(P&, const std::uintptr_t* first, std::size_t count) override {
    Marker marker(marking_, Piece::kShort);  // not clocked: a few words
    Marker::look_at_words(&marker, first, count);
  }
  void scan_before_run(G* g) override;
  void collect(GcReason reason) override;
  void stop() override;
  CollectorStats stats() const override;
  void counters(CounterVisitor& v) const override {
    v.counter("restarts", restarts_.load(std::memory_order_relaxed),
              "Second pauses that found more to mark than they may, and gave up.");
    v.counter("assist_bytes", assist_bytes_.load(std::memory_order_relaxed), "Bytes marked by assists.");
    v.counter("worker_bytes", worker_bytes_.load(std::memory_order_relaxed), "Bytes marked by workers.");
    v.counter("stacks_before_run", scanned_before_run_.load(std::memory_order_relaxed),
              "Stacks scanned because their goroutine was about to run.");
  }

 private:
  // One P's part of the assist accounts; its owner's.
  struct alignas(64) Account {
    std::uint64_t seen_allocated = 0;
    double debt_bytes = 0;
    double pays_from_bytes = kAssistChunkBytes;  // it is no use to try with less
    std::uint64_t cycle = 0;
  };
  struct Waiter {
    G* g;
    std::uint64_t cycle;  // until completed_ has reached it; ~0: until the coordinator has ended
  };

  void coordinate();
  void help();
  void run_cycle();
  void begin_cycle();
  bool end_cycle();
  void find_deaths();
  void end_deaths();
  void verify();
  void begin_sweep();
  void record_pause(std::int64_t ns);
  bool sweep_step(std::size_t units);
  void sweep_all(bool background);
  void give_memory_back();
  void try_end_mark();
  bool work_slice(std::uint64_t work, std::atomic<std::uint64_t>& counter, std::uint64_t& done);
  bool worker_slice();
  bool take_root_job(Marker& marker);
  void scan_g(Marker& marker, G* g);
  // True if, at one moment during the call, all roots were taken and nothing was grey but in write buffers and in
  // short pieces under way.
  bool run_dry() const noexcept {
    return next_job_.load(std::memory_order_acquire) >= jobs_ && marking_.run_dry();  // partner: take_root_job()
  }
  bool marking_now() const noexcept {
    return heap_->phase.load(std::memory_order_relaxed) == GcPhase::kMark && !marked_.load(std::memory_order_relaxed);
  }
  bool another_is_wanted() {
    Guard<SpinLock> hold(lock_);
    return wanted_ > started_;
  }
  std::int64_t over_share_ns() const;
  void keep_to_share(std::uint32_t& slices);
  void assist(P& p);
  void want(std::uint64_t cycles_from_started);
  void wake_one_helper();
  void wake_helpers();
  void wake_waiters();

  World& world_;
  const Options options_;
  Heap* heap_ = nullptr;
  Allocator* allocator_ = nullptr;
  Marking marking_;
  Pacer pacer_;

  SpinLock lock_;  // guards the fields up to the blank line
  std::uint64_t wanted_ = 0, started_ = 0, completed_ = 0;
  bool stopping_ = false, ended_ = false;
  G* parked_coordinator_ = nullptr;
  std::vector<G*> parked_helpers_;
  std::vector<Waiter> waiters_;

  // Root jobs of this cycle: the world's, objects with finalizers, then groups of goroutine slots. Written while the world
  // is stopped.
  std::size_t world_jobs_ = 0, finalizer_jobs_ = 0, jobs_ = 0;
  std::uint32_t scan_epoch_ = 0;     // of this cycle's stack scan
  std::atomic<bool> ending_{false};  // somebody tries the second pause, or has not counted it yet
  std::atomic<bool> marked_{false};  // in kMark: marking is complete, deaths are looked for. Written in pauses
  std::atomic<std::size_t> next_job_{0};
  // C6: the sweep's end is told to the allocator with nobody inside sweep().
  std::atomic<bool> sweep_closed_{true};
  std::atomic<std::uint32_t> sweepers_{0};

  std::atomic<std::uint64_t> cycle_{0};         // number of the running cycle, for the accounts
  std::atomic<std::int64_t> credit_bytes_{0};   // marked by workers and not yet used up by assists
  std::atomic<std::int64_t> share_used_ns_{0};  // by workers, this cycle
  std::atomic<std::int64_t> mark_began_ns_{0};
  std::atomic<std::uint64_t> refills_{0}, restarts_{0}, assists_{0}, assist_bytes_{0}, worker_bytes_{0},
      scanned_before_run_{0};
  std::atomic<std::int64_t> cpu_ns_{0};
  std::uint64_t live_at_begin_ = 0;
  Account accounts_[kMaxPs];

  mutable SpinLock stats_lock_;
  CollectorStats stats_;  // under stats_lock_
};

}  // namespace gearbox::collectors::concurrent_parts
