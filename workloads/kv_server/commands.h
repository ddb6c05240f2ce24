// The commands of the server: their table, and carrying out a request.
#pragma once

#include <span>
#include <string>

#include "workloads/kv_server/handlers.h"

namespace gearbox::workloads::kv {

// A row of the table, which COMMAND shows to clients: names, numbers and words are Redis 7.0's.
struct Command {
  std::string_view name;
  int arity;  // with the name; negative: at least so many
  Handler* run;
  std::string_view flags;  // separated by blanks
  int first_key, last_key, key_step;
  std::string_view categories;  // separated by blanks
  std::string_view group, since, summary;
};
std::span<const Command> all_commands();
const Command* find_command(std::string_view name);  // null: there is none. Letters of either case

// Carries out a request and appends its reply. False: the connection ends after the reply (QUIT). On a goroutine.
bool execute(Session& session, const Request& request, Replies& out);

}  // namespace gearbox::workloads::kv
