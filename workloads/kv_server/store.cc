#include "workloads/kv_server/store.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

namespace gearbox::workloads::kv {
namespace {
constexpr std::uint64_t kFirstBuckets = 16;
constexpr std::uint64_t kBucketsPerMove = 8;
constexpr std::size_t kBytesBetweenSafepoints = 256 * 1024;
}  // namespace

Store::Store() : seed_(std::uint64_t{std::random_device{}()} << 32 | std::random_device{}()) {}

// wyhash's multiply-and-fold over 8-byte words; the upper six bits choose the shard, the lower ones the bucket.
std::uint64_t Store::hash_of(std::string_view key) const {
  const auto fold = [](std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  std::uint64_t hash = seed_ ^ 0xa0761d6478bd642fULL ^ key.size();
  std::size_t i = 0;
  while (i + 8 <= key.size()) {
    const std::size_t end = std::min(key.size() - 7, i + kBytesBetweenSafepoints);
    for (; i < end; i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, key.data() + i, 8);
      hash = fold(hash ^ word, 0xe7037ed1a0b428dbULL);
    }
    GEARBOX_SAFEPOINT();
  }
  std::uint64_t rest = 0;
  std::memcpy(&rest, key.data() + i, key.size() - i);
  return fold(hash ^ rest, 0x8ebc6af09c88c6e3ULL);
}

void copy_in_steps(char* to, std::string_view from) {
  while (!from.empty()) {
    const std::size_t step = std::min(from.size(), kBytesBetweenSafepoints);
    std::memmove(to, from.data(), step);
    to += step;
    from.remove_prefix(step);
    if (!from.empty()) GEARBOX_SAFEPOINT();
  }
}

char* heap_copy(std::string_view bytes) {
  char* copy = make_bytes(bytes.size());
  copy_in_steps(copy, bytes);
  return copy;
}

static bool equal(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  while (a.size() > kBytesBetweenSafepoints) {
    if (std::memcmp(a.data(), b.data(), kBytesBetweenSafepoints) != 0) return false;
    a.remove_prefix(kBytesBetweenSafepoints);
    b.remove_prefix(kBytesBetweenSafepoints);
    GEARBOX_SAFEPOINT();
  }
  return a == b;
}

std::int64_t now_ms() { return now_ns() / kMillisecond; }

// ---- lists

void push_left(List& list, char* item, std::uint32_t bytes) {
  Chunk* chunk = list.head;
  if (chunk == nullptr || chunk->first == 0) {
    Chunk* fresh = make<Chunk>();
    fresh->first = Chunk::kItems;
    fresh->right = chunk;
    if (chunk != nullptr)
      chunk->left = fresh;
    else
      list.tail = fresh;
    list.head = chunk = fresh;
  }
  --chunk->first;
  ++chunk->count;
  chunk->item[chunk->first] = item;
  chunk->bytes[chunk->first] = bytes;
  ++list.length;
}

void push_right(List& list, char* item, std::uint32_t bytes) {
  Chunk* chunk = list.tail;
  if (chunk == nullptr || chunk->first + chunk->count == Chunk::kItems) {
    Chunk* fresh = make<Chunk>();
    fresh->left = chunk;
    if (chunk != nullptr)
      chunk->right = fresh;
    else
      list.head = fresh;
    list.tail = chunk = fresh;
  }
  const std::uint32_t at = chunk->first + chunk->count++;
  chunk->item[at] = item;
  chunk->bytes[at] = bytes;
  ++list.length;
}

std::string_view pop_left(List& list) {
  Chunk* chunk = list.head;
  const std::uint32_t at = chunk->first++;
  const std::string_view taken(chunk->item[at].load(), chunk->bytes[at]);
  chunk->item[at] = nullptr;
  --list.length;
  if (--chunk->count == 0) {
    Chunk* next = chunk->right;
    list.head = next;
    if (next != nullptr)
      next->left = nullptr;
    else
      list.tail = nullptr;
  }
  return taken;
}

std::string_view pop_right(List& list) {
  Chunk* chunk = list.tail;
  const std::uint32_t at = chunk->first + --chunk->count;
  const std::string_view taken(chunk->item[at].load(), chunk->bytes[at]);
  chunk->item[at] = nullptr;
  --list.length;
  if (chunk->count == 0) {
    Chunk* previous = chunk->left;
    list.tail = previous;
    if (previous != nullptr)
      previous->right = nullptr;
    else
      list.head = nullptr;
  }
  return taken;
}

// ---- the table

Store::Locked::Locked(Store& store, std::uint64_t shards) : store_(store), shards_(shards) {
  for (std::uint64_t left = shards_; left != 0; left &= left - 1) store_.shards_[std::countr_zero(left)].lock.lock();
}
Store::Locked::~Locked() {
  for (std::uint64_t left = shards_; left != 0; left &= left - 1) store_.shards_[std::countr_zero(left)].lock.unlock();
}

Store::Table* Store::chain_of(Shard& shard, std::uint64_t hash) {
  if (Table* former = shard.former; former != nullptr && (hash & shard.former_mask) >= shard.moved)
    return &former[hash & shard.former_mask];
  Table* table = shard.table;
  return table == nullptr ? nullptr : &table[hash & shard.mask];
}

void Store::add_to_chain(Shard& shard, Entry* entry) {
  Table* chain = chain_of(shard, entry->hash);
  entry->next = chain->load();
  *chain = entry;
}

void Store::move_some(Shard& shard) {
  Table* former = shard.former;
  if (former == nullptr) return;
  Table* table = shard.table;
  for (std::uint64_t n = 0; n < kBucketsPerMove && shard.moved <= shard.former_mask; ++n) {
    Table& from = former[shard.moved];
    while (Entry* entry = from) {
      from = entry->next.load();
      Table& to = table[entry->hash & shard.mask];
      entry->next = to.load();
      to = entry;
    }
    ++shard.moved;
  }
  if (shard.moved > shard.former_mask) shard.former = nullptr;
}

void Store::grow(Shard& shard) {
  if (shard.table.load() == nullptr) {
    shard.table = make_array<Table>(kFirstBuckets).data();
    shard.mask = kFirstBuckets - 1;
    return;
  }
  if (shard.former.load() != nullptr || shard.count <= shard.mask) return;
  Table* fresh = make_array<Table>((shard.mask + 1) * 2).data();
  shard.former = shard.table.load();
  shard.former_mask = shard.mask;
  shard.moved = 0;
  shard.table = fresh;
  shard.mask = shard.mask * 2 + 1;
}

Entry* Store::find(std::string_view key, std::uint64_t hash) {
  Shard& shard = shard_of(hash);
  Table* chain = chain_of(shard, hash);
  if (chain == nullptr) return nullptr;
  for (Entry* entry = *chain; entry != nullptr; entry = entry->next) {
    if (entry->hash != hash || !equal({entry->key.load(), entry->key_bytes}, key)) continue;
    if (entry->expires_ms == 0 || entry->expires_ms > now_ms()) return entry;
    erase(key, hash);
    return nullptr;
  }
  return nullptr;
}

Entry* Store::find_or_add(std::string_view key, std::uint64_t hash) {
  Shard& shard = shard_of(hash);
  move_some(shard);
  if (Entry* entry = find(key, hash)) return entry;
  grow(shard);
  auto* entry = make<Entry>();
  entry->key = heap_copy(key);
  entry->key_bytes = static_cast<std::uint32_t>(key.size());
  entry->hash = hash;
  add_to_chain(shard, entry);
  ++shard.count;
  return entry;
}

bool Store::erase(std::string_view key, std::uint64_t hash) {
  Shard& shard = shard_of(hash);
  Table* link = chain_of(shard, hash);
  if (link == nullptr) return false;
  for (Entry* entry = *link; entry != nullptr; entry = *link) {
    if (entry->hash == hash && equal({entry->key.load(), entry->key_bytes}, key)) {
      const bool expired = entry->expires_ms != 0 && entry->expires_ms <= now_ms();
      *link = entry->next.load();
      --shard.count;
      if (entry->expires_ms != 0) --shard.expiring;
      return !expired;
    }
    link = &entry->next;
  }
  return false;
}

std::uint64_t Store::size() {
  std::uint64_t all = 0;
  for (const Shard& shard : shards_) all += shard.count;
  return all;
}

std::uint64_t Store::expiring() {
  std::uint64_t all = 0;
  for (const Shard& shard : shards_) all += shard.expiring;
  return all;
}

void Store::set_expiry(Entry& entry, std::int64_t when_ms) {
  Shard& shard = shard_of(entry.hash);
  if (entry.expires_ms != 0) --shard.expiring;
  if (when_ms != 0) ++shard.expiring;
  entry.expires_ms = when_ms;
}

void Store::clear() {
  for (Shard& shard : shards_) {
    shard.table = nullptr;
    shard.former = nullptr;
    shard.mask = shard.former_mask = shard.moved = shard.count = shard.expiring = 0;
  }
}

}  // namespace gearbox::workloads::kv
