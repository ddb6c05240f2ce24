// stw: marks and sweeps with the world stopped. The oracle that every other collector is checked against.
//
// Idea.       Nothing moves while it looks, so there is no barrier, no second colour, no termination protocol: what it
//             frees is garbage, or the roots are wrong. It shares no line of code with `concurrent`, so that one cannot
//             hide the other's mistake.
// Structure.  One marker. Found words are marked at once and pushed; between the mark stack and the scan lies a short
//             queue, in which an object waits while its memory is being fetched. Large arrays are scanned in pieces, so
//             that the stack grows by one entry, not by their length.
// Invariants. W1  Every object on the stack or in the queue is marked.
//             W2  A cycle begins with the last sweep done.
//             W3  The end of a sweep is told to the allocator once, with nobody inside sweep(): whoever finds nothing left
//                 raises sweep_ended_ and waits for sweepers_; whoever comes counts itself in sweepers_ and then looks at
//                 sweep_ended_. One of the two sees the other.
// Threads.    on_refill and collect: goroutines. The pause runs on the M's own stack of the one that stopped the world.
//             Sweeping (sweep=lazy): any P in on_refill.
// Rejected.   Pushing unmarked words and marking at the pop: the stack would hold every edge instead of every object.
// Cost.       The pause is O(live objects), and with sweep=eager O(spans) more.
// Weak spot.  That pause; and one marker leaves the other processors idle during it.
#include <algorithm>
#include <array>
#include <atomic>
#include <vector>

#include "base/check.h"
#include "base/os/clock.h"
#include "base/sanitize.h"
#include "interfaces/allocator.h"
#include "interfaces/collector.h"
#include "interfaces/current.h"
#include "interfaces/processor.h"
#include "interfaces/registry.h"
#include "interfaces/world.h"

namespace gearbox::collectors {
namespace {

enum class Sweep : std::uint8_t { kEager, kLazy };

struct Options {
  std::uint64_t gogc = 100;
  std::uint64_t min_heap_mib = 4;
  std::uint64_t prefetch = 8;
  Sweep sweep = Sweep::kEager;

  void visit(OptionVisitor& v) {
    v.field(
        "gogc", gogc, {0, 10000},
        "Collect when the heap has grown by this percentage of what the last mark left. 0: only when asked, or full.");
    v.field("min_heap_mib", min_heap_mib, {1, 65536},
            "MiB of heap at gogc=100 before the first collection; scaled with gogc.");
    v.field("prefetch", prefetch, {0, 16}, "Objects that wait, being fetched, between the mark stack and the scan.");
    v.field("sweep", sweep, {"eager", "lazy"}, "eager: in the pause. lazy: by refills, a few spans each.");
  }
};

constexpr std::size_t kArrayPieceBytes = 64 << 10;
constexpr std::size_t kSweepUnits = 256;  // a call, in a pause or on a goroutine that waits for the end of the sweep
constexpr std::size_t kSweepUnitsARefill = 4;  // lazy

// An object to be scanned. The low bit of `at` says that it is a piece of an array: its end is looked up.
struct Grey {
  std::uintptr_t at;
  const TypeDesc* type;
};

// A vector whose push is small enough to be part of the inner loop.
class GreyStack {
 public:
  bool empty() const noexcept { return count_ == 0; }
  [[gnu::always_inline]] void push(Grey grey) {
    if (count_ == entries_.size()) [[unlikely]]
      grow();
    entries_[count_++] = grey;
  }
  Grey pop() noexcept { return entries_[--count_]; }

 private:
  [[gnu::noinline]] void grow() { entries_.resize(std::max<std::size_t>(4096, 2 * count_)); }
  std::vector<Grey> entries_;
  std::size_t count_ = 0;
};

class Stw final : public Collector {
 public:
  Stw(World& world, const Options& options) : world_(world), options_(options) {}

  void start(Heap& heap, Allocator& allocator) override {
    heap_ = &heap;
    allocator_ = &allocator;
    set_trigger(0);
  }
  void start_workers() override {}

  void on_refill(std::size_t bytes) override {
    const std::uint64_t stress = world_.config().stress_alloc;
    if (stress != 0 && refills_.fetch_add(1, std::memory_order_relaxed) % stress == stress - 1)
      return collect(GcReason::kStress);
    if (heap_->live_bytes.load(std::memory_order_relaxed) + bytes >= trigger_.load(std::memory_order_relaxed))
      return collect(GcReason::kHeapGrowth);
    if (heap_->phase.load(std::memory_order_relaxed) == GcPhase::kSweep) sweep(kSweepUnitsARefill);
  }

  void flush_write_buffer(P& p) override { p.write_buffer.count = 0; }  // the flag is never up outside the pause
  void shade_words(P&, const std::uintptr_t*, std::size_t) override {}
  void scan_before_run(G*) override {}

  void collect(GcReason reason) override;
  void stop() override {}  // a cycle never outlives the pause it runs in

  CollectorStats stats() const override {
    CollectorStats stats = stats_;
    stats.cpu_ns += sweep_ns_.load(std::memory_order_relaxed);
    return stats;
  }
  void counters(CounterVisitor& v) const override {
    v.counter("marked_objects", marked_objects_, "Objects marked, all cycles.");
    v.counter("cycles_shared", shared_.load(std::memory_order_relaxed),
              "Requests that were served by another one's cycle.");
  }

 private:
  void set_trigger(std::uint64_t marked) noexcept {
    const std::uint64_t least = options_.min_heap_mib * options_.gogc / 100 << 20;
    trigger_.store(options_.gogc == 0 ? ~std::uint64_t{0} : std::max(least, marked + marked * options_.gogc / 100),
                   std::memory_order_relaxed);
  }
  bool sweep(std::size_t units);
  void end_sweep();
  void pause();
  void mark_roots();
  void drain();
  void scan(Grey grey);
  void grey_word(std::uintptr_t word);
  [[gnu::always_inline]] void grey_slot(std::uintptr_t at) {
    if (const Object object = find_referent(
            *heap_, reinterpret_cast<const std::atomic<std::uintptr_t>*>(at)->load(std::memory_order_relaxed)))
      grey(object);
  }
  void grey(const Object& object);
  GEARBOX_NO_SANITIZE("address", "thread")
  static void look_at_words(void* self, const std::uintptr_t* first, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) static_cast<Stw*>(self)->grey_word(first[i]);
  }

  World& world_;
  const Options options_;
  Heap* heap_ = nullptr;
  Allocator* allocator_ = nullptr;
  std::atomic<std::uint64_t> trigger_{0}, refills_{0}, shared_{0};
  std::atomic<std::uint64_t> cycles_{0};    // written in a pause
  std::atomic<std::int64_t> sweep_ns_{0};   // outside of pauses
  std::atomic<bool> sweep_ended_{true};     // of this cycle: finish_sweep() has been called, or is about to be (W3)
  std::atomic<std::uint32_t> sweepers_{0};  // outside of pauses, inside sweep() (W3)

  // Used in the pause only.
  GreyStack stack_;
  std::uint64_t marked_bytes_ = 0, marked_objects_ = 0;
  CollectorStats stats_;
};

[[gnu::always_inline]] inline void Stw::grey(const Object& object) {
  // One marker, so a plain read and write will do where others need a locked one.
  const std::uint64_t marks = object.mark_word->load(std::memory_order_relaxed);
  if ((marks & object.mark_bit) != 0) return;
  object.mark_word->store(marks | object.mark_bit, std::memory_order_relaxed);
  marked_bytes_ += object.payload + object.payload_bytes - object.cell;
  ++marked_objects_;
  if (object.type == nullptr || object.type->ref_count == 0) return;
  stack_.push({object.payload | (object.type->array ? 1 : 0), object.type});
}

void Stw::collect(GcReason reason) {
  // Whoever gets the world after us may find that a whole cycle was run since we asked: its pause began after our call,
  // since we were running then.
  const std::uint64_t asked = cycles_.load(std::memory_order_acquire);
  const auto busy = static_cast<std::int64_t>(world_.p_count() - world_.idle_p_count());  // about to stand still
  const std::int64_t to_stop = world_.stop_the_world("collect");
  const std::int64_t stopped = os::monotonic_ns();
  if (cycles_.load(std::memory_order_acquire) == asked) {
    world_.on_system_stack([](void* self) { static_cast<Stw*>(self)->pause(); }, this);
    const std::int64_t ended = os::monotonic_ns();
    stats_.mark_ns += ended - stopped;
    stats_.cpu_ns += (ended - stopped) * busy;
    stats_.pause_ns.record(static_cast<std::uint64_t>(to_stop + ended - stopped));
  } else {
    shared_.fetch_add(1, std::memory_order_relaxed);
  }
  world_.start_the_world();
  if (reason != GcReason::kHeapGrowth) {
    while (sweep(kSweepUnits)) {
    }
    // Others may be at the last pieces, and one of them ends the sweep: none of them parks or reaches a safepoint there.
    while (heap_->phase.load(std::memory_order_acquire) == GcPhase::kSweep) os::yield_thread();  // partner: end_sweep()
  }
  // What the heap will hardly need before the next cycle; a step reaches no safepoint, so none runs inside a pause.
  const std::uint64_t trigger = trigger_.load(std::memory_order_relaxed);
  while (allocator_->release_free_memory(trigger + std::min(trigger / 10, ~trigger))) world_.yield();
}

// A step outside of pauses. False when nothing was left to take.
bool Stw::sweep(std::size_t units) {
  const std::int64_t began = os::monotonic_ns();
  sweepers_.fetch_add(1, std::memory_order_seq_cst);  // partner: end_sweep(), W3
  const bool more = !sweep_ended_.load(std::memory_order_seq_cst) && allocator_->sweep(*current_p(), units);
  sweepers_.fetch_sub(1, std::memory_order_release);
  sweep_ns_.fetch_add(os::monotonic_ns() - began, std::memory_order_relaxed);
  if (!more) end_sweep();
  return more;
}

// Whoever finds nothing left to sweep closes the cycle; once. No safepoint in between, so no pause can find it half
// done.
void Stw::end_sweep() {
  if (sweep_ended_.exchange(true, std::memory_order_seq_cst)) return;         // partner: sweep(), W3
  while (sweepers_.load(std::memory_order_acquire) != 0) os::yield_thread();  // partner: sweep()
  allocator_->finish_sweep();
  heap_->phase.store(GcPhase::kIdle, std::memory_order_release);
}

// World stopped, on the M's stack, the caller's goroutine saved like all others.
void Stw::pause() {
  P& p = *current_p();
  while (!sweep_ended_.load(std::memory_order_relaxed))  // W2
    if (!allocator_->sweep(p, kSweepUnits)) end_sweep();
  allocator_->begin_mark();
  heap_->phase.store(GcPhase::kMark, std::memory_order_release);
  marked_bytes_ = 0;
  world_.set_marking(true);  // for threads without a P, which go on changing roots
  mark_roots();
  drain();
  // What a finalizer will see must live: first the fields of all objects that have one, then, of those found dead, the
  // objects themselves.
  const std::size_t finalizer_jobs = world_.finalizer_jobs();
  for (std::size_t job = 0; job < finalizer_jobs; ++job)
    world_.visit_finalizer_objects(
        job,
        [](void* self, void* payload) {
          auto* stw = static_cast<Stw*>(self);
          const Object object = find_object(*stw->heap_, reinterpret_cast<std::uintptr_t>(payload));
          for_each_slot(object, [stw](auto* slot) { stw->grey_word(slot->load(std::memory_order_relaxed)); });
        },
        this);
  drain();
  world_.take_shaded(look_at_words, this);
  drain();
  for (std::size_t job = 0; job < finalizer_jobs; ++job)
    world_.queue_dead_finalizers(
        job,
        [](void* self, void* payload) {
          auto* stw = static_cast<Stw*>(self);
          const Object object = find_object(*stw->heap_, reinterpret_cast<std::uintptr_t>(payload));
          if (object.marked()) return false;
          stw->grey(object);
          return true;
        },
        this);
  drain();
  world_.set_marking(false);

  allocator_->begin_sweep();
  heap_->phase.store(GcPhase::kSweep, std::memory_order_release);
  sweep_ended_.store(false, std::memory_order_relaxed);
  heap_->live_bytes.store(marked_bytes_, std::memory_order_relaxed);
  set_trigger(marked_bytes_);
  if (options_.sweep == Sweep::kEager) {
    while (allocator_->sweep(p, kSweepUnits)) {
    }
    end_sweep();
#if defined(GEARBOX_CHECKED)
    allocator_->check();
#endif
  }
  stats_.marked_bytes = marked_bytes_;
  ++stats_.cycles;
  cycles_.fetch_add(1, std::memory_order_release);
}

void Stw::mark_roots() {
  for (std::size_t slot = 0; slot < world_.g_slots(); ++slot) {
    G* g = world_.g_at(slot);
    if (g == nullptr || g->status.load(std::memory_order_acquire) == GStatus::kDead) continue;
    world_.visit_stack(g, look_at_words, this);
    drain();  // keeps the stack short
  }
  for (std::size_t job = 0; job < world_.root_jobs(); ++job) {
    world_.visit_roots(job, look_at_words, this);
    drain();
  }
}

void Stw::grey_word(std::uintptr_t word) {
  if (!heap_->contains(word)) return;
  if (const Object object = find_object(*heap_, word)) grey(object);
}

void Stw::drain() {
  // A ring of objects whose first line is on its way; its length covers a cache miss by the scans of the others.
  std::array<Grey, 16> ring;
  const std::size_t depth = options_.prefetch;
  std::size_t head = 0, count = 0;
  for (;;) {
    while (count < depth && !stack_.empty()) {
      const Grey next = stack_.pop();
      __builtin_prefetch(reinterpret_cast<const void*>(next.at & ~std::uintptr_t{1}));
      ring[(head + count++) % ring.size()] = next;
    }
    if (count != 0) {
      const Grey next = ring[head % ring.size()];
      ++head;
      --count;
      scan(next);
    } else if (!stack_.empty()) {  // prefetch=0
      const Grey next = stack_.pop();
      scan(next);
    } else {
      return;
    }
  }
}

void Stw::scan(Grey grey) {
  const TypeDesc& type = *grey.type;
  if ((grey.at & 1) == 0) {
    for (std::uint32_t i = 0; i < type.ref_count; ++i) grey_slot(grey.at + type.ref_offsets[i]);
    return;
  }
  std::uintptr_t row = grey.at - 1;
  const Object object = find_object(*heap_, row);
  const std::uintptr_t end = object.payload + object.payload_bytes;
  const std::uintptr_t stop = std::min<std::uintptr_t>(end, row + kArrayPieceBytes);
  for (; row + type.bytes <= end && row < stop; row += type.bytes)
    for (std::uint32_t i = 0; i < type.ref_count; ++i) grey_slot(row + type.ref_offsets[i]);
  if (row + type.bytes <= end) stack_.push({row | 1, grey.type});
}

}  // namespace

CollectorEntry stw() {
  return make_entry<Stw, Options>(EntryFacts<CollectorTraits>{
      .name = "stw",
      .summary = "Marks and sweeps with the world stopped; the oracle for all others.",
      .traits = {.frees = true, .concurrent_mark = false, .concurrent_sweep = false},
  });
}

}  // namespace gearbox::collectors
