// One connection used by several goroutines: whose bytes go together, and who waits for whom.
#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/api.h"
#include "tests/pollers/poller_harness.h"

namespace gearbox {
namespace {

class NetShared : public ::testing::TestWithParam<testing::PollerCase> {
 protected:
  void run(std::function<void()> main) { testing::run_on(GetParam(), std::move(main)); }
};
INSTANTIATE_TEST_SUITE_P(AllPollers, NetShared, ::testing::ValuesIn(testing::all_cases()),
                         [](const auto& info) { return info.param.name(); });

struct Ends {
  net::Conn client, server;
};
Ends connect() {
  auto listener = net::listen("127.0.0.1:0");
  EXPECT_TRUE(listener);
  auto client = net::dial(listener->address());
  EXPECT_TRUE(client);
  auto server = listener->accept();
  EXPECT_TRUE(server);
  listener->close();
  return {*client, *server};
}

// Writes until nothing more goes, that is: parks. Ends when the write fails, with why.
net::Failure write_until_it_fails(const net::Conn& conn) {
  const std::string much(1 << 20, 'x');
  net::Transfer put;
  do {
    put = conn.write(much);
  } while (put.ok());
  return put.error;
}

TEST_P(NetShared, WritesOfSeveralGoroutinesDoNotMix) {
  run([] {
    const Ends ends = connect();
    constexpr int kWriters = 3, kFrames = 4;
    constexpr std::size_t kBytes = 1 << 20;  // far more than a socket's buffer: every write is done in parts
    WaitGroup done;
    for (int w = 0; w < kWriters; ++w) {
      done.add(1);
      go([&, w] {
        const std::string frame(kBytes, static_cast<char>('a' + w));
        for (int i = 0; i < kFrames; ++i) EXPECT_TRUE(ends.client.write(frame).ok());
        done.done();
      });
    }
    std::string frame(kBytes, 0);
    for (int i = 0; i < kWriters * kFrames; ++i) {
      ASSERT_EQ(ends.server.read_full(frame).bytes, kBytes);
      ASSERT_EQ(frame.find_first_not_of(frame[0]), std::string::npos) << "frame " << i << " has bytes of two writers";
    }
    done.wait();
    ends.client.close();
    ends.server.close();
  });
}

TEST_P(NetShared, HalfCloseDoesNotWaitForAWriterThatWaits) {
  run([] {
    const Ends ends = connect();
    WaitGroup done;
    done.add(1);
    std::atomic<int> why{0};
    go([&] {
      why = write_until_it_fails(ends.server).number();
      done.done();
    });
    sleep(10 * kMillisecond);  // parked by now; if not, it finds the connection half closed
    EXPECT_FALSE(ends.server.close_write());
    done.wait();
    EXPECT_EQ(why.load(), EPIPE);
    ends.client.write("still open");
    char buffer[10];
    EXPECT_EQ(ends.server.read_full(buffer).bytes, sizeof(buffer));
    ends.server.close();
    ends.client.close();
  });
}

TEST_P(NetShared, LingerIsSetBesideAWriterThatWaits) {
  run([] {
    const Ends ends = connect();
    WaitGroup done;
    done.add(1);
    go([&] {
      EXPECT_TRUE(write_until_it_fails(ends.server).closed());
      done.done();
    });
    sleep(10 * kMillisecond);
    EXPECT_FALSE(ends.server.set_linger_zero());
    EXPECT_FALSE(ends.server.close());
    done.wait();
    ends.client.close();
  });
}

// A writer whose peer takes everything at once never parks: close() ends it all the same.
TEST_P(NetShared, CloseEndsAWriteInTheMiddle) {
  run([] {
    const Ends ends = connect();
    WaitGroup done;
    done.add(2);
    go([&] {
      const std::string much(64 << 20, 'x');
      for (;;) {
        const auto put = ends.client.write(much);
        if (put.ok()) continue;
        EXPECT_TRUE(put.error.closed()) << put.error.text();
        break;
      }
      done.done();
    });
    go([&] {
      std::vector<char> sink(1 << 20);
      while (ends.server.read(sink).bytes > 0) {
      }
      done.done();
    });
    sleep(5 * kMillisecond);
    ends.client.close();
    done.wait();
    ends.server.close();
  });
}

}  // namespace
}  // namespace gearbox
