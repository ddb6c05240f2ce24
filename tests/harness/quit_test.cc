// SIGQUIT to a cell of the command line: the process that the workload runs in says where it stands.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace gearbox::testing {
namespace {

using ::testing::ContainsRegex;

#if !defined(__SANITIZE_THREAD__)  // which holds SIGQUIT back while the thread that gets it waits in the kernel

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Quit, TheCellOfARunPrintsItsGoroutines) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::string binary = std::string(GEARBOX_BINARY_DIR) + "/gearbox-bin";
  const pid_t runner = ::fork();
  if (runner == 0) {
    ::dup2(ends[1], 1);
    ::dup2(ends[1], 2);
    ::close(ends[0]);
    ::close(ends[1]);
    ::execl(binary.c_str(), binary.c_str(), "run", "sieve", "--set", "primes=20000", "--procs", "2", nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  // The cell boots: until the first thread for goroutines is there, SIGQUIT has its default action.
  pid_t cell = 0;
  for (int i = 0; i < 30'000 && cell == 0; ++i) {
    ::usleep(1000);
    std::istringstream children(text_of(fmt::format("/proc/{0}/task/{0}/children", runner)));
    pid_t child = 0;
    if (!(children >> child)) continue;
    std::error_code gone;
    for (const auto& thread : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", child), gone))
      if (text_of(thread.path().string() + "/comm") == "gearbox-m\n") cell = child;
  }
  ASSERT_NE(cell, 0) << "no cell was started, or it was over too soon";
  ::kill(cell, SIGQUIT);
  std::string text;
  char room[4096];
  for (ssize_t n = 0; (n = ::read(ends[0], room, sizeof(room))) > 0;) text.append(room, static_cast<std::size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(runner, &status, 0);
  EXPECT_THAT(text, ContainsRegex("SIGQUIT: quit\nPC=0x[0-9a-f]+ m="));
  EXPECT_THAT(text, ContainsRegex("goroutine [0-9]+ \\[[a-z ]+\\]:\n"));
  EXPECT_THAT(text, ContainsRegex("gearbox::Runtime::goroutine_main\\(\\)\n\t[^\n]*runtime/sched\\.cc:"));
  EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << text;
}

#endif

}  // namespace
}  // namespace gearbox::testing
