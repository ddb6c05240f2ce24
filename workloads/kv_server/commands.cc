#include "workloads/kv_server/commands.h"

#include <algorithm>
#include <cctype>

namespace gearbox::workloads::kv {
namespace {

// The most frequent first: a request is looked up from the top.
constexpr Command kCommands[] = {
    {"get", 2, get, "readonly fast", 1, 1, 1, "@read @string @fast", "string", "1.0.0", "Get the value of a key"},
    {"set", -3, set, "write denyoom", 1, 1, 1, "@write @string @slow", "string", "1.0.0",
     "Set the string value of a key"},
    {"incr", 2, incr, "write denyoom fast", 1, 1, 1, "@write @string @fast", "string", "1.0.0",
     "Increment the integer value of a key by one"},
    {"lpush", -3, lpush, "write denyoom fast", 1, 1, 1, "@write @list @fast", "list", "1.0.0",
     "Prepend one or multiple elements to a list"},
    {"mset", -3, mset, "write denyoom", 1, -1, 2, "@write @string @slow", "string", "1.0.1",
     "Set multiple keys to multiple values"},
    {"mget", -2, mget, "readonly fast", 1, -1, 1, "@read @string @fast", "string", "1.0.0",
     "Get the values of all the given keys"},
    {"ping", -1, ping, "fast", 0, 0, 0, "@fast @connection", "connection", "1.0.0", "Ping the server"},
    {"echo", 2, echo, "loading stale fast", 0, 0, 0, "@fast @connection", "connection", "1.0.0",
     "Echo the given string"},
    {"del", -2, del, "write", 1, -1, 1, "@keyspace @write @slow", "generic", "1.0.0", "Delete a key"},
    {"exists", -2, exists, "readonly fast", 1, -1, 1, "@keyspace @read @fast", "generic", "1.0.0",
     "Determine if a key exists"},
    {"decr", 2, decr, "write denyoom fast", 1, 1, 1, "@write @string @fast", "string", "1.0.0",
     "Decrement the integer value of a key by one"},
    {"incrby", 3, incrby, "write denyoom fast", 1, 1, 1, "@write @string @fast", "string", "1.0.0",
     "Increment the integer value of a key by the given amount"},
    {"rpush", -3, rpush, "write denyoom fast", 1, 1, 1, "@write @list @fast", "list", "1.0.0",
     "Append one or multiple elements to a list"},
    {"lpop", -2, lpop, "write fast", 1, 1, 1, "@write @list @fast", "list", "1.0.0",
     "Remove and get the first elements in a list"},
    {"rpop", -2, rpop, "write fast", 1, 1, 1, "@write @list @fast", "list", "1.0.0",
     "Remove and get the last elements in a list"},
    {"llen", 2, llen, "readonly fast", 1, 1, 1, "@read @list @fast", "list", "1.0.0", "Get the length of a list"},
    {"lrange", 4, lrange, "readonly", 1, 1, 1, "@read @list @slow", "list", "1.0.0",
     "Get a range of elements from a list"},
    {"dbsize", 1, dbsize, "readonly fast", 0, 0, 0, "@keyspace @read @fast", "server", "1.0.0",
     "Return the number of keys in the selected database"},
    {"flushall", -1, flushall, "write", 0, 0, 0, "@keyspace @write @slow @dangerous", "server", "1.0.0",
     "Remove all keys from all databases"},
    {"info", -1, info, "loading stale", 0, 0, 0, "@slow @dangerous", "server", "1.0.0",
     "Get information and statistics about the server"},
    {"config", -2, config, "", 0, 0, 0, "@slow", "server", "2.0.0", "A container for server configuration commands"},
    {"command", -1, command, "loading stale", 0, 0, 0, "@slow @connection", "server", "2.8.13",
     "Get array of Redis command details"},
    {"select", 2, select_database, "loading stale fast", 0, 0, 0, "@fast @connection", "connection", "1.0.0",
     "Change the selected database for the current connection"},
    {"auth", -2, auth, "noscript loading stale fast no_auth allow_busy", 0, 0, 0, "@fast @connection", "connection",
     "1.0.0", "Authenticate to the server"},
    {"quit", -1, quit, "noscript loading stale fast no_auth allow_busy", 0, 0, 0, "@fast @connection", "connection",
     "1.0.0", "Close the connection"},
};

void unknown(const Arguments& a, Replies& out) {
  std::string rest;
  for (std::size_t i = 1; i < a.size() && rest.size() < 128; ++i)
    rest += fmt::format("'{}' ", a[i].substr(0, 128 - rest.size()));
  reply_error(out, fmt::format("ERR unknown command '{}', with args beginning with: {}", a[0].substr(0, 128), rest));
}

}  // namespace

std::span<const Command> all_commands() { return kCommands; }
const Command* find_command(std::string_view name) {
  for (const Command& known : kCommands)
    if (same_word(name, known.name)) return &known;
  return nullptr;
}

void wrong_arguments(Replies& out, std::string_view name) {
  std::string lower(name.substr(0, 128));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  reply_error(out, fmt::format("ERR wrong number of arguments for '{}' command", lower));
}

bool execute(Session& session, const Request& request, Replies& out) {
  const Arguments& a = request.arguments;
  const Command* known = find_command(a[0]);
  if (known == nullptr) {
    unknown(a, out);
    return true;
  }
  const auto count = static_cast<int>(a.size());
  if (known->arity >= 0 ? count != known->arity : count < -known->arity)
    wrong_arguments(out, known->name);
  else if (!session.authenticated && known->run != auth && known->run != quit)
    reply_error(out, "NOAUTH Authentication required.");
  else
    known->run(session, a, out);
  return known->run != quit;
}

}  // namespace gearbox::workloads::kv
