// The commands of the server.
#pragma once

#include <string>

#include "workloads/kv_server/resp.h"
#include "workloads/kv_server/store.h"

namespace gearbox::workloads::kv {

// Carries out a request and appends its reply. False: the connection ends after the reply (QUIT). On a goroutine.
bool execute(Store& store, const Request& request, std::string& out);

// Serves one connection until its end; one goroutine. Replies to everything that one read brought go out in one write.
void serve(Store& store, const net::Conn& conn);

}  // namespace gearbox::workloads::kv
