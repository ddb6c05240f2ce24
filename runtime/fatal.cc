#include "runtime/fatal.h"

#include <unistd.h>

#include <cstdio>

#include "base/last_words.h"
#include "base/os/thread.h"
#include "runtime/frames.h"
#include "runtime/runtime.h"
#include "runtime/symbols.h"

namespace gearbox {

void flush_standard_output() {
  // Another thread may be writing, and will be done soon; or it waits for what the calling thread holds.
  constexpr int kTries = 200;
  for (int i = 0; i < kTries; ++i) {
    if (::ftrylockfile(stdout) == 0) {
      ::fflush_unlocked(stdout);
      ::funlockfile(stdout);
      return;
    }
    ::usleep(1000);
  }
}

void exit_process(int code) {
  flush_standard_output();
  ::_exit(code);
}

void say_indented(std::string_view message) {
  for (std::size_t at = message.find('\n'); at != std::string_view::npos; at = message.find('\n')) {
    say(message.substr(0, at + 1));
    say("\t");
    message.remove_prefix(at + 1);
  }
  say(message);
}

void say_who(const char* what) {
  if (const G* g = current_g())
    say("goroutine {} [{}]:\n", g->id, what);
  else if (current_m() != nullptr)
    say("runtime stack of thread {}:\n", os::thread_id());
  else
    say("thread {}, which runs no goroutine:\n", os::thread_id());
}

void limit_report() {
  constexpr unsigned kPatienceSeconds = 30;  // debug information is read once, from a disk that may be slow
  limit_last_words(kPatienceSeconds);
}

void fatal_error(std::string_view message) {
  const bool first = claim_last_words();
  say("fatal error: ");
  say_indented(message);
  say("\n\n");
  if (!first) ::_exit(2);
  limit_report();
  FrameList frames;
  capture_unwound(frames, 1);
  say_who();
  print_trace(frames.addresses, frames.count);
  exit_process(2);
}

}  // namespace gearbox
