#include "base/os/thread.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace gearbox::os {

Result<pthread_t> start_thread(void* (*entry)(void*), void* argument, std::size_t stack_bytes, const char* name) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  const std::size_t page = 4096;
  if (int e = pthread_attr_setstacksize(&attributes, (stack_bytes + page - 1) / page * page); e != 0) {
    pthread_attr_destroy(&attributes);
    return os_error("pthread_attr_setstacksize", e);
  }
  pthread_t thread{};
  const int error = pthread_create(&thread, &attributes, entry, argument);
  pthread_attr_destroy(&attributes);
  if (error != 0) return os_error("pthread_create", error);
  pthread_setname_np(thread, name);
  return thread;
}

void join_thread(pthread_t thread) noexcept { pthread_join(thread, nullptr); }
void yield_thread() noexcept { ::sched_yield(); }
int thread_id() noexcept { return static_cast<int>(::syscall(SYS_gettid)); }
int process_id() noexcept { return ::getpid(); }
bool signal_thread(int thread_id, int signal) noexcept {
  return ::syscall(SYS_tgkill, ::getpid(), thread_id, signal) == 0;
}

int online_cpus() noexcept {
  // The kernel refuses a set smaller than its own (EINVAL), and some machines have more CPUs than cpu_set_t has bits.
  for (int bits = CPU_SETSIZE; bits <= 64 * CPU_SETSIZE; bits *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(bits));
    if (set == nullptr) return 1;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(bits));
    const int error = ::sched_getaffinity(0, bytes, set) == 0 ? 0 : errno;
    const int n = error == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (n > 0) return n;
    if (error != EINVAL) return 1;
  }
  return 1;
}

void thread_stack_bounds(std::uintptr_t& lo, std::uintptr_t& hi) noexcept {
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* address = nullptr;
  std::size_t bytes = 0;
  pthread_attr_getstack(&attributes, &address, &bytes);
  pthread_attr_destroy(&attributes);
  lo = reinterpret_cast<std::uintptr_t>(address);
  hi = lo + bytes;
}

}  // namespace gearbox::os
