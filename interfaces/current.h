// The current G, M and P of the calling thread.
//
// A goroutine moves between threads, and a compiler may keep the address of a thread_local in a register across the
// move (a well-known trap of stackful coroutines). So each is read by one volatile asm that loads relative to %fs;
// neither the address nor the M or P may be kept across anything that can park. All are null on threads that are no Ms;
// g is null while an M runs on its own stack.
//
// Inside the runtime. A goroutine may be interrupted by a signal at any instruction of the program, and is stopped or
// preempted there (runtime/preempt.h); but not between two steps of the runtime, which may hold a lock or the address of
// a P. So every operation of the language surface that touches a P, a lock or a list of the runtime raises a count for
// its duration: Inside. The count is the thread's, and travels with the goroutine like errno: an operation that parks
// ends on whatever thread its goroutine runs on then. Code of the program that the runtime calls from inside (a
// finalizer, say) runs Outside.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gearbox {
struct G;
struct M;
struct P;
}  // namespace gearbox

extern "C" {
struct GearboxCurrent {
  gearbox::G* g;
  gearbox::M* m;
  gearbox::P* p;
  std::uint32_t inside;
};
extern __thread GearboxCurrent gearbox_current __attribute__((tls_model("local-exec")));
}

namespace gearbox {

inline G* current_g() noexcept {
  G* g;
  asm volatile("movq %%fs:gearbox_current@tpoff, %0" : "=r"(g));
  return g;
}
inline M* current_m() noexcept {
  M* m;
  asm volatile("movq %%fs:gearbox_current@tpoff+8, %0" : "=r"(m));
  return m;
}
inline P* current_p() noexcept {
  P* p;
  asm volatile("movq %%fs:gearbox_current@tpoff+16, %0" : "=r"(p));
  return p;
}
inline void set_current_g(G* g) noexcept { asm volatile("movq %0, %%fs:gearbox_current@tpoff" : : "r"(g) : "memory"); }
inline void set_current_m(M* m) noexcept {
  asm volatile("movq %0, %%fs:gearbox_current@tpoff+8" : : "r"(m) : "memory");
}
inline std::uint32_t current_inside() noexcept {
  std::uint32_t count;
  asm volatile("movl %%fs:gearbox_current@tpoff+24, %0" : "=r"(count));
  return count;
}
inline void set_current_inside(std::uint32_t count) noexcept {
  asm volatile("movl %0, %%fs:gearbox_current@tpoff+24" : : "r"(count) : "memory");
}
// HOT: one instruction each way.
class [[nodiscard]] Inside {
 public:
  [[gnu::always_inline]] Inside() noexcept { asm volatile("incl %%fs:gearbox_current@tpoff+24" : : : "memory", "cc"); }
  [[gnu::always_inline]] ~Inside() { asm volatile("decl %%fs:gearbox_current@tpoff+24" : : : "memory", "cc"); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
};
class [[nodiscard]] Outside {
 public:
  Outside() noexcept : was_(current_inside()) { set_current_inside(0); }
  ~Outside() { set_current_inside(was_); }
  Outside(const Outside&) = delete;
  Outside& operator=(const Outside&) = delete;

 private:
  const std::uint32_t was_;
};
inline void set_current_p(P* p) noexcept {
  asm volatile("movq %0, %%fs:gearbox_current@tpoff+16" : : "r"(p) : "memory");
}

}  // namespace gearbox
