// Child processes: start one with exactly the environment, folder and descriptors it should have, wait for it with a
// deadline, and end its whole group. Used by the harness, one child at a time per waiting thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace gearbox::os {

struct SpawnRequest {
  std::vector<std::string> arguments;    // [0] is the path of the program; no search on PATH
  std::string program;                   // what to start when that is not arguments[0], such as kOwnProgram
  std::vector<std::string> environment;  // "NAME=value", the whole of it
  std::string folder;                    // working directory; empty: the caller's
  int input = -1, output = -1, errors = -1,
      extra = -1;         // descriptors to become 0, 1, 2 and 3; -1: 0..2 inherited, 3 closed
  bool own_group = true;  // a process group of its own, so that its children can be ended with it
  // SIGINT waits until the program asks for it: for one that has a handler and takes a while to install it.
  bool hold_interrupt = false;
};

// The file this process runs, whatever lies at its path by now: a build may have replaced it.
inline constexpr const char* kOwnProgram = "/proc/self/exe";

// Starts the program; signal mask and dispositions are reset, except that a child in our own group keeps ignoring what
// we ignore (nohup). The caller must reap it with wait_for(). Error: the program cannot be started.
Result<pid_t> spawn(const SpawnRequest& request);

struct Ended {
  int exit_code = 0;  // meaningful when signal == 0
  int signal = 0;
  std::int64_t user_ns = 0, system_ns = 0;
  std::uint64_t max_rss_bytes = 0;  // never less than what the parent had at the start: the kernel hands it on
  std::int64_t minor_faults = 0, major_faults = 0, voluntary_switches = 0, involuntary_switches = 0;
};
// Waits at most timeout_ns for the child to end and reaps it. nullopt: still running, or a signal handler ran here.
std::optional<Ended> wait_for(pid_t child, std::int64_t timeout_ns);

// Sends a signal to the group that `leader` leads. A group that is gone already is no error.
void signal_group(pid_t leader, int signal) noexcept;
// Only the process itself.
void signal_process(pid_t process, int signal) noexcept;

// Raises this process's soft limit of descriptors to its hard limit, as Go's programs do at their start: the soft one
// is kept low for the sake of select(), which nothing here uses. Children inherit it. A refusal changes nothing.
void raise_descriptor_limit() noexcept;

// Makes the kernel kill this process when its parent dies. Returns false when the parent is not `parent` any more: it
// died before we asked. (No id is special: in a container the parent may well be process 1.)
bool die_with_parent(pid_t parent) noexcept;

// Opens those of the descriptors 0, 1 and 2 that are closed, so that no file of ours can take their numbers and then
// what is printed. They are opened the wrong way round (0 for writing, 1 and 2 for reading): their use fails with EBADF,
// here and in children, as it did while they were closed. Call it before anything is opened.
void open_missing_standard_descriptors() noexcept;

// A write to a pipe or socket that nobody reads fails with EPIPE from now on, in place of ending this process. Children
// begin with the default again. Process-wide.
void ignore_broken_pipes() noexcept;

// What ps and perf call this process (its first thread); 15 characters. A program started as kOwnProgram is "exe".
void name_process(const char* name) noexcept;

// Counts SIGINT, SIGTERM and SIGHUP from the first call on, in place of dying from them; with quit_too SIGQUIT as well,
// for a caller that hands it on. Those that this process was started to ignore (nohup, a shell's background job) stay
// ignored. Process-wide.
void count_interrupts(bool quit_too = false);
int interrupts() noexcept;
int last_interrupt() noexcept;  // the signal's number, 0 when none came

// Of the process and of the children it has now, and theirs. Pages that they share count once for each; a grandchild
// whose parent has ended is not found. 0 when it is gone.
std::uint64_t resident_bytes_of_family(pid_t process) noexcept;
std::string own_executable();
bool is_terminal(int fd) noexcept;
int terminal_columns(int fd) noexcept;  // 80 when unknown

}  // namespace gearbox::os
