// echo at the ends of its parameters, and without descriptors.
#include <sys/resource.h>

#include "tests/workloads/workload.h"

namespace gearbox {
namespace {

using testing::failures_of;
using testing::run_workload;

void limit_descriptors(rlim_t most) {
  rlimit limit{most, most};
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

TEST(Echo, ABatchThatNoSocketHoldsIsEchoed) {
  for (const char* poller : {"epoll", "io_uring"})
    EXPECT_EQ(failures_of(
                  run_workload("echo", {poller, {}},
                               {{"connections", 2}, {"message_bytes", 1 << 20}, {"pipeline", 64}, {"requests", 128}})),
              "");
}

TEST(Echo, BatchesAroundTheBoundAreEchoed) {
  for (const std::uint64_t bytes : {1u, 32 * 1024u, 32 * 1024u + 1, 200'000u})
    EXPECT_EQ(failures_of(run_workload("echo", {"epoll", {}},
                                       {{"connections", 4}, {"message_bytes", bytes}, {"requests", 64}})),
              "");
}

// Whichever side runs out first: the check fails and says why, and nobody waits for ever.
TEST(Echo, OutOfDescriptorsIsAFailedCheckWithAReason) {
  for (const char* poller : {"epoll", "io_uring"})
    for (const std::uint64_t connections : {27u, 28u, 29u, 30u, 31u, 32u, 40u, 100u})
      EXPECT_EXIT(
          {
            limit_descriptors(64);
            const std::string failed = failures_of(
                run_workload("echo", {poller, {}}, {{"connections", connections}, {"requests", 10 * connections}}));
            if (failed.empty() && connections < 32) ::_exit(0);  // they were enough
            fmt::print(stderr, "{}\n", failed);
            ::_exit(failed.find("too many open files") != std::string::npos ? 0 : 1);
          },
          ::testing::ExitedWithCode(0), "")
          << poller << ' ' << connections;
}

}  // namespace
}  // namespace gearbox
