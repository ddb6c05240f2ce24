#include "base/os/memory.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/os/file.h"

namespace gearbox::os {
namespace {
constexpr int kMadvGuardInstall = 102;  // linux/mman.h since 6.13; Debian 12's headers are older
}  // namespace

Result<void*> reserve(std::size_t bytes, std::uintptr_t hint, std::size_t alignment) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  if (hint != 0) {
#if defined(__SANITIZE_THREAD__)
    // TSan has shadow for a few ranges of addresses only. A hint outside of them it replaces by null, and dies when the
    // kernel maps at null as asked. To the caller such an address is taken.
    return Error{fmt::format("mmap {} bytes at {:#x}: not with the thread sanitizer", bytes, hint), EEXIST};
#else
    void* at = ::mmap(reinterpret_cast<void*>(hint), bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE, -1, 0);
    if (at == MAP_FAILED) return os_error(fmt::format("mmap {} bytes at {:#x}", bytes, hint), errno);
    return at;
#endif
  }
  const std::size_t slack = alignment > kPageBytes ? alignment : 0;
  void* raw = ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (raw == MAP_FAILED) return os_error(fmt::format("mmap {} bytes", bytes + slack), errno);
  const auto start = reinterpret_cast<std::uintptr_t>(raw);
  const std::uintptr_t aligned = (start + alignment - 1) / alignment * alignment;
  if (aligned > start) ::munmap(raw, aligned - start);
  const std::uintptr_t end = start + bytes + slack;
  if (end > aligned + bytes) ::munmap(reinterpret_cast<void*>(aligned + bytes), end - (aligned + bytes));
  return reinterpret_cast<void*>(aligned);
}

void release(void* base, std::size_t bytes) noexcept { ::munmap(base, bytes); }

int install_guard(void* base, std::size_t bytes, GuardKind kind) noexcept {
  const int r =
      kind == GuardKind::kGuardInstall ? ::madvise(base, bytes, kMadvGuardInstall) : ::mprotect(base, bytes, PROT_NONE);
  return r == 0 ? 0 : errno;
}

int install_guards(void* const* bases, std::size_t count, std::size_t bytes) noexcept {
  // process_madvise on oneself takes a vector of ranges, but what it allows differs between kernels: any refusal, and
  // any short count, is finished one by one.
  constexpr std::size_t kBatch = 64;
  static constexpr int kPidfdSelf = -10000;  // PIDFD_SELF, Linux 6.14
  std::size_t done = 0;
  while (done < count) {
    const std::size_t n = std::min(kBatch, count - done);
    iovec ranges[kBatch];
    for (std::size_t i = 0; i < n; ++i) ranges[i] = {bases[done + i], bytes};
    const long advised = ::syscall(SYS_process_madvise, kPidfdSelf, ranges, n, kMadvGuardInstall, 0);
    std::size_t whole = advised > 0 ? static_cast<std::size_t>(advised) / bytes : 0;
    for (; whole < n; ++whole)
      if (int e = install_guard(bases[done + whole], bytes, GuardKind::kGuardInstall); e != 0) return e;
    done += n;
  }
  return 0;
}

GuardKind best_guard() noexcept {
  void* scratch = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (scratch == MAP_FAILED) return GuardKind::kMprotect;
  const int error = install_guard(scratch, kPageBytes, GuardKind::kGuardInstall);
  ::munmap(scratch, kPageBytes);
  return error == 0 ? GuardKind::kGuardInstall : GuardKind::kMprotect;
}

void discard(void* base, std::size_t bytes) noexcept { ::madvise(base, bytes, MADV_DONTNEED); }

bool huge_pages_off() noexcept { return ::prctl(PR_GET_THP_DISABLE, 0L, 0L, 0L, 0L) == 1; }
void set_huge_pages_off(bool off) noexcept { ::prctl(PR_SET_THP_DISABLE, off ? 1L : 0L, 0L, 0L, 0L); }

std::uint64_t resident_bytes() noexcept {
  auto text = read_file("/proc/self/statm");
  if (!text) return 0;
  const char* second = std::strchr(text->c_str(), ' ');
  return second != nullptr ? std::strtoull(second, nullptr, 10) * kPageBytes : 0;
}

std::uint64_t peak_resident_bytes() noexcept {
  auto text = read_file("/proc/self/status");
  if (!text) return 0;
  const std::size_t at = text->find("VmHWM:");
  return at == std::string::npos ? 0 : std::strtoull(text->c_str() + at + 6, nullptr, 10) * 1024;
}

}  // namespace gearbox::os
