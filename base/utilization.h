// Minimum mutator utilization: of all windows of a length, the one in which the program got the least of the time (Cheng and
// Blelloch, "A parallel, real-time garbage collector", PLDI 2001). Many short pauses close together show here and in no
// list of longest pauses.
#pragma once

#include <cstdint>
#include <vector>

namespace gearbox {

struct Interval {
  std::int64_t begin_ns, end_ns;
};

// A share from 0 to 1. `pauses` are sorted and do not overlap; what of them lies outside of the run does not count. A window
// longer than the run is the whole run. REQUIRES: run.begin_ns < run.end_ns, window_ns > 0.
double minimum_utilization(const std::vector<Interval>& pauses, Interval run, std::int64_t window_ns);

}  // namespace gearbox
