#include "workloads/kv_server/commands.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>
#include <limits>

namespace gearbox::workloads::kv {
namespace {

using Arguments = std::vector<std::string_view>;

constexpr std::string_view kWrongType = "WRONGTYPE Operation against a key holding the wrong kind of value";
constexpr std::string_view kNotInteger = "ERR value is not an integer or out of range";
constexpr std::string_view kSyntax = "ERR syntax error";

bool same_word(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() && std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) == y;
         });
}

void set_text(Entry& entry, char* bytes, std::size_t count) {
  entry.text = bytes;
  entry.text_bytes = static_cast<std::uint32_t>(count);
  entry.list = nullptr;
}

// ---- strings

void get(Store& store, const Arguments& a, std::string& out) {
  const std::uint64_t hash = hash_of(a[1]);
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

void set(Store& store, const Arguments& a, std::string& out) {
  bool only_new = false, only_old = false, keep_ttl = false;
  std::int64_t expires_ms = 0;
  for (std::size_t i = 3; i < a.size(); ++i) {
    const bool seconds = same_word(a[i], "ex");
    if (same_word(a[i], "nx") && !only_old) {
      only_new = true;
    } else if (same_word(a[i], "xx") && !only_new) {
      only_old = true;
    } else if (same_word(a[i], "keepttl") && expires_ms == 0) {
      keep_ttl = true;
    } else if ((seconds || same_word(a[i], "px")) && !keep_ttl && expires_ms == 0 && i + 1 < a.size()) {
      std::int64_t amount = 0;
      if (!parse_integer(a[++i], amount)) return reply_error(out, kNotInteger);
      constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 4000;
      if (amount <= 0 || amount > kMost) return reply_error(out, "ERR invalid expire time in 'set' command");
      expires_ms = now_ms() + (seconds ? amount * 1000 : amount);
    } else {
      return reply_error(out, kSyntax);
    }
  }
  char* bytes = heap_copy(a[2]);  // before the lock: it may wait for a collection
  const std::uint64_t hash = hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  if (only_new || only_old) {
    if ((store.find(a[1], hash) != nullptr) == only_new) return reply_nil(out);
  }
  Entry* entry = store.find_or_add(a[1], hash);
  set_text(*entry, bytes, a[2].size());
  if (!keep_ttl) entry->expires_ms = expires_ms;
  reply_simple(out, "OK");
}

void change(Store& store, const Arguments& a, std::int64_t by, std::string& out) {
  const std::uint64_t hash = hash_of(a[1]);
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
void incr(Store& store, const Arguments& a, std::string& out) { change(store, a, 1, out); }
void decr(Store& store, const Arguments& a, std::string& out) { change(store, a, -1, out); }
void incrby(Store& store, const Arguments& a, std::string& out) {
  std::int64_t by = 0;
  if (!parse_integer(a[2], by)) return reply_error(out, kNotInteger);
  change(store, a, by, out);
}

void mset(Store& store, const Arguments& a, std::string& out) {
  if (a.size() % 2 == 0) return reply_error(out, "ERR wrong number of arguments for 'mset' command");
  std::uint64_t shards = 0;
  for (std::size_t i = 1; i < a.size(); i += 2) shards |= Store::shard_bit(hash_of(a[i]));
  Store::Locked hold(store, shards);
  for (std::size_t i = 1; i < a.size(); i += 2) {
    Entry* entry = store.find_or_add(a[i], hash_of(a[i]));
    set_text(*entry, heap_copy(a[i + 1]), a[i + 1].size());
    entry->expires_ms = 0;
  }
  reply_simple(out, "OK");
}

std::uint64_t shards_of_keys(const Arguments& a) {
  std::uint64_t shards = 0;
  for (std::size_t i = 1; i < a.size(); ++i) shards |= Store::shard_bit(hash_of(a[i]));
  return shards;
}

void mget(Store& store, const Arguments& a, std::string& out) {
  Store::Locked hold(store, shards_of_keys(a));
  reply_array(out, a.size() - 1);
  for (std::size_t i = 1; i < a.size(); ++i) {
    Entry* entry = store.find(a[i], hash_of(a[i]));
    if (entry == nullptr || entry->list.load() != nullptr)
      reply_nil(out);
    else
      reply_bulk(out, entry->value());
  }
}

void del(Store& store, const Arguments& a, std::string& out) {
  Store::Locked hold(store, shards_of_keys(a));
  std::int64_t gone = 0;
  for (std::size_t i = 1; i < a.size(); ++i) gone += store.erase(a[i], hash_of(a[i])) ? 1 : 0;
  reply_integer(out, gone);
}
void exists(Store& store, const Arguments& a, std::string& out) {
  Store::Locked hold(store, shards_of_keys(a));
  std::int64_t there = 0;
  for (std::size_t i = 1; i < a.size(); ++i) there += store.find(a[i], hash_of(a[i])) != nullptr ? 1 : 0;
  reply_integer(out, there);
}

// ---- lists

void push(Store& store, const Arguments& a, void (*one)(List&, char*, std::uint32_t), std::string& out) {
  const std::uint64_t hash = hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  Entry* entry = store.find(a[1], hash);
  if (entry != nullptr && entry->list.load() == nullptr) return reply_error(out, kWrongType);
  List* list = entry != nullptr ? entry->list.load() : make<List>();
  if (entry == nullptr) {
    entry = store.find_or_add(a[1], hash);
    entry->list = list;
  }
  for (std::size_t i = 2; i < a.size(); ++i) one(*list, heap_copy(a[i]), static_cast<std::uint32_t>(a[i].size()));
  reply_integer(out, static_cast<std::int64_t>(list->length));
}
void lpush(Store& store, const Arguments& a, std::string& out) { push(store, a, push_left, out); }
void rpush(Store& store, const Arguments& a, std::string& out) { push(store, a, push_right, out); }

void pop(Store& store, const Arguments& a, std::string_view (*one)(List&), std::string& out) {
  const std::uint64_t hash = hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  Entry* entry = store.find(a[1], hash);
  if (entry == nullptr) return reply_nil(out);
  List* list = entry->list;
  if (list == nullptr) return reply_error(out, kWrongType);
  const std::string_view item = one(*list);
  reply_bulk(out, item);
  keep_alive(item.data());
  if (list->length == 0) store.erase(a[1], hash);
}
void lpop(Store& store, const Arguments& a, std::string& out) { pop(store, a, pop_left, out); }
void rpop(Store& store, const Arguments& a, std::string& out) { pop(store, a, pop_right, out); }

void llen(Store& store, const Arguments& a, std::string& out) {
  const std::uint64_t hash = hash_of(a[1]);
  Store::Locked hold(store, Store::shard_bit(hash));
  Entry* entry = store.find(a[1], hash);
  if (entry == nullptr) return reply_integer(out, 0);
  if (entry->list.load() == nullptr) return reply_error(out, kWrongType);
  reply_integer(out, static_cast<std::int64_t>(entry->list->length));
}

void lrange(Store& store, const Arguments& a, std::string& out) {
  std::int64_t from = 0, to = 0;
  if (!parse_integer(a[2], from) || !parse_integer(a[3], to)) return reply_error(out, kNotInteger);
  const std::uint64_t hash = hash_of(a[1]);
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
  for (Chunk* chunk = list->head; chunk != nullptr && place <= to; chunk = chunk->right) {
    for (std::uint32_t i = 0; i < chunk->count; ++i, ++place)
      if (place >= from && place <= to)
        reply_bulk(out, {chunk->item[chunk->first + i].load(), chunk->bytes[chunk->first + i]});
  }
}

// ---- the server itself

void ping(Store&, const Arguments& a, std::string& out) {
  if (a.size() > 2) return reply_error(out, "ERR wrong number of arguments for 'ping' command");
  a.size() == 2 ? reply_bulk(out, a[1]) : reply_simple(out, "PONG");
}
void echo(Store&, const Arguments& a, std::string& out) { reply_bulk(out, a[1]); }
void dbsize(Store& store, const Arguments&, std::string& out) {
  Store::Locked hold(store, ~std::uint64_t{0});
  reply_integer(out, static_cast<std::int64_t>(store.size()));
}
void flushall(Store& store, const Arguments& a, std::string& out) {
  if (a.size() > 2 || (a.size() == 2 && !same_word(a[1], "sync") && !same_word(a[1], "async")))
    return reply_error(out, kSyntax);
  Store::Locked hold(store, ~std::uint64_t{0});
  store.clear();
  reply_simple(out, "OK");
}
void info(Store&, const Arguments&, std::string& out) {
  const MemStats memory = read_mem_stats();
  reply_bulk(out, fmt::format("# Server\r\nredis_version:7.0.0\r\nserver_name:gearbox\r\nredis_mode:standalone\r\n\r\n"
                              "# Memory\r\nused_memory:{}\r\n",
                              memory.heap_live));
}
void config(Store&, const Arguments& a, std::string& out) {
  if (!same_word(a[1], "get"))
    return reply_error(out, fmt::format("ERR unknown subcommand '{}'. Try CONFIG HELP.", a[1].substr(0, 128)));
  if (a.size() < 3) return reply_error(out, "ERR wrong number of arguments for 'config|get' command");
  // redis-benchmark asks for these two, to print them.
  const bool save = same_word(a[2], "save"), append = same_word(a[2], "appendonly");
  if (!save && !append) return reply_array(out, 0);
  reply_array(out, 2);
  reply_bulk(out, save ? "save" : "appendonly");
  reply_bulk(out, save ? "" : "no");
}
void command(Store&, const Arguments& a, std::string& out);
void select_database(Store&, const Arguments& a, std::string& out) {
  std::int64_t index = 0;
  if (!parse_integer(a[1], index)) return reply_error(out, kNotInteger);
  index == 0 ? reply_simple(out, "OK") : reply_error(out, "ERR DB index is out of range");
}
void quit(Store&, const Arguments&, std::string& out) { reply_simple(out, "OK"); }

struct Command {
  std::string_view name;
  int arity;  // with the name; negative: at least so many
  void (*run)(Store&, const Arguments&, std::string&);
};
constexpr Command kCommands[] = {
    {"get", 2, get},
    {"set", -3, set},
    {"incr", 2, incr},
    {"lpush", -3, lpush},
    {"mset", -3, mset},
    {"mget", -2, mget},
    {"ping", -1, ping},
    {"echo", 2, echo},
    {"del", -2, del},
    {"exists", -2, exists},
    {"decr", 2, decr},
    {"incrby", 3, incrby},
    {"rpush", -3, rpush},
    {"lpop", 2, lpop},
    {"rpop", 2, rpop},
    {"llen", 2, llen},
    {"lrange", 4, lrange},
    {"dbsize", 1, dbsize},
    {"flushall", -1, flushall},
    {"info", -1, info},
    {"config", -2, config},
    {"command", -1, command},
    {"select", 2, select_database},
    {"quit", -1, quit},
};

void command(Store&, const Arguments& a, std::string& out) {
  if (a.size() > 1 && same_word(a[1], "count")) return reply_integer(out, std::size(kCommands));
  reply_array(out, 0);
}

void unknown(const Arguments& a, std::string& out) {
  std::string rest;
  for (std::size_t i = 1; i < a.size() && rest.size() < 128; ++i)
    rest += fmt::format("'{}' ", a[i].substr(0, 128 - rest.size()));
  reply_error(out, fmt::format("ERR unknown command '{}', with args beginning with: {}", a[0].substr(0, 128), rest));
}

}  // namespace

bool execute(Store& store, const Request& request, std::string& out) {
  const Arguments& a = request.arguments;
  for (const Command& known : kCommands) {
    if (!same_word(a[0], known.name)) continue;
    const auto count = static_cast<int>(a.size());
    if (known.arity >= 0 ? count != known.arity : count < -known.arity)
      reply_error(out, fmt::format("ERR wrong number of arguments for '{}' command", known.name));
    else
      known.run(store, a, out);
    return known.run != quit;
  }
  unknown(a, out);
  return true;
}

void serve(Store& store, const net::Conn& conn) {
  constexpr std::size_t kFirstBytes = 16 * 1024, kMostPending = 1 << 20;
  std::vector<char> input(kFirstBytes);
  std::size_t have = 0, needed = 0;
  std::string out, error;
  Request request;
  for (;;) {
    if (input.size() < std::max(needed, have + 1)) input.resize(std::max(needed, input.size() * 2));
    const net::Transfer got = conn.read(std::span<char>(input).subspan(have));
    if (got.bytes == 0) return;
    have += got.bytes;
    if (have < needed) continue;  // a long value is still under way: nothing to parse yet
    std::size_t at = 0;
    const std::string_view bytes(input.data(), have);
    Parsed parsed;
    bool goes_on = true;
    while (goes_on && (parsed = parse(bytes, at, needed, request, error)) != Parsed::kIncomplete) {
      if (parsed == Parsed::kError) {
        reply_error(out, "ERR " + error);
        goes_on = false;
      } else if (!request.arguments.empty()) {
        goes_on = execute(store, request, out);
      }
      if (out.size() > kMostPending) {
        if (!conn.write(out).ok()) return;
        out.clear();
      }
    }
    if (!out.empty() && !conn.write(out).ok()) return;
    if (!goes_on) return;
    out.clear();
    if (at > 0) std::memmove(input.data(), input.data() + at, have - at);
    have -= at;
    if (have == 0 && input.size() > kFirstBytes * 64) input = std::vector<char>(kFirstBytes);
  }
}

}  // namespace gearbox::workloads::kv
