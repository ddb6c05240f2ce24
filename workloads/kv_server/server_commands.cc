// Commands about the server itself: INFO, CONFIG, COMMAND and the small ones. Nothing here can be configured: CONFIG
// GET says what is the case, and CONFIG SET refuses in Redis's words.
#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

#include "base/os/thread.h"
#include "workloads/kv_server/commands.h"

namespace gearbox::workloads::kv {
namespace {

// Redis's glob: * ? [a-c] [^x] and \ before a character that stands for itself. Letters of either case are equal.
bool matches(std::string_view pattern, std::string_view text) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  while (!pattern.empty()) {
    char c = pattern[0];
    if (c == '*') {
      while (!pattern.empty() && pattern[0] == '*') pattern.remove_prefix(1);
      if (pattern.empty()) return true;
      for (; !text.empty(); text.remove_prefix(1))
        if (matches(pattern, text)) return true;
      return false;
    }
    if (text.empty()) return false;
    if (c == '[') {
      std::size_t i = 1;
      const bool inverted = pattern.size() > i && pattern[i] == '^';
      if (inverted) ++i;
      bool found = false;
      for (; i < pattern.size() && pattern[i] != ']'; ++i) {
        if (pattern[i] == '\\' && i + 1 < pattern.size()) ++i;
        int low = lower(pattern[i]), high = low;
        if (i + 2 < pattern.size() && pattern[i + 1] == '-' && pattern[i + 2] != ']') {
          high = lower(pattern[i += 2]);
          if (low > high) std::swap(low, high);
        }
        found |= low <= lower(text[0]) && lower(text[0]) <= high;
      }
      if (found == inverted) return false;
      pattern.remove_prefix(std::min(i + 1, pattern.size()));
    } else {
      if (c == '\\' && pattern.size() > 1) {
        pattern.remove_prefix(1);
        c = pattern[0];
      } else if (c == '?') {
        c = text[0];
      }
      if (lower(c) != lower(text[0])) return false;
      pattern.remove_prefix(1);
    }
    text.remove_prefix(1);
  }
  return text.empty();
}

void reply_words(std::string& out, std::string_view words) {
  reply_array(out, words.empty() ? 0 : static_cast<std::size_t>(std::count(words.begin(), words.end(), ' ')) + 1);
  while (!words.empty()) {
    const std::size_t end = std::min(words.find(' '), words.size());
    reply_simple(out, words.substr(0, end));
    words.remove_prefix(std::min(end + 1, words.size()));
  }
}

void unknown_subcommand(std::string& out, std::string_view word, std::string_view container) {
  reply_error(out, fmt::format("ERR unknown subcommand '{}'. Try {} HELP.", word.substr(0, 128), container));
}

struct Setting {
  std::string_view name, value;
};
constexpr Setting kSettings[] = {
    {"save", ""},        {"appendonly", "no"},      {"maxmemory", "0"},
    {"maxclients", "0"}, {"databases", "1"},        {"maxmemory-policy", "noeviction"},
    {"timeout", "0"},    {"io-threads", "1"},       {"proto-max-bulk-len", "536870912"},
    {"daemonize", "no"}, {"cluster-enabled", "no"}, {"client-query-buffer-limit", "1073741824"},
};

void config_get(const Arguments& a, std::string& out) {
  std::size_t found = 0;
  std::string rows;
  for (const Setting& setting : kSettings) {
    if (std::none_of(a.begin() + 2, a.end(), [&](std::string_view p) { return matches(p, setting.name); })) continue;
    ++found;
    reply_bulk(rows, setting.name);
    reply_bulk(rows, setting.value);
  }
  reply_array(out, 2 * found);
  out += rows;
}

void config_set(const Arguments& a, std::string& out) {
  if (a.size() % 2 != 0) return reply_error(out, kSyntax);
  for (std::size_t i = 2; i < a.size(); i += 2)
    if (std::none_of(std::begin(kSettings), std::end(kSettings),
                     [&](const Setting& setting) { return same_word(a[i], setting.name); }))
      return reply_error(
          out, fmt::format("ERR Unknown option or number of arguments for CONFIG SET - '{}'", a[i].substr(0, 128)));
  reply_error(out, fmt::format("ERR CONFIG SET failed (possibly related to argument '{}') - can't set immutable config",
                               a[2].substr(0, 128)));
}

void command_entry(const Command& known, std::string& out) {
  reply_array(out, 10);
  reply_bulk(out, known.name);
  reply_integer(out, known.arity);
  reply_words(out, known.flags);
  reply_integer(out, known.first_key);
  reply_integer(out, known.last_key);
  reply_integer(out, known.key_step);
  reply_words(out, known.categories);
  reply_array(out, 0);  // tips
  reply_array(out, 0);  // key specifications: the three numbers above say as much for these commands
  reply_array(out, 0);  // subcommands
}

void command_docs(const Command& known, std::string& out) {
  reply_bulk(out, known.name);
  const std::string_view rows[] = {"summary", known.summary, "since", known.since, "group", known.group};
  reply_array(out, std::size(rows));
  for (const auto& row : rows) reply_bulk(out, row);
}

void command_keys(const Arguments& a, std::string& out) {
  const Command* known = find_command(a[2]);
  if (known == nullptr) return reply_error(out, "ERR Invalid command specified");
  const auto count = static_cast<int>(a.size()) - 2;
  if (known->first_key == 0) return reply_error(out, "ERR The command has no key arguments");
  if (known->arity >= 0 ? count != known->arity : count < -known->arity)
    return reply_error(out, "ERR Invalid number of arguments specified for command");
  const int last = known->last_key < 0 ? count + known->last_key : known->last_key;
  const int keys = (last - known->first_key) / known->key_step + 1;
  reply_array(out, static_cast<std::size_t>(keys));
  for (int i = known->first_key; i <= last; i += known->key_step) reply_bulk(out, a[static_cast<std::size_t>(i) + 2]);
}

}  // namespace

void ping(Store&, const Arguments& a, std::string& out) {
  if (a.size() > 2) return wrong_arguments(out, a[0]);
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

// The sections asked for, in the server's order; those that this server does not have are empty, as in Redis.
void info(Store& store, const Arguments& a, std::string& out) {
  std::string text;
  const auto section = [&](std::string_view name) {
    const bool all = a.size() == 1 || std::any_of(a.begin() + 1, a.end(), [](std::string_view word) {
                       return same_word(word, "all") || same_word(word, "default") || same_word(word, "everything");
                     });
    std::string lower(name);
    lower[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(lower[0])));
    if (!all && std::none_of(a.begin() + 1, a.end(), [&](std::string_view word) { return same_word(word, lower); }))
      return false;
    if (!text.empty()) text += "\r\n";
    fmt::format_to(std::back_inserter(text), "# {}\r\n", name);
    return true;
  };
  const auto row = [&](std::string_view name, auto value) {
    fmt::format_to(std::back_inserter(text), "{}:{}\r\n", name, value);
  };
  const Stats& stats = store.stats;
  if (section("Server")) {
    row("redis_version", "7.0.0");
    row("server_name", "gearbox");
    row("redis_mode", "standalone");
    row("process_id", os::process_id());
    row("uptime_in_seconds", (now_ms() - stats.began_ms) / 1000);
  }
  if (section("Clients")) {
    row("connected_clients", stats.clients.load(std::memory_order_relaxed));
    row("blocked_clients", 0);
  }
  if (section("Memory")) {
    const MemStats memory = read_mem_stats();
    row("used_memory", memory.heap_live);
    row("used_memory_rss", memory.heap_in_use);
    row("maxmemory", 0);
  }
  if (section("Stats")) {
    row("total_connections_received", stats.connections.load(std::memory_order_relaxed));
    row("total_commands_processed", stats.commands.load(std::memory_order_relaxed));
  }
  if (section("Keyspace")) {
    Store::Locked hold(store, ~std::uint64_t{0});
    if (const std::uint64_t keys = store.size(); keys > 0)
      row("db0", fmt::format("keys={},expires={},avg_ttl=0", keys, store.expiring()));
  }
  reply_bulk(out, text);
}

void config(Store& store, const Arguments& a, std::string& out) {
  if (same_word(a[1], "get")) return a.size() < 3 ? wrong_arguments(out, "config|get") : config_get(a, out);
  if (same_word(a[1], "set")) return a.size() < 4 ? wrong_arguments(out, "config|set") : config_set(a, out);
  if (same_word(a[1], "resetstat")) {
    if (a.size() != 2) return wrong_arguments(out, "config|resetstat");
    store.stats.connections = store.stats.commands = 0;
    return reply_simple(out, "OK");
  }
  if (same_word(a[1], "rewrite")) {
    if (a.size() != 2) return wrong_arguments(out, "config|rewrite");
    return reply_error(out, "ERR The server is running without a config file");
  }
  if (!same_word(a[1], "help")) return unknown_subcommand(out, a[1], "CONFIG");
  if (a.size() != 2) return wrong_arguments(out, "config|help");
  constexpr std::string_view kLines[] = {
      "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
      "GET <pattern>",
      "    Return parameters matching the glob-like <pattern> and their values.",
      "SET <directive> <value>",
      "    Set the configuration <directive> to <value>.",
      "RESETSTAT",
      "    Reset statistics reported by the INFO command.",
      "REWRITE",
      "    Rewrite the configuration file.",
      "HELP",
      "    Prints this help.",
  };
  reply_array(out, std::size(kLines));
  for (const auto& line : kLines) reply_simple(out, line);
}

void command(Store&, const Arguments& a, std::string& out) {
  const auto all = all_commands();
  if (a.size() == 1 || (a.size() == 2 && same_word(a[1], "info"))) {
    reply_array(out, all.size());
    for (const Command& each : all) command_entry(each, out);
  } else if (same_word(a[1], "count")) {
    if (a.size() != 2) return wrong_arguments(out, "command|count");
    reply_integer(out, static_cast<std::int64_t>(all.size()));
  } else if (same_word(a[1], "info")) {
    reply_array(out, a.size() - 2);
    for (std::size_t i = 2; i < a.size(); ++i) {
      const Command* known = find_command(a[i]);
      known != nullptr ? command_entry(*known, out) : reply_nil(out);
    }
  } else if (same_word(a[1], "docs")) {
    std::vector<const Command*> wanted;
    for (std::size_t i = 2; i < a.size(); ++i)
      if (const Command* known = find_command(a[i])) wanted.push_back(known);
    if (a.size() == 2)
      for (const Command& each : all) wanted.push_back(&each);
    reply_array(out, 2 * wanted.size());
    for (const Command* each : wanted) command_docs(*each, out);
  } else if (same_word(a[1], "list")) {
    if (a.size() != 2) return reply_error(out, kSyntax);
    reply_array(out, all.size());
    for (const Command& each : all) reply_bulk(out, each.name);
  } else if (same_word(a[1], "getkeys")) {
    a.size() < 3 ? wrong_arguments(out, "command|getkeys") : command_keys(a, out);
  } else if (same_word(a[1], "help")) {
    constexpr std::string_view kLines[] = {
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    Return details about all commands.",
        "COUNT",
        "    Return the total number of commands in this server.",
        "LIST",
        "    Return a list of all commands in this server.",
        "INFO [<command-name> ...]",
        "    Return details about multiple commands.",
        "DOCS [<command-name> ...]",
        "    Return documentation details about multiple commands.",
        "GETKEYS <full-command>",
        "    Return the keys from a full command.",
        "HELP",
        "    Prints this help.",
    };
    reply_array(out, std::size(kLines));
    for (const auto& line : kLines) reply_simple(out, line);
  } else {
    unknown_subcommand(out, a[1], "COMMAND");
  }
}

void select_database(Store&, const Arguments& a, std::string& out) {
  std::int64_t index = 0;
  if (!parse_integer(a[1], index)) return reply_error(out, kNotInteger);
  index == 0 ? reply_simple(out, "OK") : reply_error(out, "ERR DB index is out of range");
}
void quit(Store&, const Arguments&, std::string& out) { reply_simple(out, "OK"); }

}  // namespace gearbox::workloads::kv
