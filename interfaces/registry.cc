#include "interfaces/registry.h"

#include <fmt/format.h>

namespace gearbox {

std::optional<std::string> why_illegal(const SchedulerEntry& scheduler, const AllocatorEntry& allocator,
                                       const CollectorEntry& collector, const PollerEntry& poller,
                                       std::uint64_t procs) {
  if (scheduler.traits.max_procs != 0 && procs > scheduler.traits.max_procs)
    return fmt::format("scheduler={} serves at most {} P, and {} were asked for (--procs)", scheduler.name,
                       scheduler.traits.max_procs, procs);
  if (collector.traits.frees && !allocator.traits.can_free)
    return fmt::format("collector={} frees objects, and allocator={} cannot take them back; collector=none fits it",
                       collector.name, allocator.name);
  if (collector.traits.concurrent_sweep && allocator.traits.can_free && !allocator.traits.concurrent_sweep)
    return fmt::format("collector={} sweeps while goroutines allocate, and allocator={} can only be swept in a pause",
                       collector.name, allocator.name);
  (void)poller;  // every poller goes with every other gear today; its traits decide how the runtime drives it
  return std::nullopt;
}

}  // namespace gearbox
