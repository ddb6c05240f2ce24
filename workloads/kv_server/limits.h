// What the server lets its clients take: memory, connections, time. Everything that is built, kept or waited for on a
// client's word counts against one of these.
//
// Pool is the memory of all connections together, Quota the share of one connection in it: a quota is asked before the
// memory is, so what a client can make the server take is known beforehand. Each quota may hold kFloorBytes whatever
// the others hold, so that a greedy client does not shut the modest ones out.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace gearbox::workloads::kv {

struct Limits {
  // Of one request that is not complete: Redis's client-query-buffer-limit.
  std::size_t query_bytes = std::size_t{256} << 20;
  // Of replies not sent yet, those that are being built included: Redis's client-output-buffer-limit.
  std::size_t output_bytes = std::size_t{256} << 20;
  // Of all connections together, requests and replies: Redis's maxmemory-clients. Comes on top: two floors a
  // connection.
  std::size_t memory_bytes = std::size_t{1} << 30;
  std::size_t clients = 10'000;     // Redis's maxclients
  std::int64_t idle_seconds = 300;  // Redis's timeout; 0: never
  std::string password = {};        // Redis's requirepass; empty: none is asked for

  // The longest argument that a request may have: Redis's proto-max-bulk-len. It follows from the others, because what
  // can be set must be able to come back: a value passes through the input, which may hold it twice while it grows, and
  // through the output.
  std::size_t value_bytes() const noexcept {
    constexpr std::size_t kProtocolMost = std::size_t{512} << 20, kRoom = std::size_t{512} << 10;
    const std::size_t least = std::min({query_bytes, output_bytes, memory_bytes / 2});
    return std::min(kProtocolMost, least > kRoom ? least - kRoom : least / 2);
  }
};

class Pool {
 public:
  explicit Pool(std::size_t most) noexcept : most_(most) {}
  std::size_t used() const noexcept { return used_.load(std::memory_order_relaxed); }

 private:
  friend class Quota;
  const std::size_t most_;
  std::atomic<std::size_t> used_{0};  // relaxed throughout: it counts, and publishes nothing
};

// Used by the two goroutines of its connection. Gives back what it still holds when it ends.
class Quota {
 public:
  static constexpr std::size_t kFloorBytes = 64 * 1024;
  Quota(Pool& pool, std::size_t most) noexcept : pool_(pool), most_(most) {}
  ~Quota() { give(held()); }
  Quota(const Quota&) = delete;
  Quota& operator=(const Quota&) = delete;
  // False: it would be too much, and nothing is taken, not even for a moment.
  bool take(std::size_t bytes) noexcept {
    std::size_t held = held_.load(std::memory_order_relaxed);
    do {
      if (bytes > most_ || held > most_ - bytes) return false;
    } while (!held_.compare_exchange_weak(held, held + bytes, std::memory_order_relaxed));
    std::size_t used = pool_.used_.load(std::memory_order_relaxed);
    do {
      if (used + bytes > pool_.most_ && held + bytes > kFloorBytes) {
        held_.fetch_sub(bytes, std::memory_order_relaxed);
        return false;
      }
    } while (!pool_.used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  void give(std::size_t bytes) noexcept {
    held_.fetch_sub(bytes, std::memory_order_relaxed);
    pool_.used_.fetch_sub(bytes, std::memory_order_relaxed);
  }
  std::size_t held() const noexcept { return held_.load(std::memory_order_relaxed); }

 private:
  Pool& pool_;
  const std::size_t most_;
  std::atomic<std::size_t> held_{0};
};

}  // namespace gearbox::workloads::kv
