// The fixture of the poller contract: a real poller without the runtime, and a stream with one end in the test's hand.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "base/os/socket.h"
#include "interfaces/poller.h"
#include "tests/pollers/poller_harness.h"
#include "tests/pollers/ready_world.h"

namespace gearbox::testing {

class PollerContract : public ::testing::TestWithParam<PollerCase> {
 protected:
  void SetUp() override {
    const PollerEntry entry = poller_named(GetParam().poller);
    auto made = entry.make(world_, *options_of(entry, GetParam()));
    ASSERT_TRUE(made) << made.error().message;
    poller_ = std::move(*made);
    ASSERT_TRUE(poller_->bind(0));
  }
  Poller& poller() { return *poller_; }

  // A stream with one end registered and the other in the test's hand.
  struct Stream {
    Conn* conn = nullptr;
    int peer = -1;
  };
  Stream stream() {
    int fds[2];
    EXPECT_EQ(os::socket_pair(fds), 0);
    auto conn = poller().open(fds[0]);
    EXPECT_TRUE(conn);
    return {*conn, fds[1]};
  }
  void end(const Stream& s) {
    poller().close(s.conn, 0);
    ::close(s.peer);
  }
  // What the net layer does, with polling in place of parking.
  std::int64_t finish(Op& op, Step step, G& g) {
    while (step == Step::kPark) {
      if (op.park_as(&g)) wait_for(g);
      step = poller().finish(op, 0);
    }
    return op.result;
  }
  // Polls until g comes out, of the poller or of the world.
  void wait_for(G& g) {
    for (;;) {
      GList ready;
      poller().poll(0, 1'000'000, 128, ready);
      bool found = false;
      while (G* out = ready.pop_front()) found |= out == &g;
      for (G* out : world_.take()) found |= out == &g;
      if (found) return;
    }
  }

  testing::Watchdog watchdog_{60};
  ReadyWorld world_;
  std::unique_ptr<Poller> poller_;
};

}  // namespace gearbox::testing
