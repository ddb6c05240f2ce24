#include "base/os/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/os/clock.h"
#include "base/os/file.h"

namespace gearbox::os {
namespace {

std::atomic<int> interrupt_count{0}, interrupt_signal{0};

void on_interrupt(int signal) {
  interrupt_signal.store(signal, std::memory_order_relaxed);
  interrupt_count.fetch_add(1, std::memory_order_relaxed);
}

constexpr int kInterrupts[] = {SIGINT, SIGTERM, SIGHUP};

bool is_ignored(int signal) {
  struct sigaction now {};
  return ::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (const auto& text : texts) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

std::int64_t nanoseconds(const timeval& t) {
  return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::int64_t>(t.tv_usec) * 1000;
}

Ended ended(int status, const rusage& usage) {
  Ended out;
  if (WIFSIGNALED(status)) {
    out.signal = WTERMSIG(status);
  } else {
    out.exit_code = WEXITSTATUS(status);
  }
  out.user_ns = nanoseconds(usage.ru_utime);
  out.system_ns = nanoseconds(usage.ru_stime);
  out.max_rss_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  out.minor_faults = usage.ru_minflt;
  out.major_faults = usage.ru_majflt;
  out.voluntary_switches = usage.ru_nvcsw;
  out.involuntary_switches = usage.ru_nivcsw;
  return out;
}

}  // namespace

Result<pid_t> spawn(const SpawnRequest& request) {
  GEARBOX_REQUIRE(!request.arguments.empty());
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  const int wanted[] = {request.input, request.output, request.errors, request.extra};
  // First out of the way (above 9), then to their places: a descriptor that already is 0..3 must not be overwritten
  // before it is used.
  int moved[4] = {-1, -1, -1, -1};
  int error = 0;
  for (int i = 0; i < 4 && error == 0; ++i) {
    if (wanted[i] < 0) continue;
    moved[i] = ::fcntl(wanted[i], F_DUPFD_CLOEXEC, 10);
    if (moved[i] < 0) error = errno;
    if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, moved[i], i);
  }
  if (error == 0 && !request.folder.empty())
    error = posix_spawn_file_actions_addchdir_np(&actions, request.folder.c_str());
  sigset_t held, all;
  sigemptyset(&held);
  sigfillset(&all);
  if (request.hold_interrupt) sigaddset(&held, SIGINT);
  if (!request.own_group)
    for (int signal : kInterrupts)
      if (is_ignored(signal)) sigdelset(&all, signal);
  posix_spawnattr_setsigmask(&attributes, &held);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                           (request.own_group ? POSIX_SPAWN_SETPGROUP : 0)));
  pid_t child = -1;
  if (error == 0)
    error =
        ::posix_spawn(&child, request.program.empty() ? request.arguments[0].c_str() : request.program.c_str(),
                      &actions, &attributes, pointers(request.arguments).data(), pointers(request.environment).data());
  for (int fd : moved)
    if (fd >= 0) ::close(fd);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return os_error("starting " + request.arguments[0], error);
  return child;
}

std::optional<Ended> wait_for(pid_t child, std::int64_t timeout_ns) {
  int status = 0;
  rusage usage{};
  const auto reap = [&](int flags) { return ::wait4(child, &status, flags, &usage) == child; };
  if (reap(WNOHANG)) return ended(status, usage);
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  if (fd < 0) {  // a kernel or sandbox without pidfds: look every millisecond
    const std::int64_t deadline = monotonic_ns() + timeout_ns;
    while (monotonic_ns() < deadline) {
      sleep_ns(1'000'000);
      if (reap(WNOHANG)) return ended(status, usage);
    }
    return std::nullopt;
  }
  pollfd watched{fd, POLLIN, 0};
  ::poll(&watched, 1, static_cast<int>(timeout_ns / 1'000'000 + 1));
  ::close(fd);
  if (reap(WNOHANG)) return ended(status, usage);
  return std::nullopt;
}

void signal_group(pid_t leader, int signal) noexcept { ::kill(-leader, signal); }
void signal_process(pid_t process, int signal) noexcept { ::kill(process, signal); }

void raise_descriptor_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

bool die_with_parent(pid_t parent) noexcept {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  return ::getppid() == parent;  // asked afterwards: from here on the kernel sees to it
}

void name_process(const char* name) noexcept { ::prctl(PR_SET_NAME, name); }

void open_missing_standard_descriptors() noexcept {
  // The lowest free number is the one that open() takes, and all below are open by then.
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

void ignore_broken_pipes() noexcept { ::signal(SIGPIPE, SIG_IGN); }

void count_interrupts(bool quit_too) {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  for (int signal : kInterrupts)
    if (!is_ignored(signal)) ::sigaction(signal, &action, nullptr);
  if (quit_too && !is_ignored(SIGQUIT)) ::sigaction(SIGQUIT, &action, nullptr);
}
int interrupts() noexcept { return interrupt_count.load(std::memory_order_relaxed); }
int last_interrupt() noexcept { return interrupt_signal.load(std::memory_order_relaxed); }

std::uint64_t resident_bytes_of_family(pid_t process) noexcept {
  const std::string folder = "/proc/" + std::to_string(process);
  auto text = read_file(folder + "/statm");
  unsigned long long total = 0, resident = 0;
  if (!text || std::sscanf(text->c_str(), "%llu %llu", &total, &resident) != 2) return 0;
  std::uint64_t bytes = resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  // Each thread has a list of the children that it started. (A walk over all of /proc for the group's members would
  // find orphans, too, and cost the measured program a few per cent of a CPU.)
  DIR* threads = ::opendir((folder + "/task").c_str());
  if (threads == nullptr) return bytes;
  while (const dirent* thread = ::readdir(threads)) {
    if (thread->d_name[0] == '.') continue;
    auto children = read_file(folder + "/task/" + thread->d_name + "/children");
    if (!children) continue;
    const char* at = children->c_str();
    for (char* end = nullptr;; at = end) {
      const long child = std::strtol(at, &end, 10);
      if (end == at) break;
      bytes += resident_bytes_of_family(static_cast<pid_t>(child));
    }
  }
  ::closedir(threads);
  return bytes;
}

std::string own_executable() {
  char path[4096];
  const ssize_t length = ::readlink(kOwnProgram, path, sizeof(path));
  return length > 0 ? std::string(path, static_cast<std::size_t>(length)) : std::string();
}

bool is_terminal(int fd) noexcept { return ::isatty(fd) == 1; }
int terminal_columns(int fd) noexcept {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace gearbox::os
