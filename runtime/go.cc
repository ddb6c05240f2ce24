#include "runtime/go.h"

#include "base/os/thread.h"
#include "runtime/frames.h"
#include "runtime/symbols.h"

namespace gearbox {

void Runtime::spawn_system(std::function<void()> body, const char*) { detail::spawn(*this, std::move(body), true); }

std::uint64_t num_goroutine() {
  safepoint_if_on_p();  // `while (num_goroutine() > 1) {}`
  return current_runtime().goroutine_count();
}
int gomaxprocs(std::int64_t n) {
  safepoint();
  if (n > static_cast<std::int64_t>(kMaxPs))
    runtime_panic(fmt::format("GOMAXPROCS({}): from 1 to {} (less than 1 asks)", n, kMaxPs));
  return static_cast<int>(current_runtime().set_procs(n < 1 ? 0 : static_cast<PId>(n)));
}
int num_cpu() {
  safepoint_if_on_p();
  return os::online_cpus();
}

void lock_os_thread() {
  safepoint();
  current_runtime().lock_to_thread();
}
void unlock_os_thread() {
  const Inside inside;
  safepoint();
  current_goroutine()->locked_m = nullptr;
  current_machine()->locked_g = nullptr;
}

std::string stack() {
  safepoint_if_on_p();
  std::vector<void*> trace;
  capture_trace(trace, 1);
  return fmt::format("goroutine {} [running]:\n", current_g()->id) + describe_trace(trace);
}

}  // namespace gearbox
