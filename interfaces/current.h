// The current G, M and P of the calling thread.
//
// A goroutine moves between threads, and a compiler may keep the address of a thread_local in a register across the
// move (a well-known trap of stackful coroutines). So each is read by one volatile asm that loads relative to %fs;
// neither the address nor the M or P may be kept across anything that can park. All are null on threads that are no Ms;
// g is null while an M runs on its own stack.
#pragma once

#include <cstddef>

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
inline void set_current_p(P* p) noexcept {
  asm volatile("movq %0, %%fs:gearbox_current@tpoff+16" : : "r"(p) : "memory");
}

}  // namespace gearbox
