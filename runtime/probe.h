// Probe: a real-time signal with which the runtime asks one of its own threads to do something at once: to run a function
// on its signal stack, or to say where it is. (In a debugger: `handle SIG61 nostop noprint`.)
#pragma once

#include <cstdint>

#include "runtime/frames.h"

namespace gearbox {

struct Goroutine;
struct Machine;
struct Processor;

// Installs the handler; idempotent.
void arm_probe();
// Runs f(context) on the calling thread's signal stack, where there is room for what a goroutine's stack may be too small
// for; where it is, if it is on that stack already or has none. f must not park. Async-signal-safe.
void on_signal_stack(void (*f)(void* context), void* context) noexcept;

// Where a thread was when it was asked.
struct Whereabouts {
  int thread_id = 0;
  const Machine* m = nullptr;
  const Goroutine* g = nullptr;
  const Processor* p = nullptr;
  Interrupted where;
};
// Asks threads where they are, and keeps the answers of those that give one in time: a thread that blocks signals does not,
// and under TSan none does that is in a loop. Async-signal-safe.
class Survey {
 public:
  // All threads of the process but the calling one. Those that have answered go no further, for good.
  Survey() noexcept;
  // These; not the calling one. They go on. A signal may cut short what a thread waits for in the kernel, so threads that
  // are not the runtime's must not be among them.
  Survey(const int* thread_ids, std::size_t count) noexcept;
  ~Survey();
  Survey(const Survey&) = delete;
  Survey& operator=(const Survey&) = delete;

  std::size_t count() const noexcept { return count_; }
  // null: no answer.
  const Whereabouts* answer(std::size_t i) const noexcept;

 private:
  struct Question;
  bool prepare() noexcept;
  void ask(int thread_id, bool freeze) noexcept;
  void wait() noexcept;
  Question* questions_ = nullptr;
  std::size_t count_ = 0;
  bool all_answered_ = true;
};

}  // namespace gearbox
