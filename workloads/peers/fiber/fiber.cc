// Boost.Fiber. On one thread its round_robin scheduler, on more its work_stealing one, whose idle threads spin.
//
// What cannot be as in Go: a buffered channel's capacity is a power of two and one slot stays empty, so 128 holds 127. A
// fiber's stack comes from malloc, and one of the default size from mmap, so that the number of fibers ends at the kernel's
// number of mappings or at the machine's memory, whichever comes first. skynet therefore gives each fiber kSkynetStackBytes,
// and refuses as many leaves as might not fit into the memory that is available. The library's pool of stacks is for fibers
// that stay on their thread: spawn_join uses the pool on one thread, and malloc's stacks on more.
#include <boost/fiber/algo/work_stealing.hpp>
#include <boost/fiber/all.hpp>
#include <boost/version.hpp>

#include <atomic>
#include <barrier>
#include <fstream>
#include <memory>
#include <mutex>

#include "workloads/peers/peer.h"

namespace gearbox::peers {
namespace {

namespace fibers = boost::fibers;

// The program is a fiber, which may move between the threads; a thread's first fiber may not.
void on_threads(const Machine& machine, const std::function<void()>& program) {
  if (machine.procs == 1) return fibers::fiber(program).join();
  // work_stealing looks for victims among as many threads as it was told of: all of them must be there before work is.
  std::barrier<> registered(static_cast<std::ptrdiff_t>(machine.procs));
  fibers::mutex mutex;
  fibers::condition_variable ended_changed;
  bool ended = false;  // guarded by mutex
  std::vector<std::thread> others;
  for (unsigned i = 1; i < machine.procs; ++i)
    others.emplace_back([&] {
      fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(machine.procs);
      registered.arrive_and_wait();
      std::unique_lock lock(mutex);
      ended_changed.wait(lock, [&] { return ended; });
    });
  fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(machine.procs);
  registered.arrive_and_wait();
  fibers::fiber(program).join();
  {
    const std::lock_guard lock(mutex);
    ended = true;
  }
  ended_changed.notify_all();
  for (auto& thread : others) thread.join();
}

void yield(std::uint64_t iterations, const Machine& machine) {
  std::atomic<bool> stop{false};
  std::uint64_t turns = 0;
  fibers::fiber other([&] {
    for (; !stop.load(std::memory_order_relaxed); ++turns) boost::this_fiber::yield();
  });
  for (std::uint64_t i = 0; i < iterations; ++i) boost::this_fiber::yield();
  stop.store(true, std::memory_order_relaxed);
  other.join();
  // On one thread the two take turns, so the other one has had as many, or one more or less.
  if (machine.procs == 1 && (turns + 1 < iterations || turns > iterations + 1))
    throw Failure(std::to_string(iterations) + " yields, and the other fiber had " + std::to_string(turns) + " turns");
}

void ping_pong(std::uint64_t iterations, const Machine&) {
  fibers::unbuffered_channel<std::uint64_t> ping, pong;
  fibers::fiber other([&] {
    for (const std::uint64_t value : ping) pong.push(value);
    pong.close();
  });
  std::uint64_t wrong = 0;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    ping.push(i);
    wrong += static_cast<std::uint64_t>(pong.value_pop() != i);
  }
  ping.close();
  other.join();
  check_equal("wrong values", wrong, std::uint64_t{0});
}

Bench buffered(unsigned pairs) {
  return {static_cast<double>(pairs), [pairs](std::uint64_t iterations, const Machine&) {
            fibers::buffered_channel<std::uint64_t> channel(128);
            std::atomic<std::uint64_t> sum{0};  // join() below orders the additions before the load
            std::vector<fibers::fiber> receivers, senders;
            for (unsigned i = 0; i < pairs; ++i)
              receivers.emplace_back([&] {
                std::uint64_t mine = 0;
                for (const std::uint64_t value : channel) mine += value;
                sum.fetch_add(mine, std::memory_order_relaxed);
              });
            const auto send = [&] {
              for (std::uint64_t i = 1; i <= iterations; ++i) channel.push(i);
            };
            for (unsigned i = 1; i < pairs; ++i) senders.emplace_back(send);
            send();
            for (auto& sender : senders) sender.join();
            channel.close();
            for (auto& receiver : receivers) receiver.join();
            check_equal("sum of the values", sum.load(std::memory_order_relaxed),
                        pairs * (iterations * (iterations + 1) / 2));
          }};
}

constexpr std::uint64_t kSpawned = 100;

template <class Stacks>
void spawn_join_on(Stacks stacks, std::uint64_t iterations) {
  std::atomic<std::uint64_t> ran{0};  // join() below orders the additions before the load
  std::vector<fibers::fiber> group;
  group.reserve(kSpawned);
  for (std::uint64_t i = 0; i < iterations; ++i) {
    for (std::uint64_t k = 0; k < kSpawned; ++k)
      group.emplace_back(std::allocator_arg, stacks, [&ran] { ran.fetch_add(1, std::memory_order_relaxed); });
    for (auto& fiber : group) fiber.join();
    group.clear();
  }
  check_equal("fibers that ran", ran.load(std::memory_order_relaxed), iterations * kSpawned);
}

void spawn_join(std::uint64_t iterations, const Machine& machine) {
  if (machine.procs == 1)
    spawn_join_on(fibers::pooled_fixedsize_stack(), iterations);
  else
    spawn_join_on(fibers::fixedsize_stack(), iterations);
}

using Up = std::shared_ptr<fibers::buffered_channel<std::uint64_t>>;
constexpr std::size_t kSkynetStackBytes = 16 * 1024;

void start_skynet(Up up, std::uint64_t first, std::uint64_t leaves);

void skynet(const Up& up, std::uint64_t first, std::uint64_t leaves) {
  if (leaves == 1) {
    up->push(first);
    return;
  }
  const std::uint64_t children = std::min<std::uint64_t>(leaves, 10);
  const Up down = std::make_shared<Up::element_type>(16);  // the power of two that holds ten
  std::uint64_t given = 0;
  for (std::uint64_t i = 0; i < children; ++i) {
    const std::uint64_t share = leaves / children + (i < leaves % children ? 1 : 0);
    start_skynet(down, first + given, share);
    given += share;
  }
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < children; ++i) sum += down->value_pop();
  up->push(sum);
}

void start_skynet(Up up, std::uint64_t first, std::uint64_t leaves) {
  fibers::fiber(std::allocator_arg, fibers::fixedsize_stack(kSkynetStackBytes), [up = std::move(up), first, leaves] {
    skynet(up, first, leaves);
  }).detach();
}

// 0 when the kernel does not say.
std::uint64_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (std::uint64_t kib = 0; file >> key >> kib; std::getline(file, unit))
    if (key == "MemAvailable:") return kib * 1024;
  return 0;
}

Values skynet_workload(const Params& params, const Machine&) {
  const std::uint64_t leaves = params.at("leaves");
  if (leaves == 0 || leaves > 10'000'000) throw Failure("leaves is from 1 to 10000000");
  // A tenth more are inner nodes, and most of the leaves are alive at the same time.
  const std::uint64_t most_bytes = (leaves + leaves / 9 + 16) * (kSkynetStackBytes + 64);
  const std::uint64_t there_bytes = available_bytes();
  if (there_bytes != 0 && most_bytes > there_bytes)
    throw Failure(std::to_string(leaves) + " leaves may take " + std::to_string(most_bytes >> 20) +
                  " MiB of stacks, and " + std::to_string(there_bytes >> 20) + " MiB are available");
  const Up root = std::make_shared<Up::element_type>(2);
  const std::int64_t began = now_ns();
  start_skynet(root, 0, leaves);
  const std::uint64_t sum = root->value_pop();
  const std::int64_t elapsed_ns = now_ns() - began;
  check_equal("sum of all leaves", sum, leaves * (leaves - 1) / 2);
  return {{"throughput", static_cast<double>(leaves) * 1e9 / static_cast<double>(elapsed_ns)}};
}

}  // namespace
}  // namespace gearbox::peers

int main(int argc, char** argv) {
  using namespace gearbox::peers;
  Peer peer;
  peer.version = "Boost.Fiber " + std::to_string(BOOST_VERSION / 100000) + "." +
                 std::to_string(BOOST_VERSION / 100 % 1000) + "." + std::to_string(BOOST_VERSION % 100);
  peer.benches = {{"yield", {2, yield}},
                  {"ping_pong_round_trip", {1, ping_pong}},
                  {"buffered_1_to_1", buffered(1)},
                  {"buffered_4_to_4", buffered(4)},
                  {"spawn_join", {static_cast<double>(kSpawned), spawn_join}}};
  peer.workloads["skynet"] = {{{"leaves", 100'000}}, skynet_workload};
  peer.inside = on_threads;
  return peer_main(argc, argv, peer);
}
