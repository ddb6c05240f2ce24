// none: the null member. Never collects; what a collector costs is measured against it.
//
// Idea.       The mutator hook returns at once and the barrier never goes up. A heap that is full is out of memory.
// Structure.  Nothing.
// Invariants. None to keep.
// Threads.    Every method may be called from anywhere.
// Rejected.   Refusing collect(): a program that calls gc() must run under every collector, or the comparison has a
//             hole.
// Cost.       One virtual call a refill.
// Weak spot.  Memory.
#include "interfaces/collector.h"
#include "interfaces/registry.h"
#include "interfaces/world.h"

namespace gearbox::collectors {
namespace {

class None final : public Collector {
 public:
  None(World&, const NoOptions&) {}
  void start(Heap&, Allocator&) override {}
  void start_workers() override {}
  void on_refill(std::size_t) override {}
  void flush_write_buffer(P& p) override { p.write_buffer.count = 0; }
  void shade_words(P&, const std::uintptr_t*, std::size_t) override {}
  void scan_before_run(G*) override {}
  void collect(GcReason) override {}
  void stop() override {}
  CollectorStats stats() const override { return {}; }
};

}  // namespace

CollectorEntry none() {
  return make_entry<None, NoOptions>(EntryFacts<CollectorTraits>{
      .name = "none",
      .summary = "Null member: never collects; a full heap is out of memory.",
      .traits = {.frees = false, .concurrent_mark = false, .concurrent_sweep = false},
  });
}

}  // namespace gearbox::collectors
