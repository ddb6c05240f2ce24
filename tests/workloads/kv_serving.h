// A server of kv_server's kind inside the test, and how to ask it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "tests/pollers/poller_harness.h"
#include "workloads/kv_server/server.h"

namespace gearbox::workloads::kv {

class Serving {
 public:
  explicit Serving(Limits limits = {}) {
    auto listener = net::listen("127.0.0.1:0");
    EXPECT_TRUE(listener);
    address_ = listener->address();
    server_ = std::make_unique<Server>(*listener, std::move(limits));
    server_->start();
  }
  ~Serving() {
    server_->stop();
    EXPECT_EQ(server_->failure(), "");
  }
  net::Conn connect() const {
    auto conn = net::dial(address_);
    EXPECT_TRUE(conn) << conn.error().message;
    return *conn;
  }
  Server& server() { return *server_; }

 private:
  std::string address_;
  std::unique_ptr<Server> server_;
};

// The next whole reply; "" when the connection has ended.
inline std::string next_reply(const net::Conn& conn, std::string& input) {
  for (;;) {
    if (const std::size_t length = reply_length(input); length > 0) {
      std::string reply = input.substr(0, length);
      input.erase(0, length);
      return reply;
    }
    char bytes[4096];
    const auto got = conn.read(bytes);
    if (got.bytes == 0) return "";
    input.append(bytes, got.bytes);
  }
}
inline std::string ask(const net::Conn& conn, std::initializer_list<std::string_view> request) {
  std::string input;
  conn.write(encode(request));
  return next_reply(conn, input);
}

}  // namespace gearbox::workloads::kv
