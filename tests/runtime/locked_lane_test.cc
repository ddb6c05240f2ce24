// A goroutine that is locked to its thread may block it: no other goroutine's I/O waits for that (S6).
#include <unistd.h>

#include "runtime/api.h"
#include "tests/pollers/poller_harness.h"

namespace gearbox {
namespace {

TEST(LockedLane, OperationsBegunBeforeTheLockGoOn) {
  for (const char* poller : {"io_uring", "epoll"}) {
    testing::run_on(
        {poller, {}},
        [] {
          auto ends = net::pipe();
          ASSERT_TRUE(ends);
          int signal[2];
          ASSERT_EQ(::pipe(signal), 0);
          WaitGroup done;
          done.add(1);
          go([&] {
            char byte[1];
            EXPECT_EQ(ends->second.read(byte).bytes, 1u);  // begun on the only M's lane, before the lock
            EXPECT_EQ(::write(signal[1], byte, 1), 1);
            done.done();
          });
          gosched();
          lock_os_thread();
          ends->first.write("x");
          const int mine = os::thread_id();
          // Blocks the thread until the reader has been served.
          const ssize_t got = blocking([fd = signal[0]] {
            char byte[1];
            return ::read(fd, byte, 1);
          });
          EXPECT_EQ(got, 1);
          EXPECT_EQ(os::thread_id(), mine);
          unlock_os_thread();
          done.wait();
          ::close(signal[0]);
          ::close(signal[1]);
        },
        1);
  }
}

TEST(LockedLane, ManyLockAndUnlockWhileOthersRead) {
  testing::run_on({"io_uring", {}}, [] {
    WaitGroup done;
    for (int i = 0; i < 8; ++i) {
      auto ends = net::pipe();
      ASSERT_TRUE(ends);
      done.add(2);
      go([&done, conn = ends->second, i] {
        char byte[1];
        for (int n = 0; n < 20; ++n) {
          EXPECT_EQ(conn.read(byte).bytes, 1u);
          if (n % 5 == i % 5) {
            lock_os_thread();
            const int mine = os::thread_id();
            gosched();
            blocking([] { ::usleep(100); });
            EXPECT_EQ(os::thread_id(), mine);
            unlock_os_thread();
          }
        }
        done.done();
      });
      go([&done, conn = ends->first] {
        for (int n = 0; n < 20; ++n) {
          EXPECT_TRUE(conn.write("x").ok());
          gosched();
        }
        done.done();
      });
    }
    done.wait();
  });
}

}  // namespace
}  // namespace gearbox
