#include "interfaces/current.h"

#include "interfaces/collector.h"
#include "interfaces/heap.h"
#include "interfaces/object.h"

extern "C" {
__thread GearboxCurrent gearbox_current __attribute__((tls_model("local-exec"))) = {nullptr, nullptr, nullptr, 0};
}

namespace gearbox {

void write_barrier_full(P& p) noexcept { p.collector->flush_write_buffer(p); }

#if defined(GEARBOX_CHECKED)
void check_ref_place(const void* slot) noexcept {
  const P* p = current_p();
  GEARBOX_REQUIRE(p != nullptr, "a Ref at {} is changed by a thread without a P", slot);
  if (p->heap == nullptr) return;  // a test's world without a heap
  GEARBOX_REQUIRE(p->heap->contains(reinterpret_cast<std::uintptr_t>(slot)),
                  "a Ref at {} is not inside a heap object; use Root<T> there, or a plain pointer on a stack", slot);
}

void check_ref_constructed(const void* slot) noexcept {
  const G* g = current_g();
  if (g == nullptr || g->making == nullptr) return;
  const auto* type = static_cast<const TypeDesc*>(g->making_type);
  const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(slot) - reinterpret_cast<std::uintptr_t>(g->making);
  if (offset >= type->bytes) return;  // another object's, or a temporary on the stack that is never stored to
  for (std::uint32_t i = 0; i < type->ref_count; ++i)
    if (type->ref_offsets[i] == offset) return;
  GEARBOX_PANIC("{}: there is a Ref at offset {} that GEARBOX_REFS does not name", type->name, offset);
}
#endif

}  // namespace gearbox
