// The switch: leave one stack, arrive on another.
//
// Symmetric and inline: the assembly saves the stack pointer, the frame pointer and a resume address, and leaves by
// `jmp`; a `ret` across stacks would be mispredicted by the return-stack buffer every time. All callee-saved registers
// are declared clobbered, so the compiler spills exactly what is live before it; that is also what makes [sp - 128,
// top) a complete set of conservative roots. Caller-saved registers, vectors among them, are dead here: switches happen
// only inside functions that are called as functions. x87 and MXCSR control words are per thread and are not switched:
// a goroutine that changes rounding must change it back before it parks.
//
// Sanitizers see stacks only if told: switch_stacks() wraps the assembly with the fiber annotations of ASan and TSan.
// They must stand right at the switch, in the same function, which is why they are here and inline.
#pragma once

#include <cstddef>
#include <cstdint>

#include "interfaces/goroutine.h"

#if defined(__SANITIZE_ADDRESS__)
#define GEARBOX_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#else
#define GEARBOX_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__)
#define GEARBOX_TSAN 1
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
}
#else
#define GEARBOX_TSAN 0
#endif

namespace gearbox {

[[gnu::always_inline]] inline void switch_context(Context* from, Context* to) noexcept {
  asm volatile(
      "leaq 1f(%%rip), %%rax\n\t"
      "movq %%rsp, 0(%[from])\n\t"
      "movq %%rax, 8(%[from])\n\t"
      "movq %%rbp, 16(%[from])\n\t"
      "movq 16(%[to]), %%rbp\n\t"
      "movq 0(%[to]), %%rsp\n\t"
      "jmpq *8(%[to])\n\t"
      "1:\n\t"
      : [from] "+D"(from), [to] "+S"(to)
      :
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

// Spills everything live and records where: for a goroutine that stays on its stack but must be scannable from outside
// (a blocking system call). Inline, so that the recorded frame outlives the call it guards.
[[gnu::always_inline]] inline void save_context(Context* into) noexcept {
  asm volatile(
      "leaq 1f(%%rip), %%rax\n\t"
      "movq %%rsp, 0(%[into])\n\t"
      "movq %%rax, 8(%[into])\n\t"
      "movq %%rbp, 16(%[into])\n\t"
      "1:\n\t"
      : [into] "+D"(into)
      :
      : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

// What the sanitizers need to know of one stack.
struct StackIdentity {
  void* tsan_fiber = nullptr;
  std::uint32_t tsan_deaths = 0;  // of goroutines that had the fiber
  const void* asan_bottom = nullptr;
  std::size_t asan_bytes = 0;
  void* asan_fake_stack = nullptr;
};

// `from_dies`: the stack that is left will not be resumed as it is (ASan frees its fake frames).
[[gnu::always_inline]] inline void switch_stacks(Context* from, Context* to,
                                                 [[maybe_unused]] StackIdentity* from_identity,
                                                 [[maybe_unused]] StackIdentity* to_identity,
                                                 [[maybe_unused]] bool from_dies) noexcept {
#if GEARBOX_ASAN
  __sanitizer_start_switch_fiber(from_dies ? nullptr : &from_identity->asan_fake_stack, to_identity->asan_bottom,
                                 to_identity->asan_bytes);
#endif
#if GEARBOX_TSAN
  __tsan_switch_to_fiber(to_identity->tsan_fiber, 0);
#endif
  switch_context(from, to);
#if GEARBOX_ASAN
  __sanitizer_finish_switch_fiber(from_identity->asan_fake_stack, nullptr, nullptr);
#endif
}

// First thing on a fresh stack.
inline void arrive_on_fresh_stack() noexcept {
#if GEARBOX_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace gearbox
