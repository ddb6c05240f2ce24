// Load: when the operations of a workload begin.
//
//   closed   an operation begins when the one before it has ended. Right for "how much can this do?", wrong for "how long
//            does one wait?": while the system stands still nobody asks it anything, so a pause of 10 ms is one slow
//            operation among millions (coordinated omission; Gil Tene, "How NOT to Measure Latency").
//   fixed    operations are due at equal distances, whatever became of those before.
//   poisson  the same rate with exponentially distributed gaps, as independent users make them.
//
// With fixed and poisson the load is open: an operation that begins late because the one before it was slow is charged from
// the moment it was due, so a pause counts for every operation that fell into it. Rates are of all clients together; each
// client has a Schedule of its own with its share of the rate.
#pragma once

#include <cstdint>

#include "base/random.h"
#include "interfaces/workload.h"

namespace gearbox::workloads::load {

enum class Arrivals : std::uint8_t { kClosed, kFixed, kPoisson };

// The parameters of a workload that can be loaded either way: a member of its Params, visited with them.
struct Load {
  Arrivals arrivals = Arrivals::kClosed;
  std::uint64_t rate = 0;
  std::uint64_t load_pct = 50;
  std::uint64_t arrival_seed = 1;

  bool open() const { return arrivals != Arrivals::kClosed; }
  void visit(OptionVisitor& v);
};

double per_second(std::uint64_t operations, std::int64_t elapsed_ns);
// Above 0. Operations a second that all clients together are to begin. peak_per_s: what this program was seen to do with a closed
// load, used when no rate was given.
double rate_of(const Load& load, double peak_per_s);

// The moments at which one client's operations are due. For one goroutine.
class Schedule {
 public:
  // rate_per_s > 0: this client's own. The first operation is due one gap after begin_ns (of now_ns()).
  Schedule(Arrivals arrivals, double rate_per_s, std::int64_t begin_ns, std::uint64_t seed);
  std::int64_t next();  // ns, never before the one it returned last

 private:
  const Arrivals arrivals_;
  const double gap_ns_;
  double due_ns_;  // from begin_ns_: a double keeps fractions of a nanosecond that gaps of high rates need
  const std::int64_t begin_ns_;
  Random random_;
};

// How a client waits until its next operation is due. Parked: a timer wakes it, and the timer's lateness is charged to the
// operation, as everything is that this runtime does with it. Looking: the last part of the wait, 100 us, is spent on the
// clock, with a safepoint at each look; for one client whose operations are closer together than timers can tell.
enum class Waiting : std::uint8_t { kParked, kLooks };
// Returns at due_ns (of now_ns()) or later; at once when that has passed.
void wait_until(std::int64_t due_ns, Waiting waiting);

}  // namespace gearbox::workloads::load
