// Registry entries: what a member file hands out, and the rule that decides which four gears fit together.
//
// Each member file defines one function named like the file, `SchedulerEntry turnstile()`, in its family's namespace.
// CMake lists the folder and generates the list of declarations and calls; a file without its function is a link error.
// There are no static initialisers and no list to edit.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "interfaces/option.h"

namespace gearbox {

class World;
class Scheduler;
class Allocator;
class Collector;
class Poller;

// Traits are constants: what a member offers and needs.
struct SchedulerTraits {
  bool work_conserving = true;    // no P sleeps while a G is runnable
  bool needs_preemption = false;  // starves others unless sysmon preempts long runners
  std::uint32_t max_procs = 0;    // 0: any number of Ps
};
struct AllocatorTraits {
  bool can_free = true;          // unreachable objects can be taken back
  bool native_spans = true;      // objects found by span division; false: by start bits
  bool concurrent_sweep = true;  // sweep may run while other Ps allocate
};
struct CollectorTraits {
  bool frees = true;              // hands unreachable objects back to the allocator
  bool concurrent_mark = false;   // marks while mutators run, so it needs the write barrier
  bool concurrent_sweep = false;  // sweeps while mutators allocate
};
struct PollerTraits {
  bool completion = false;  // the kernel does the operation; false: the goroutine does it when told it is ready
  bool lane_owner = false;  // a lane may be used by one thread only
  bool real_io = true;      // false: operations complete without a kernel (null member)
};

// A library made elsewhere that a member opens at run time. A figure about the member is a figure about that version.
struct ForeignLibrary {
  std::string name;     // "mimalloc"
  std::string version;  // "2.0.9", as the library says it
  std::string file;     // what was opened
};

namespace detail {
template <class Gear, class Traits>
struct Entry {
  using GearType = Gear;
  std::string_view name;
  std::string_view summary;  // one line
  Traits traits;
  std::function<std::unique_ptr<OptionSet>()> make_options;
  // Makes the gear. An Error when this machine refuses it (a poller whose system call is forbidden, say): never a
  // fallback.
  std::function<Result<std::unique_ptr<Gear>>(World&, const OptionSet&)> make;
  // Opens the member's foreign library and says which it is; null for a member without one. COLD, any thread. An Error
  // when this machine has none that is supported; make() fails with the same sentence.
  Result<ForeignLibrary> (*library)() = nullptr;
};
}  // namespace detail
using SchedulerEntry = detail::Entry<Scheduler, SchedulerTraits>;
using AllocatorEntry = detail::Entry<Allocator, AllocatorTraits>;
using CollectorEntry = detail::Entry<Collector, CollectorTraits>;
using PollerEntry = detail::Entry<Poller, PollerTraits>;

template <class Traits>
struct EntryFacts {
  std::string_view name, summary;
  Traits traits;
  Result<ForeignLibrary> (*library)() = nullptr;
};

// Builds the entry of a member. Impl is constructible from (World&, const Options&). If Impl has a static
// `Result<std::unique_ptr<Gear>> create(World&, const Options&)`, that is used instead, for members that can be
// refused.
template <class Impl, class Options, class Traits>
auto make_entry(EntryFacts<Traits> facts) {
  using E = std::conditional_t<
      std::is_same_v<Traits, SchedulerTraits>, SchedulerEntry,
      std::conditional_t<std::is_same_v<Traits, AllocatorTraits>, AllocatorEntry,
                         std::conditional_t<std::is_same_v<Traits, CollectorTraits>, CollectorEntry, PollerEntry>>>;
  using Gear = typename E::GearType;
  E entry;
  entry.name = facts.name;
  entry.summary = facts.summary;
  entry.traits = facts.traits;
  entry.library = facts.library;
  entry.make_options = [] { return std::unique_ptr<OptionSet>(std::make_unique<TypedOptions<Options>>()); };
  entry.make = [](World& world, const OptionSet& set) -> Result<std::unique_ptr<Gear>> {
    const auto& options = static_cast<const TypedOptions<Options>&>(set).options;
    if constexpr (requires { Impl::create(world, options); }) {
      return Impl::create(world, options);
    } else {
      return std::unique_ptr<Gear>(std::make_unique<Impl>(world, options));
    }
  };
  return entry;
}

// The traits of four gears and the number of Ps -> nothing when they fit, or a sentence that says why they do not.
std::optional<std::string> why_illegal(const SchedulerEntry& scheduler, const AllocatorEntry& allocator,
                                       const CollectorEntry& collector, const PollerEntry& poller, std::uint64_t procs);

// All members, sorted by name; generated from the folders at configure time (cmake/generate_lists.cmake).
std::vector<SchedulerEntry> all_schedulers();
std::vector<AllocatorEntry> all_allocators();
std::vector<CollectorEntry> all_collectors();
std::vector<PollerEntry> all_pollers();

}  // namespace gearbox
