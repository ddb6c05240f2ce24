// Memory from the kernel: reserve, guard, give back. Addresses and sizes are multiples of the 4 KiB page. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace gearbox::os {

inline constexpr std::size_t kPageBytes = 4096;

// A private anonymous read-write mapping that is not counted against the commit limit; pages appear zeroed when
// touched. hint 0: the kernel chooses. Otherwise exactly there, or EEXIST. alignment: power of two, at least a page.
Result<void*> reserve(std::size_t bytes, std::uintptr_t hint, std::size_t alignment);
void release(void* base, std::size_t bytes) noexcept;  // munmap

enum class GuardKind : std::uint8_t { kGuardInstall, kMprotect };
// Makes [base, base+bytes) trap. kGuardInstall: MADV_GUARD_INSTALL (Linux 6.13), no mapping is split. Returns 0 or the
// errno.
int install_guard(void* base, std::size_t bytes, GuardKind kind) noexcept;
// The same kGuardInstall for many ranges of equal size in one call where the kernel allows it. Returns 0 or the errno.
int install_guards(void* const* bases, std::size_t count, std::size_t bytes) noexcept;
// What this kernel can do, found by trying once on a scratch mapping.
GuardKind best_guard() noexcept;

// Gives the pages back to the kernel; they read as zero when touched again (MADV_DONTNEED).
void discard(void* base, std::size_t bytes) noexcept;
// Whether transparent huge pages are switched off for this process, whatever the system's setting; and the switch.
bool huge_pages_off() noexcept;
void set_huge_pages_off(bool off) noexcept;
std::uint64_t resident_bytes() noexcept;  // of this process, now
// Of this program, ever. Not getrusage: the kernel carries its ru_maxrss over from the process that started this one.
std::uint64_t peak_resident_bytes() noexcept;

}  // namespace gearbox::os
