#include "runtime/go.h"

#include "base/os/thread.h"

namespace gearbox {

void Runtime::spawn_system(std::function<void()> body, const char*) { detail::spawn(*this, std::move(body), true); }

std::uint64_t num_goroutine() { return current_runtime().goroutine_count(); }
int gomaxprocs(int n) {
  if (n < 0 || n > static_cast<int>(kMaxPs))
    runtime_panic(fmt::format("GOMAXPROCS({}): from 1 to {} (0 asks)", n, kMaxPs));
  return static_cast<int>(current_runtime().set_procs(static_cast<PId>(n)));
}
int num_cpu() { return os::online_cpus(); }

void lock_os_thread() { current_runtime().lock_to_thread(); }
void unlock_os_thread() {
  const Inside inside;
  current_goroutine()->locked_m = nullptr;
  current_machine()->locked_g = nullptr;
}

std::string stack() {
  std::vector<void*> trace;
  capture_trace(trace, 1);
  return fmt::format("goroutine {} [running]:\n", current_g()->id) + describe_trace(trace);
}

}  // namespace gearbox
