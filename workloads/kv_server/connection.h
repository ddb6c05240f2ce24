// One connection of the server: what it reads, what waits to be sent, and the limits of both.
//
// Two goroutines. The reader takes requests apart, carries them out and hands the replies over in batches; the writer
// sends. So a client that sends without reading does not stand still: its replies pile up here, as they do in Redis,
// up to a limit. Past a limit the connection is closed and a line says so.
#pragma once

#include <atomic>
#include <cstddef>

#include "runtime/api.h"
#include "workloads/kv_server/commands.h"

namespace gearbox::workloads::kv {

struct Limits {
  // Of one request that is not complete: Redis's client-query-buffer-limit.
  std::size_t query_bytes = std::size_t{1} << 30;
  // Of replies not sent yet. Redis has none for normal clients by default; here a client must not take the machine's
  // memory.
  std::size_t output_bytes = std::size_t{256} << 20;
};

// Serves one connection until its end, and returns when everything has been sent or cannot be. On a goroutine; starts
// another. Closes nothing.
void serve(Store& store, const net::Conn& conn, const Limits& limits = {});

}  // namespace gearbox::workloads::kv
