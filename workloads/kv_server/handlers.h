// What every command of the server is: a function of the session and the arguments that appends its reply. The number of
// arguments has been checked against the table in commands.cc. On a goroutine; may wait for locks of the store.
//
// A request may have a million arguments, each of them long: every loop over arguments or data has a safepoint, and ends
// when the replies are full.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "workloads/kv_server/replies.h"
#include "workloads/kv_server/resp.h"
#include "workloads/kv_server/store.h"

namespace gearbox::workloads::kv {

using Arguments = std::vector<std::string_view>;  // [0] is the command's name, as the client wrote it
// One client's, for the time of its connection.
struct Session {
  Store& store;
  const Limits& limits;
  bool authenticated = limits.password.empty();
};
using Handler = void(Session& session, const Arguments& a, Replies& out);

inline constexpr std::string_view kNotInteger = "ERR value is not an integer or out of range";
inline constexpr std::string_view kSyntax = "ERR syntax error";
// `name`: as the client wrote it, or "config|get".
void wrong_arguments(Replies& out, std::string_view name);

// data_commands.cc
Handler get, set, incr, decr, incrby, mset, mget, del, exists, lpush, rpush, lpop, rpop, llen, lrange;
// server_commands.cc
Handler ping, echo, dbsize, flushall, info, config, command, select_database, auth, quit;

}  // namespace gearbox::workloads::kv
