// The data of the server, on the collected heap: a hash table in shards, strings as byte arrays, lists as chains of
// chunks.
//
// A shard has a lock, a table of chains and, while it grows, the former table: every access moves a few buckets over,
// so no request pays for a whole rehash. Byte arrays are never changed after they are published, so a reader copies a
// pointer under the lock and the bytes after it. A command locks every shard it needs, in ascending order (Locked), so
// MSET and MGET are atomic as Redis's are.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "runtime/api.h"

namespace gearbox::workloads::kv {

struct Chunk {
  static constexpr std::uint32_t kItems = 32;
  Ref<Chunk> left, right;
  Ref<char> item[kItems];
  std::uint32_t bytes[kItems] = {};
  std::uint32_t first = 0, count = 0;  // items at [first, first + count)
  GEARBOX_REFS(Chunk, left, right, item)
};

struct List {
  Ref<Chunk> head, tail;
  std::uint64_t length = 0;
  GEARBOX_REFS(List, head, tail)
};

struct Entry {
  Ref<Entry> next;  // in its chain
  Ref<char> key;
  Ref<char> text;  // a string's bytes; null when this is a list
  Ref<List> list;
  std::uint64_t hash = 0;
  std::int64_t expires_ms = 0;  // 0: never
  std::uint32_t key_bytes = 0, text_bytes = 0;
  std::string_view value() const { return {text.load(), text_bytes}; }
  GEARBOX_REFS(Entry, next, key, text, list)
};

// Copies with a safepoint every few hundred kilobytes. `to` may lie in `from`, before its bytes.
void copy_in_steps(char* to, std::string_view from);
// A copy of the bytes on the collected heap.
char* heap_copy(std::string_view bytes);
std::int64_t now_ms();

// Lists. The list's shard is locked.
void push_left(List& list, char* item, std::uint32_t bytes);
void push_right(List& list, char* item, std::uint32_t bytes);
// The bytes of the item taken. REQUIRES: not empty.
std::string_view pop_left(List& list);
std::string_view pop_right(List& list);

// What INFO tells. Written by connections, once a batch of requests.
struct Stats {
  std::int64_t began_ms = now_ms();
  std::atomic<std::int64_t> clients{0};
  std::atomic<std::uint64_t> connections{0}, rejected{0}, commands{0};
};

class Store {
 public:
  Store();
  static constexpr std::uint32_t kShards = 64;
  // Seeded anew for each store, so that nobody can choose keys that all fall into one chain.
  std::uint64_t hash_of(std::string_view key) const;
  static std::uint64_t shard_bit(std::uint64_t hash) { return std::uint64_t{1} << (hash >> 58); }

  // Holds the locks of the shards whose bits are set.
  class Locked {
   public:
    Locked(Store& store, std::uint64_t shards);
    ~Locked();
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

   private:
    Store& store_;
    const std::uint64_t shards_;
  };

  // All: the key's shard is locked. Null when there is no such key, or it has expired.
  Entry* find(std::string_view key, std::uint64_t hash);
  // The key's entry, made if need be, without a value then.
  Entry* find_or_add(std::string_view key, std::uint64_t hash);
  bool erase(std::string_view key, std::uint64_t hash);
  void set_expiry(Entry& entry, std::int64_t when_ms);  // now_ms() or later; 0: never
  std::uint64_t size();                                 // every shard is locked
  std::uint64_t expiring();  // keys with an expiry, expired ones that nobody has met since included; the same
  void clear();              // every shard is locked

  Stats stats;

 private:
  using Table = Ref<Entry>;  // the first of a power of two of chains
  struct Shard {
    GoMutex lock;
    Root<Table> table, former;
    std::uint64_t mask = 0, former_mask = 0, moved = 0;  // buckets of `former` below `moved` are empty
    std::uint64_t count = 0, expiring = 0;
  };
  Shard& shard_of(std::uint64_t hash) { return shards_[hash >> 58]; }
  static Table* chain_of(Shard& shard, std::uint64_t hash);
  static void add_to_chain(Shard& shard, Entry* entry);
  static void move_some(Shard& shard);
  static void grow(Shard& shard);

  const std::uint64_t seed_;
  std::array<Shard, kShards> shards_;
};

}  // namespace gearbox::workloads::kv
