// Commands about the server itself: INFO, CONFIG, COMMAND, AUTH and the small ones. Nothing here can be configured:
// CONFIG GET says what is the case, and CONFIG SET refuses in Redis's words.
#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

#include "base/os/thread.h"
#include "workloads/kv_server/commands.h"
#include "workloads/kv_server/glob.h"

namespace gearbox::workloads::kv {
namespace {

void reply_words(Replies& out, std::string_view words) {
  reply_array(out, words.empty() ? 0 : static_cast<std::size_t>(std::count(words.begin(), words.end(), ' ')) + 1);
  while (!words.empty()) {
    const std::size_t end = std::min(words.find(' '), words.size());
    reply_simple(out, words.substr(0, end));
    words.remove_prefix(std::min(end + 1, words.size()));
  }
}

void unknown_subcommand(Replies& out, std::string_view word, std::string_view container) {
  reply_error(out, fmt::format("ERR unknown subcommand '{}'. Try {} HELP.", word.substr(0, 128), container));
}

struct Setting {
  std::string_view name;
  std::string value;
};
std::vector<Setting> settings(const Limits& limits) {
  const auto number = [](auto n) { return std::to_string(n); };
  return {
      {"save", ""},
      {"appendonly", "no"},
      {"maxmemory", "0"},
      {"maxclients", number(limits.clients)},
      {"databases", "1"},
      {"maxmemory-policy", "noeviction"},
      {"timeout", number(limits.idle_seconds)},
      {"io-threads", "1"},
      {"proto-max-bulk-len", number(limits.value_bytes())},
      {"daemonize", "no"},
      {"cluster-enabled", "no"},
      {"client-query-buffer-limit", number(limits.query_bytes)},
      {"client-output-buffer-limit", fmt::format("normal {} 0 0", limits.output_bytes)},
      {"maxmemory-clients", number(limits.memory_bytes)},
      {"requirepass", limits.password},
  };
}

void config_get(Session& session, const Arguments& a, Replies& out) {
  const std::vector<Setting> all = settings(session.limits);
  std::vector<bool> wanted(all.size());
  for (std::size_t i = 2; i < a.size(); ++i) {
    GEARBOX_SAFEPOINT();
    for (std::size_t n = 0; n < all.size(); ++n)
      if (!wanted[n]) wanted[n] = matches(a[i], all[n].name, [] { GEARBOX_SAFEPOINT(); });
  }
  reply_array(out, 2 * static_cast<std::size_t>(std::count(wanted.begin(), wanted.end(), true)));
  for (std::size_t n = 0; n < all.size(); ++n) {
    if (!wanted[n]) continue;
    reply_bulk(out, all[n].name);
    reply_bulk(out, all[n].value);
  }
}

void config_set(Session& session, const Arguments& a, Replies& out) {
  if (a.size() % 2 != 0) return reply_error(out, kSyntax);
  const std::vector<Setting> all = settings(session.limits);
  for (std::size_t i = 2; i < a.size(); i += 2) {
    GEARBOX_SAFEPOINT();
    if (std::none_of(all.begin(), all.end(), [&](const Setting& setting) { return same_word(a[i], setting.name); }))
      return reply_error(
          out, fmt::format("ERR Unknown option or number of arguments for CONFIG SET - '{}'", a[i].substr(0, 128)));
  }
  reply_error(out, fmt::format("ERR CONFIG SET failed (possibly related to argument '{}') - can't set immutable config",
                               a[2].substr(0, 128)));
}

void command_entry(const Command& known, Replies& out) {
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

void command_docs(const Command& known, Replies& out) {
  reply_bulk(out, known.name);
  const std::string_view rows[] = {"summary", known.summary, "since", known.since, "group", known.group};
  reply_array(out, std::size(rows));
  for (const auto& row : rows) reply_bulk(out, row);
}

void command_keys(const Arguments& a, Replies& out) {
  const Command* known = find_command(a[2]);
  if (known == nullptr) return reply_error(out, "ERR Invalid command specified");
  const auto count = static_cast<int>(a.size()) - 2;
  if (known->first_key == 0) return reply_error(out, "ERR The command has no key arguments");
  if (known->arity >= 0 ? count != known->arity : count < -known->arity)
    return reply_error(out, "ERR Invalid number of arguments specified for command");
  const int last = known->last_key < 0 ? count + known->last_key : known->last_key;
  const int keys = (last - known->first_key) / known->key_step + 1;
  reply_array(out, static_cast<std::size_t>(keys));
  for (int i = known->first_key; i <= last && !out.full(); i += known->key_step) {
    GEARBOX_SAFEPOINT();
    reply_bulk(out, a[static_cast<std::size_t>(i) + 2]);
  }
}

}  // namespace

void ping(Session&, const Arguments& a, Replies& out) {
  if (a.size() > 2) return wrong_arguments(out, a[0]);
  a.size() == 2 ? reply_bulk(out, a[1]) : reply_simple(out, "PONG");
}
void echo(Session&, const Arguments& a, Replies& out) { reply_bulk(out, a[1]); }
void dbsize(Session& session, const Arguments&, Replies& out) {
  Store& store = session.store;
  Store::Locked hold(store, ~std::uint64_t{0});
  reply_integer(out, static_cast<std::int64_t>(store.size()));
}
void flushall(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  if (a.size() > 2 || (a.size() == 2 && !same_word(a[1], "sync") && !same_word(a[1], "async")))
    return reply_error(out, kSyntax);
  Store::Locked hold(store, ~std::uint64_t{0});
  store.clear();
  reply_simple(out, "OK");
}

// The sections asked for, in the server's order; those that this server does not have are empty, as in Redis.
void info(Session& session, const Arguments& a, Replies& out) {
  Store& store = session.store;
  constexpr std::string_view kSections[] = {"server", "clients", "memory", "stats", "keyspace"};
  bool wanted[std::size(kSections)] = {};
  for (std::size_t i = 1; i < a.size(); ++i) {
    GEARBOX_SAFEPOINT();
    const bool all = same_word(a[i], "all") || same_word(a[i], "default") || same_word(a[i], "everything");
    for (std::size_t n = 0; n < std::size(kSections); ++n) wanted[n] |= all || same_word(a[i], kSections[n]);
  }
  std::string text;
  const auto section = [&](std::size_t n) {
    if (a.size() > 1 && !wanted[n]) return false;
    if (!text.empty()) text += "\r\n";
    fmt::format_to(std::back_inserter(text), "# {}{}\r\n",
                   static_cast<char>(std::toupper(static_cast<unsigned char>(kSections[n][0]))),
                   kSections[n].substr(1));
    return true;
  };
  const auto row = [&](std::string_view name, auto value) {
    fmt::format_to(std::back_inserter(text), "{}:{}\r\n", name, value);
  };
  const Stats& stats = store.stats;
  if (section(0)) {
    row("redis_version", "7.0.0");
    row("server_name", "gearbox");
    row("redis_mode", "standalone");
    row("process_id", os::process_id());
    row("uptime_in_seconds", (now_ms() - stats.began_ms) / 1000);
  }
  if (section(1)) {
    row("connected_clients", stats.clients.load(std::memory_order_relaxed));
    row("maxclients", session.limits.clients);
    row("blocked_clients", 0);
  }
  if (section(2)) {
    const MemStats memory = read_mem_stats();
    row("used_memory", memory.heap_live);
    row("used_memory_rss", memory.heap_in_use);
    row("maxmemory", 0);
  }
  if (section(3)) {
    row("total_connections_received", stats.connections.load(std::memory_order_relaxed));
    row("rejected_connections", stats.rejected.load(std::memory_order_relaxed));
    row("total_commands_processed", stats.commands.load(std::memory_order_relaxed));
  }
  if (section(4)) {
    Store::Locked hold(store, ~std::uint64_t{0});
    if (const std::uint64_t keys = store.size(); keys > 0)
      row("db0", fmt::format("keys={},expires={},avg_ttl=0", keys, store.expiring()));
  }
  reply_bulk(out, text);
}

void config(Session& session, const Arguments& a, Replies& out) {
  if (same_word(a[1], "get")) return a.size() < 3 ? wrong_arguments(out, "config|get") : config_get(session, a, out);
  if (same_word(a[1], "set")) return a.size() < 4 ? wrong_arguments(out, "config|set") : config_set(session, a, out);
  if (same_word(a[1], "resetstat")) {
    if (a.size() != 2) return wrong_arguments(out, "config|resetstat");
    Stats& stats = session.store.stats;
    stats.connections = stats.rejected = stats.commands = 0;
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

void command(Session&, const Arguments& a, Replies& out) {
  const auto all = all_commands();
  if (a.size() == 1 || (a.size() == 2 && same_word(a[1], "info"))) {
    reply_array(out, all.size());
    for (const Command& each : all) command_entry(each, out);
  } else if (same_word(a[1], "count")) {
    if (a.size() != 2) return wrong_arguments(out, "command|count");
    reply_integer(out, static_cast<std::int64_t>(all.size()));
  } else if (same_word(a[1], "info")) {
    reply_array(out, a.size() - 2);
    for (std::size_t i = 2; i < a.size() && !out.full(); ++i) {
      GEARBOX_SAFEPOINT();
      const Command* known = find_command(a[i]);
      known != nullptr ? command_entry(*known, out) : reply_nil(out);
    }
  } else if (same_word(a[1], "docs")) {
    std::size_t count = a.size() == 2 ? all.size() : 0;
    for (std::size_t i = 2; i < a.size(); ++i) {
      GEARBOX_SAFEPOINT();
      count += find_command(a[i]) != nullptr ? 1 : 0;
    }
    reply_array(out, 2 * count);
    if (a.size() == 2)
      for (const Command& each : all) command_docs(each, out);
    for (std::size_t i = 2; i < a.size() && !out.full(); ++i) {
      GEARBOX_SAFEPOINT();
      if (const Command* known = find_command(a[i])) command_docs(*known, out);
    }
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

void select_database(Session&, const Arguments& a, Replies& out) {
  std::int64_t index = 0;
  if (!parse_integer(a[1], index)) return reply_error(out, kNotInteger);
  index == 0 ? reply_simple(out, "OK") : reply_error(out, "ERR DB index is out of range");
}

// Takes as long for a wrong password as for the right one: how much of it was right is nobody's business.
static bool same_password(std::string_view given, std::string_view password) {
  unsigned difference = given.size() == password.size() ? 0 : 1;
  for (std::size_t i = 0; i < password.size(); ++i)
    difference |= static_cast<unsigned char>(password[i]) ^ static_cast<unsigned char>(i < given.size() ? given[i] : 0);
  return difference == 0;
}
void auth(Session& session, const Arguments& a, Replies& out) {
  if (a.size() > 3) return reply_error(out, kSyntax);
  const std::string& password = session.limits.password;
  if (a.size() == 2 && password.empty())
    return reply_error(out,
                       "ERR AUTH <password> called without any password configured for the default user. Are you sure "
                       "your configuration is correct?");
  // Without a password the default user takes any, as in Redis.
  if ((a.size() == 3 && a[1] != "default") || (!password.empty() && !same_password(a.back(), password)))
    return reply_error(out, "WRONGPASS invalid username-password pair or user is disabled.");
  session.authenticated = true;
  reply_simple(out, "OK");
}
void quit(Session&, const Arguments&, Replies& out) { reply_simple(out, "OK"); }

}  // namespace gearbox::workloads::kv
