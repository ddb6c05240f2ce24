// Latencies: how long operations took, seen in the ways in which it can honestly be said.
//
//   charged  from when an operation was due until it had ended. With a closed load it is due when it begins.
//   service  from when it began until it had ended: what a pause cost those that were under way, and nobody else.
//   metered  (closed loads) charged after the fact: the starts are spread out as a steady stream of requests would have
//            come, and an operation is charged from its place in that stream where it began later. The stream is the count
//            of starts over time, smoothed by a window: short windows keep the program's own rhythm, the longest is a
//            steady rate over the whole run. As in DaCapo's latency-sensitive benchmarks (Blackburn et al., "Rethinking
//            Java Performance Analysis", 2025).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/histogram.h"
#include "interfaces/workload.h"

namespace gearbox::workloads::load {

// For one goroutine; merge() those of several.
class Latencies {
 public:
  // An operation of an open load.
  void record(std::int64_t due_ns, std::int64_t began_ns, std::int64_t ended_ns);
  // One of a closed load: charged only, which is the same as service.
  void record_closed(std::int64_t began_ns, std::int64_t ended_ns) noexcept;
  void merge(const Latencies& other);
  const Histogram& charged() const { return charged_; }

  // p50, p99, p99.9, p99.99 (ns, lower is better) and the histogram `latency`, all of charged; of an open load the histogram
  // `service`, too.
  void report(Report& report) const;

 private:
  Histogram charged_;
  std::optional<Histogram> service_;  // of open loads
};

struct Span {
  std::int64_t began_ns, ended_ns;
};
// `spans` are sorted by began_ns. window_ns == 0: over the whole run.
Histogram metered(const std::vector<Span>& spans, std::int64_t window_ns);
// metered_1ms_p99.9, metered_10ms_p99.9, metered_100ms_p99.9 and metered_run_p99.9 (ns, lower is better).
void report_metered(Report& report, const std::vector<Span>& spans);

}  // namespace gearbox::workloads::load
