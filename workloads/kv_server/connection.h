// One connection of the server: what it reads, what waits to be sent, and the limits of both.
//
// Two goroutines. The reader takes requests apart, carries them out and hands the replies over in batches; the writer
// sends. So a client that sends without reading does not stand still: its replies pile up here, as they do in Redis,
// up to a limit. Past a limit the connection is closed and a line says so.
#pragma once

#include <atomic>
#include <cstdint>

#include "runtime/api.h"
#include "workloads/kv_server/commands.h"
#include "workloads/kv_server/limits.h"

namespace gearbox::workloads::kv {

// When bytes last came from the client or were taken by it: now_ns().
using LastSeen = std::atomic<std::int64_t>;

// Serves one connection until its end, and returns when everything has been sent or cannot be. On a goroutine; starts
// another. Closes the connection only when a limit is met.
void serve(Store& store, const net::Conn& conn, const Limits& limits, Pool& pool, LastSeen& seen);

}  // namespace gearbox::workloads::kv
