// What commands do to the data: strings and lists. Replies and errors as Redis words them.
#include <algorithm>
#include <charconv>
#include <limits>

#include "base/os/clock.h"
#include "workloads/kv_server/handlers.h"

namespace gearbox::workloads::kv {
namespace {

constexpr std::string_view kWrongType = "WRONGTYPE Operation against a key holding the wrong kind of value";

void set_text(Entry& entry, char* bytes, std::size_t count) {
  entry.text = bytes;
  entry.text_bytes = static_cast<std::uint32_t>(count);
  entry.list = nullptr;
}

// Milliseconds since 1970 as a moment of our own clock, which no one sets back.
std::int64_t from_unix_ms(std::int64_t unix_ms) { return unix_ms - os::wall_ns() / kMillisecond + now_ms(); }

}  // namespace

// ---- strings

void get(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  const std::uint64_t hash = store.hash_of(a[1]);
  std::string_view value;
  bool found = false;
  {
    Store::Locked hold(store, Store::shard_bit(hash));
    if (Entry* entry = store.find(a[1], hash)) {
      if (entry->list.load() != nullptr) return reply_error(out, kWrongType);
      value = entry->value();
      found = true;
    }
  }
  if (!found) return reply_nil(out);
  reply_bulk(out, value);
  keep_alive(value.data());
}

void set(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  bool only_new = false, only_old = false, keep_ttl = false, wants_old = false, expires = false;
  std::int64_t expires_ms = 0;
  for (std::size_t i = 3; i < a.size(); ++i) {
    GEARBOX_SAFEPOINT();
    const bool seconds = same_word(a[i], "ex"), at_seconds = same_word(a[i], "exat"), at_ms = same_word(a[i], "pxat");
    if (same_word(a[i], "nx") && !only_old) {
      only_new = true;
    } else if (same_word(a[i], "xx") && !only_new) {
      only_old = true;
    } else if (same_word(a[i], "get")) {
      wants_old = true;
    } else if (same_word(a[i], "keepttl") && !expires) {
      keep_ttl = true;
    } else if ((seconds || at_seconds || at_ms || same_word(a[i], "px")) && !keep_ttl && !expires && i + 1 < a.size()) {
      std::int64_t amount = 0;
      if (!parse_integer(a[++i], amount)) return reply_error(out, kNotInteger);
      constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 4000;
      if (amount <= 0 || amount > kMost) return reply_error(out, "ERR invalid expire time in 'set' command");
      expires = true;
      if (seconds || at_seconds) amount *= 1000;
      // 0 means "never": a moment before the clock began is one that has passed.
      expires_ms = at_seconds || at_ms ? std::max<std::int64_t>(from_unix_ms(amount), 1) : now_ms() + amount;
    } else {
      return reply_error(out, kSyntax);
    }
  }
  char* bytes = heap_copy(a[2]);  // before the lock: it may wait for a collection
  const std::uint64_t hash = store.hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  if (only_new || only_old || wants_old) {
    Entry* former = store.find(a[1], hash);
    if (wants_old) {
      if (former != nullptr && former->list.load() != nullptr) return reply_error(out, kWrongType);
      former != nullptr ? reply_bulk(out, former->value()) : reply_nil(out);
    }
    if ((only_new && former != nullptr) || (only_old && former == nullptr)) {
      if (!wants_old) reply_nil(out);
      return;
    }
  }
  Entry* entry = store.find_or_add(a[1], hash);
  set_text(*entry, bytes, a[2].size());
  if (!keep_ttl) store.set_expiry(*entry, expires_ms);
  if (!wants_old) reply_simple(out, "OK");
}

static void change(Store& store, const Arguments& a, std::int64_t by, Replies& out) {
  const std::uint64_t hash = store.hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  Entry* entry = store.find(a[1], hash);
  std::int64_t value = 0;
  if (entry != nullptr) {
    if (entry->list.load() != nullptr) return reply_error(out, kWrongType);
    if (!parse_integer(entry->value(), value)) return reply_error(out, kNotInteger);
  }
  if (__builtin_add_overflow(value, by, &value)) return reply_error(out, "ERR increment or decrement would overflow");
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  const std::string_view text(digits, static_cast<std::size_t>(end - digits));
  entry = store.find_or_add(a[1], hash);
  set_text(*entry, heap_copy(text), text.size());
  reply_integer(out, value);
}
void incr(Session& session, const Arguments& a, Replies& out) { change(session.store, a, 1, out); }
void decr(Session& session, const Arguments& a, Replies& out) { change(session.store, a, -1, out); }
void incrby(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  std::int64_t by = 0;
  if (!parse_integer(a[2], by)) return reply_error(out, kNotInteger);
  change(store, a, by, out);
}

void mset(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  if (a.size() % 2 == 0) return reply_error(out, "ERR wrong number of arguments for 'mset' command");
  std::uint64_t shards = 0;
  for (std::size_t i = 1; i < a.size(); i += 2) {
    GEARBOX_SAFEPOINT();
    shards |= Store::shard_bit(store.hash_of(a[i]));
  }
  Store::Locked hold(store, shards);
  for (std::size_t i = 1; i < a.size(); i += 2) {
    GEARBOX_SAFEPOINT();
    Entry* entry = store.find_or_add(a[i], store.hash_of(a[i]));
    set_text(*entry, heap_copy(a[i + 1]), a[i + 1].size());
    store.set_expiry(*entry, 0);
  }
  reply_simple(out, "OK");
}

static std::uint64_t shards_of_keys(const Store& store, const Arguments& a) {
  std::uint64_t shards = 0;
  for (std::size_t i = 1; i < a.size(); ++i) {
    GEARBOX_SAFEPOINT();
    shards |= Store::shard_bit(store.hash_of(a[i]));
  }
  return shards;
}

void mget(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  Store::Locked hold(store, shards_of_keys(store, a));
  reply_array(out, a.size() - 1);
  for (std::size_t i = 1; i < a.size() && !out.full(); ++i) {
    GEARBOX_SAFEPOINT();
    Entry* entry = store.find(a[i], store.hash_of(a[i]));
    if (entry == nullptr || entry->list.load() != nullptr)
      reply_nil(out);
    else
      reply_bulk(out, entry->value());
  }
}

void del(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  Store::Locked hold(store, shards_of_keys(store, a));
  std::int64_t gone = 0;
  for (std::size_t i = 1; i < a.size(); ++i) {
    GEARBOX_SAFEPOINT();
    gone += store.erase(a[i], store.hash_of(a[i])) ? 1 : 0;
  }
  reply_integer(out, gone);
}
void exists(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  Store::Locked hold(store, shards_of_keys(store, a));
  std::int64_t there = 0;
  for (std::size_t i = 1; i < a.size(); ++i) {
    GEARBOX_SAFEPOINT();
    there += store.find(a[i], store.hash_of(a[i])) != nullptr ? 1 : 0;
  }
  reply_integer(out, there);
}

// ---- lists

static void push(Store& store, const Arguments& a, void (*one)(List&, char*, std::uint32_t), Replies& out) {
  const std::uint64_t hash = store.hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  Entry* entry = store.find(a[1], hash);
  if (entry != nullptr && entry->list.load() == nullptr) return reply_error(out, kWrongType);
  List* list = entry != nullptr ? entry->list.load() : make<List>();
  if (entry == nullptr) {
    entry = store.find_or_add(a[1], hash);
    entry->list = list;
  }
  for (std::size_t i = 2; i < a.size(); ++i) {
    GEARBOX_SAFEPOINT();
    one(*list, heap_copy(a[i]), static_cast<std::uint32_t>(a[i].size()));
  }
  reply_integer(out, static_cast<std::int64_t>(list->length));
}
void lpush(Session& session, const Arguments& a, Replies& out) { push(session.store, a, push_left, out); }
void rpush(Session& session, const Arguments& a, Replies& out) { push(session.store, a, push_right, out); }

static void pop(Store& store, const Arguments& a, std::string_view (*one)(List&), Replies& out) {
  const bool counted = a.size() > 2;
  std::int64_t count = 1;
  if (a.size() > 3) return wrong_arguments(out, a[0]);
  if (counted && (!parse_integer(a[2], count) || count < 0))
    return reply_error(out, "ERR value is out of range, must be positive");
  const std::uint64_t hash = store.hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  Entry* entry = store.find(a[1], hash);
  if (entry == nullptr) return counted ? reply_nil_array(out) : reply_nil(out);
  List* list = entry->list;
  if (list == nullptr) return reply_error(out, kWrongType);
  const std::uint64_t taken = std::min(static_cast<std::uint64_t>(count), list->length);
  if (counted) reply_array(out, taken);
  for (std::uint64_t i = 0; i < taken && !out.full(); ++i) {  // what does not fit stays in the list
    GEARBOX_SAFEPOINT();
    const std::string_view item = one(*list);
    reply_bulk(out, item);
    keep_alive(item.data());
  }
  if (list->length == 0) store.erase(a[1], hash);
}
void lpop(Session& session, const Arguments& a, Replies& out) { pop(session.store, a, pop_left, out); }
void rpop(Session& session, const Arguments& a, Replies& out) { pop(session.store, a, pop_right, out); }

void llen(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  const std::uint64_t hash = store.hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  Entry* entry = store.find(a[1], hash);
  if (entry == nullptr) return reply_integer(out, 0);
  if (entry->list.load() == nullptr) return reply_error(out, kWrongType);
  reply_integer(out, static_cast<std::int64_t>(entry->list->length));
}

void lrange(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  std::int64_t from = 0, to = 0;
  if (!parse_integer(a[2], from) || !parse_integer(a[3], to)) return reply_error(out, kNotInteger);
  const std::uint64_t hash = store.hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  Entry* entry = store.find(a[1], hash);
  if (entry == nullptr) return reply_array(out, 0);
  List* list = entry->list;
  if (list == nullptr) return reply_error(out, kWrongType);
  const auto length = static_cast<std::int64_t>(list->length);
  if (from < 0) from = std::max<std::int64_t>(from + length, 0);
  if (to < 0) to += length;
  to = std::min(to, length - 1);
  if (from > to || from >= length) return reply_array(out, 0);
  reply_array(out, static_cast<std::size_t>(to - from + 1));
  std::int64_t place = 0;
  for (Chunk* chunk = list->head; chunk != nullptr && place <= to && !out.full(); chunk = chunk->right) {
    GEARBOX_SAFEPOINT();
    for (std::uint32_t i = 0; i < chunk->count; ++i, ++place)
      if (place >= from && place <= to)
        reply_bulk(out, {chunk->item[chunk->first + i].load(), chunk->bytes[chunk->first + i]});
  }
}

}  // namespace gearbox::workloads::kv
