// hyperalloc: memory is allocated at a fixed rate over a live set of a fixed size, and requests at a fixed rate beside it say
// what that costs somebody who waits. The idea of HyperAlloc (Amazon's Heapothesys): a collector's cost depends on the live
// set, the rate of allocation and the size of the heap, so two of them are held still while the third is varied.
//
// Structure.  Each worker keeps its part of the live set as a table of objects. Every millisecond it allocates what is due and
//             puts each object in the place of a random older one, which becomes garbage. A worker that cannot keep up is
//             behind, and `allocation_rate` says what was reached.
// Requests.   One goroutine, on a schedule (load/schedule.h) of its own: each request allocates a small list, walks it, and is
//             charged from when it was due.
// Checks.     Every object of the live set still carries its own number; each list sums up.
#include <algorithm>
#include <cstring>
#include <memory>

#include "base/random.h"
#include "interfaces/workload.h"
#include "runtime/api.h"
#include "workloads/load/latencies.h"
#include "workloads/load/schedule.h"

namespace gearbox::workloads {
namespace {

struct Params {
  std::uint64_t live_mib = 64;
  std::uint64_t allocate_mib_s = 256;
  std::uint64_t object_bytes = 128;
  std::uint64_t workers = 2;
  std::uint64_t duration_ms = 2000;
  load::Load load = {.arrivals = load::Arrivals::kPoisson, .rate = 2000};

  void visit(OptionVisitor& v) {
    v.field("live_mib", live_mib, {1, 1 << 20}, "MiB that are alive at a time, all workers together.");
    v.field("allocate_mib_s", allocate_mib_s, {1, 1 << 20}, "MiB allocated a second, all workers together.");
    v.field("object_bytes", object_bytes, {32, 65536}, "Bytes of an object.");
    v.field("workers", workers, {1, 1024}, "Goroutines that allocate.");
    v.field("duration_ms", duration_ms, {1, 86'400'000}, "How long the load lasts, once the live set is built.");
    load.visit(v);
  }
};

class Worker {
 public:
  Worker(const Params& params, std::uint64_t number)
      : object_bytes_(params.object_bytes),
        slots_(std::max<std::uint64_t>((params.live_mib << 20) / params.object_bytes / params.workers, 1)),
        table_(make_array<Ref<char>>(slots_).data()),
        random_(number + 1) {}
  void build() {
    for (std::uint64_t slot = 0; slot < slots_; ++slot) put(slot);
  }
  // Until end_ns. Returns the bytes allocated.
  std::uint64_t allocate(double bytes_a_ns, std::int64_t began_ns, std::int64_t end_ns) {
    std::uint64_t bytes = 0;
    for (std::int64_t now = began_ns; now < end_ns; now = now_ns()) {
      const double due = bytes_a_ns * static_cast<double>(now - began_ns);
      // In pieces, so that a worker that is behind still sees the end.
      for (int piece = 0; piece < 1024 && static_cast<double>(bytes) < due; ++piece) {
        put(random_() % slots_);
        bytes += object_bytes_;
      }
      if (static_cast<double>(bytes) >= due) gearbox::sleep(kMillisecond);
    }
    return bytes;
  }
  std::uint64_t damaged() const {
    std::uint64_t count = 0;
    for (std::uint64_t slot = 0; slot < slots_; ++slot) {
      const char* object = table_.load()[slot];
      std::uint64_t first = 0, last = 0;
      std::memcpy(&first, object, sizeof first);
      std::memcpy(&last, object + object_bytes_ - sizeof last, sizeof last);
      count += first != slot || last != ~slot ? 1 : 0;
    }
    return count;
  }

 private:
  void put(std::uint64_t slot) {
    char* object = make_bytes(object_bytes_);
    const std::uint64_t last = ~slot;
    std::memcpy(object, &slot, sizeof slot);
    std::memcpy(object + object_bytes_ - sizeof last, &last, sizeof last);
    table_.load()[slot] = object;
  }
  const std::uint64_t object_bytes_, slots_;
  const Root<Ref<char>> table_;
  Random random_;
};

struct Link {
  Ref<Link> next;
  std::uint64_t value;
  GEARBOX_REFS(Link, next)
};
constexpr std::uint64_t kLinks = 20;

bool answer_request() {
  Link* list = nullptr;
  for (std::uint64_t i = 0; i < kLinks; ++i) {
    Link* link = make<Link>();
    link->next = list;
    link->value = i;
    list = link;
  }
  std::uint64_t sum = 0;
  for (; list != nullptr; list = list->next) sum += list->value;
  return sum == kLinks * (kLinks - 1) / 2;
}

void run(const Params& params, Report& report) {
  if (params.load.open() && params.load.rate == 0)
    return report.check("rate", false, "hyperalloc has no peak to take load_pct of: set rate, or arrivals=closed");
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::uint64_t i = 0; i < params.workers; ++i) workers.push_back(std::make_unique<Worker>(params, i));
  WaitGroup built;
  built.add(static_cast<std::int64_t>(params.workers));
  for (auto& worker : workers)
    go([&built, &worker = *worker] {
      worker.build();
      built.done();
    });
  built.wait();

  const std::int64_t began = now_ns(), end = began + static_cast<std::int64_t>(params.duration_ms) * kMillisecond;
  const double bytes_a_ns =
      static_cast<double>(params.allocate_mib_s << 20) / 1e9 / static_cast<double>(params.workers);
  std::atomic<std::uint64_t> allocated{0};
  WaitGroup working;
  working.add(static_cast<std::int64_t>(params.workers));
  for (auto& worker : workers)
    go([&, &worker = *worker] {
      allocated.fetch_add(worker.allocate(bytes_a_ns, began, end), std::memory_order_relaxed);
      working.done();
    });
  load::Latencies latencies;
  std::uint64_t requests = 0, wrong = 0;
  if (params.load.open()) {
    load::Schedule schedule(params.load.arrivals, static_cast<double>(params.load.rate), began,
                            params.load.arrival_seed);
    for (std::int64_t due = schedule.next(); due < end; due = schedule.next()) {
      load::wait_until(due, load::Waiting::kParked);
      const std::int64_t start = now_ns();
      wrong += answer_request() ? 0 : 1;
      latencies.record(due, start, now_ns());
      ++requests;
    }
  } else {
    for (std::int64_t start = now_ns(), after; start < end; start = after) {
      wrong += answer_request() ? 0 : 1;
      after = now_ns();
      latencies.record_closed(start, after);
      ++requests;
      gosched();
    }
  }
  working.wait();
  const std::int64_t elapsed = now_ns() - began;
  std::uint64_t damaged = 0;
  for (const auto& worker : workers) damaged += worker->damaged();
  report.throughput(static_cast<double>(requests), elapsed, "requests/s");
  report.metric("allocation_rate", "bytes/s", "higher",
                load::per_second(allocated.load(std::memory_order_relaxed), elapsed));
  latencies.report(report);
  report.check("requests", requests > 0, fmt::format("{}", requests));
  report.check_equal("wrong sums", wrong, std::uint64_t{0});
  report.check_equal("damaged objects", damaged, std::uint64_t{0});
}

}  // namespace

WorkloadEntry hyperalloc() {
  return make_workload<Params>(
      {.name = "hyperalloc",
       .summary = "Allocation at a fixed rate over a fixed live set, and how long requests beside it take.",
       .headline = "p99.9"},
      run);
}

}  // namespace gearbox::workloads
