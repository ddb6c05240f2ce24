// Allocation by size, and the write barrier.
#include "bench/program.h"

namespace gearbox::bench {
namespace {

template <std::size_t kBytes>
struct Blob {
  char bytes[kBytes];
  GEARBOX_NO_REFS(Blob)
};
struct Node {
  Ref<Node> left, right;
  GEARBOX_REFS(Node, left, right)
};

template <class T>
void allocate(benchmark::State& state, Choice choice) {
  in_program(state, choice, [](benchmark::State& s) {
    for (auto _ : s) keep_alive(make<T>());
    s.SetBytesProcessed(s.iterations() * static_cast<std::int64_t>(sizeof(T)));
  });
}
void allocate_node(benchmark::State& state, Choice choice) { allocate<Node>(state, choice); }
void allocate_16(benchmark::State& state, Choice choice) { allocate<Blob<16>>(state, choice); }
void allocate_64(benchmark::State& state, Choice choice) { allocate<Blob<64>>(state, choice); }
void allocate_1k(benchmark::State& state, Choice choice) { allocate<Blob<1024>>(state, choice); }
void allocate_32k(benchmark::State& state, Choice choice) { allocate<Blob<32768>>(state, choice); }
BENCHMARK_CAPTURE(allocate_node, size_class, Choice{})->UseRealTime();
BENCHMARK_CAPTURE(allocate_16, size_class, Choice{})->UseRealTime();
BENCHMARK_CAPTURE(allocate_64, size_class, Choice{})->UseRealTime();
BENCHMARK_CAPTURE(allocate_1k, size_class, Choice{})->UseRealTime();
BENCHMARK_CAPTURE(allocate_32k, size_class, Choice{})->UseRealTime();
BENCHMARK_CAPTURE(allocate_node, mimalloc, Choice{.allocator = "mimalloc"})->UseRealTime();
BENCHMARK_CAPTURE(allocate_64, mimalloc, Choice{.allocator = "mimalloc"})->UseRealTime();
BENCHMARK_CAPTURE(allocate_1k, mimalloc, Choice{.allocator = "mimalloc"})->UseRealTime();
BENCHMARK_CAPTURE(allocate_node, stw, Choice{.collector = "stw"})->UseRealTime();

// A store to a Ref while nobody marks: a load, a compare, a store.
void store_barrier_off(benchmark::State& state) {
  in_program(state, Choice{}, [](benchmark::State& s) {
    Node* a = make<Node>();
    Node* b = make<Node>();
    for (auto _ : s) {
      a->left = b;
      benchmark::ClobberMemory();
    }
    keep_alive(a);
  });
}
BENCHMARK(store_barrier_off)->UseRealTime();

// The same with the P's flag up, as during a mark: both values go into the buffer, and the collector looks at full
// buffers.
void store_barrier_on(benchmark::State& state) {
  in_program(state, Choice{.collector = "stw"}, [](benchmark::State& s) {
    Node* a = make<Node>();
    Node* b = make<Node>();
    // stw never marks while goroutines run, so raising the flag by hand shows the mutator's share of the price alone.
    current_p()->marking = true;
    for (auto _ : s) {
      a->left = b;
      current_p()->write_buffer.count &=
          WriteBuffer::kCapacity - 1 - 1;  // never full: the flush is the collector's, not the barrier's
      benchmark::ClobberMemory();
    }
    current_p()->write_buffer.count = 0;
    current_p()->marking = false;
    keep_alive(a);
  });
}
BENCHMARK(store_barrier_on)->UseRealTime();

}  // namespace
}  // namespace gearbox::bench
