// The Boehm-Demers-Weiser collector as a library makes it: no incremental mode, its own choice of heap size and of markers.
// Objects without references are GC_MALLOC_ATOMIC and cleared here, since the other peers' objects are zeroed.
//
// Pauses are those that the collector's own hook tells of: from the wish to stop the world until it is released.
#define GC_THREADS 1
#include <gc/gc.h>

#include <cstring>

#include "workloads/peers/trees.h"

namespace gearbox::peers {
namespace {

template <class T>
T* checked(void* made) {
  if (made == nullptr) throw Failure("the collector has no more memory");
  return static_cast<T*>(made);
}

// Its stack is scanned as long as this lives. The main thread is known from GC_INIT on.
class KnownThread {
 public:
  KnownThread() {
    GC_stack_base base;
    if (GC_get_stack_base(&base) != GC_SUCCESS) throw Failure("the collector finds no base of this thread's stack");
    ours_ = GC_register_my_thread(&base) == GC_SUCCESS;  // GC_DUPLICATE: known before
  }
  ~KnownThread() {
    if (ours_) GC_unregister_my_thread();
  }
  KnownThread(const KnownThread&) = delete;
  KnownThread& operator=(const KnownThread&) = delete;

 private:
  bool ours_ = false;
};

struct BoehmHeap {
  KnownThread known;

  static Node* make(Node* left, Node* right) {
    auto* node = checked<Node>(GC_MALLOC(sizeof(Node)));
    node->left = left;
    node->right = right;
    return node;
  }
  static void drop(Node*) {}
};

// The collector calls the hook with its lock held, so only one thread at a time is in here, and nothing may be allocated.
struct Pauses {
  static constexpr std::size_t kMost = 1 << 20;
  std::vector<std::int64_t> pause_ns, stop_ns;
  std::int64_t asked = 0;

  static Pauses& all() {
    static Pauses pauses;
    return pauses;
  }
  static void GC_CALLBACK on_event(GC_EventType event) {
    Pauses& p = all();
    if (event == GC_EVENT_PRE_STOP_WORLD) p.asked = now_ns();
    if (event == GC_EVENT_POST_STOP_WORLD && p.stop_ns.size() < kMost) p.stop_ns.push_back(now_ns() - p.asked);
    if (event == GC_EVENT_POST_START_WORLD && p.pause_ns.size() < kMost) p.pause_ns.push_back(now_ns() - p.asked);
  }
  static void watch() {
    all().pause_ns.reserve(kMost);
    all().stop_ns.reserve(kMost);
    GC_set_on_collection_event(&on_event);
  }
};

Values with_pauses(Values values) {
  GC_set_on_collection_event(nullptr);
  for (auto [name, ns] : {std::pair{"pause", &Pauses::all().pause_ns}, std::pair{"stop", &Pauses::all().stop_ns}}) {
    std::sort(ns->begin(), ns->end());
    if (ns->empty()) continue;
    values[std::string(name) + "_p50"] = percentile(*ns, 50);
    values[std::string(name) + "_p99"] = percentile(*ns, 99);
  }
  return values;
}

char* sink;  // the collector scans the program's variables

void allocate(std::uint64_t iterations, std::size_t bytes, bool references) {
  std::uint64_t not_zeroed = 0;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    auto* made = checked<char>(references ? GC_MALLOC(bytes) : GC_MALLOC_ATOMIC(bytes));
    if (!references) std::memset(made, 0, bytes);
    not_zeroed += static_cast<std::uint64_t>(made[bytes - 1] != 0);
    sink = made;
    keep(sink);
  }
  check_equal("objects that were not zeroed", not_zeroed, std::uint64_t{0});
}

Bench allocate_bench(std::size_t bytes, bool references) {
  return {1, [=](std::uint64_t iterations, const Machine&) { allocate(iterations, bytes, references); }};
}

Values gc_latency(const Params& params, const Machine&) {
  const std::uint64_t ring_slots = params.at("ring"), message_bytes = params.at("message_bytes");
  const std::uint64_t warmup = params.at("warmup"), pushes = params.at("pushes");
  if (ring_slots == 0 || message_bytes == 0 || pushes == 0)
    throw Failure("ring, message_bytes and pushes are at least 1");
  auto* ring = checked<char*>(GC_MALLOC(ring_slots * sizeof(char*)));
  const auto push = [&](std::uint64_t i) {
    auto* message = checked<char>(GC_MALLOC_ATOMIC(message_bytes));
    std::memset(message, static_cast<int>(i & 0xff), message_bytes);
    ring[i % ring_slots] = message;
  };
  std::vector<std::int64_t> latency_ns;
  latency_ns.reserve(pushes);
  for (std::uint64_t i = 0; i < warmup; ++i) push(i);
  const std::int64_t began = now_ns();
  std::int64_t last = began;
  const std::uint64_t end = warmup + pushes;
  for (std::uint64_t i = warmup; i < end; ++i) {
    push(i);
    const std::int64_t now = now_ns();
    latency_ns.push_back(now - last);
    last = now;
  }
  std::uint64_t damaged = 0;
  for (std::uint64_t i = end - std::min(end, ring_slots); i < end; ++i) {
    const char* message = ring[i % ring_slots];
    const bool same = std::memcmp(message, message + 1, message_bytes - 1) == 0;
    damaged += static_cast<std::uint64_t>(!same || message[0] != static_cast<char>(i & 0xff));
  }
  check_equal("damaged messages", damaged, std::uint64_t{0});
  std::sort(latency_ns.begin(), latency_ns.end());
  Values values{{"throughput", static_cast<double>(pushes) * 1e9 / static_cast<double>(last - began)}};
  for (auto [name, percent] : {std::pair{"p50", 50.0}, {"p99", 99.0}, {"p99.9", 99.9}, {"p99.99", 99.99}})
    values[name] = percentile(latency_ns, percent);
  return with_pauses(std::move(values));
}

}  // namespace
}  // namespace gearbox::peers

int main(int argc, char** argv) {
  using namespace gearbox::peers;
  GC_INIT();
  GC_allow_register_threads();
  const unsigned version = GC_get_version();  // 0xMMmmpp
  Peer peer;
  peer.version = "Boehm GC " + std::to_string(version >> 16) + "." + std::to_string(version >> 8 & 0xff) + "." +
                 std::to_string(version & 0xff);
  peer.benches = {{"allocate_16", allocate_bench(16, false)},
                  {"allocate_64", allocate_bench(64, false)},
                  {"allocate_node", allocate_bench(sizeof(Node), true)}};
  peer.workloads = {
      {"binary_trees", {{{"depth", 18}}, binary_trees<BoehmHeap>}},
      {"gc_latency",
       {{{"ring", 200'000}, {"message_bytes", 1024}, {"warmup", 1'000'000}, {"pushes", 5'000'000}}, gc_latency}}};
  peer.inside = [](const Machine&, const std::function<void()>& program) {
    Pauses::watch();
    program();
  };
  return peer_main(argc, argv, peer);
}
