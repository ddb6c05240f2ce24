// Pollers and descriptors: what happens at the limit, and that none is left open.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>

#include <atomic>
#include <vector>

#include "runtime/api.h"
#include "tests/pollers/poller_harness.h"
#include "tests/pollers/ready_world.h"

namespace gearbox {
namespace {

int open_descriptors() {
  int count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

// Takes every descriptor the process may still have.
std::vector<int> fill_up() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 128;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  std::vector<int> fillers;
  for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) fillers.push_back(fd);
  return fillers;
}

// A lane of io_uring needs two descriptors. Without them there is one thread less, and not the end of the process.
TEST(PollerDescriptors, AnMWithoutALaneIsAThreadRefused) {
  EXPECT_EXIT(
      {
        testing::Watchdog watchdog;
        RuntimeOptions options;
        options.procs = 8;
        options.heap_mib = 64;
        std::atomic<int> ran{0};
        std::vector<int> fillers;
        auto stats = run_program(options, testing::gears_with({"io_uring", {}}), [&] {
          fillers = fill_up();
          for (int round = 0; round < 500; ++round) {  // far more wakes than there are numbers of Ms, were they used up
            WaitGroup done;
            for (int i = 0; i < 16; ++i) {
              done.add(1);
              go([&] {
                gosched();
                ++ran;
                done.done();
              });
            }
            done.wait();
            if (round % 100 == 0) sleep(kMillisecond);
          }
          // And when there are some again, so are threads and connections.
          for (const int fd : fillers) ::close(fd);
          auto ends = net::pipe();
          if (!ends) ::_exit(11);
          WaitGroup done;
          done.add(1);
          go([&, conn = ends->first] {
            conn.write("x");
            done.done();
          });
          char byte[1];
          if (ends->second.read(byte).bytes != 1) ::_exit(12);
          done.wait();
        });
        if (!stats || ran.load() != 500 * 16) ::_exit(13);
        std::uint64_t refused = 0;
        for (const auto& counter : stats->counters)
          if (counter.name == "runtime.threads_refused") refused = counter.value;
        ::_exit(refused > 0 ? 0 : 14);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST(PollerDescriptors, TheFirstLaneRefusedIsAnErrorAtBoot) {
  EXPECT_EXIT(
      {
        RuntimeOptions options;
        options.heap_mib = 64;
        const GearSet gears = testing::gears_with({"io_uring", {}});
        auto fillers = fill_up();
        // Enough for what boot opens in passing, and for a ring; not for a ring and its eventfd.
        ::close(fillers.back());
        auto stats = run_program(options, gears, [] { ::_exit(21); });
        if (stats) ::_exit(22);
        fmt::print(stderr, "{}\n", stats.error().message);
        ::_exit(stats.error().error_number == EMFILE ? 0 : 23);
      },
      ::testing::ExitedWithCode(0), "EMFILE");
}

TEST(PollerDescriptors, ARefusedLaneCanBePreparedLater) {
  EXPECT_EXIT(
      {
        testing::ReadyWorld world;
        const PollerEntry entry = testing::poller_named("io_uring");
        auto poller = entry.make(world, *entry.make_options());
        if (!poller || !(*poller)->bind(0)) ::_exit(31);
        auto fillers = fill_up();
        auto refused = (*poller)->prepare(1);
        if (refused || refused.error().error_number != EMFILE) ::_exit(32);
        for (const int fd : fillers) ::close(fd);
        if (!(*poller)->prepare(1) || !(*poller)->prepare(1) || !(*poller)->bind(1)) ::_exit(33);
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

// What net makes for listen and dial is real, whatever the poller does with it.
TEST(PollerDescriptors, EveryPollerClosesWhatItWasGiven) {
  for (const auto& entry : all_pollers()) {
    const int before = open_descriptors();
    testing::run_on({std::string(entry.name), {}}, [] {
      auto warm = net::pipe();
      ASSERT_TRUE(warm);
      const int at_first = open_descriptors();
      for (int i = 0; i < 50; ++i) {
        auto listener = net::listen("127.0.0.1:0");
        ASSERT_TRUE(listener);
        auto client = net::dial(listener->address());
        ASSERT_TRUE(client) << client.error().message;
        auto server = listener->accept();
        ASSERT_TRUE(server);
        server->close();
        client->close();
        listener->close();
      }
      EXPECT_LE(open_descriptors(), at_first + 8);  // lanes of threads that came meanwhile
    });
    EXPECT_EQ(open_descriptors(), before) << entry.name;  // the two ends left open are closed with the poller
  }
}

}  // namespace
}  // namespace gearbox
