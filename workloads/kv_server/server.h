// The server: a listener, and a reader and a writer goroutine for each connection.
//
// The accepter outlives what passes: without a descriptor, memory or a watch left, it waits and tries again, longer
// each time; the connection waits in the kernel's queue, or was refused and its client sees it closed. Anything else
// ends it, with a line on standard error and in failure().
#pragma once

#include <list>
#include <string>

#include "workloads/kv_server/connection.h"

namespace gearbox::workloads::kv {

class Server {
 public:
  explicit Server(net::Listener bound, Limits limits = {}) : listener_(std::move(bound)), limits_(limits) {}
  // Once. On a goroutine.
  void start();
  // No more connections; those that are open are closed, whoever is at the other end and whatever it waits for.
  // Returns when every goroutine of the server has ended. Once, after start(); on a goroutine.
  void stop();
  // Why the accepter ended before stop(); empty: it has not. After stop().
  const std::string& failure() const noexcept { return failure_; }
  Store& store() noexcept { return store_; }

  // Whether accept may succeed later without anybody doing anything about it here.
  static bool passes(int error_number) noexcept;

 private:
  void accept_all();

  const net::Listener listener_;
  const Limits limits_;
  Store store_;
  GoMutex lock_;               // guards the two below
  std::list<net::Conn> open_;  // a connection takes itself out when it ends
  bool stopped_ = false;
  std::string failure_;  // the accepter's until it ends
  WaitGroup done_;
};

}  // namespace gearbox::workloads::kv
