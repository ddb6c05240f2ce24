// The server: a listener, a reader and a writer goroutine for each connection, and one that ends idle connections.
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
  explicit Server(net::Listener bound, Limits limits = {})
      : listener_(std::move(bound)), limits_(std::move(limits)), pool_(limits_.memory_bytes) {}
  // Once. On a goroutine.
  void start();
  // No more connections; those that are open are closed, whoever is at the other end and whatever it waits for.
  // Returns when every goroutine of the server has ended. Once, after start(); on a goroutine.
  void stop();
  // Why the accepter ended before stop(); empty: it has not. After stop().
  const std::string& failure() const noexcept { return failure_; }
  Store& store() noexcept { return store_; }
  // What requests and replies take now.
  std::size_t client_memory_bytes() const noexcept { return pool_.used(); }

  // Whether accept may succeed later without anybody doing anything about it here.
  static bool passes(int error_number) noexcept;

 private:
  struct Open {
    net::Conn conn;
    LastSeen seen{now_ns()};
  };
  void accept_all();
  bool add(const net::Conn& conn);  // false: the server has stopped, and the connection is closed
  void end_idle();

  const net::Listener listener_;
  const Limits limits_;
  Pool pool_;
  Store store_;
  GoMutex lock_;          // guards the two below
  std::list<Open> open_;  // a connection takes itself out when it ends
  bool stopped_ = false;
  const Chan<bool> ended_ = make_chan<bool>();  // closed by stop()
  std::string failure_;                         // the accepter's until it ends
  WaitGroup done_;
};

}  // namespace gearbox::workloads::kv
