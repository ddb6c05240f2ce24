#include "collectors/concurrent/checkmark.h"

#include <string>

#include "base/check.h"
#include "base/sanitize.h"
#include "collectors/concurrent/marker.h"

namespace gearbox::collectors::concurrent_parts {

void Checkmark::run(World& world) {
  struct Context {
    Checkmark* self;
    bool exact;
  } context{this, false};
  auto look = [](void* c, const std::uintptr_t* first, std::size_t count) {
    auto* context = static_cast<Context*>(c);
    struct Words {
      GEARBOX_NO_SANITIZE("address", "thread") static std::uintptr_t read(const std::uintptr_t* at) {
        return *static_cast<const volatile std::uintptr_t*>(at);
      }
    };
    for (std::size_t i = 0; i < count; ++i) context->self->found(Words::read(first + i), 0, context->exact);
  };
  for (std::size_t slot = 0; slot < world.g_slots(); ++slot) {
    G* g = world.g_at(slot);
    if (g != nullptr && g->status.load(std::memory_order_acquire) != GStatus::kDead)
      world.visit_stack(g, look, &context);
  }
  for (std::size_t job = 0; job < world.root_jobs(); ++job) {
    context.exact = world.root_job_is_exact(job);
    world.visit_roots(job, look, &context);
  }
  while (!work_.empty()) {
    const Object object = work_.back();
    work_.pop_back();
    for_each_slot(object, [&](auto* slot) {
      found(slot->load(std::memory_order_acquire), object.cell, true);
    });  // partner: Ref::store()
  }
}

void Checkmark::found(std::uintptr_t word, std::uintptr_t parent, bool exact) {
  const Object object = find_object(heap_, word);
  if (!object) return;
  if (!object.marked()) {
    if (exact) report(object, parent);
    return;
  }
  if (parents_.emplace(object.cell, parent).second) work_.push_back(object);
}

void Checkmark::report(const Object& object, std::uintptr_t parent) const {
  std::string path;
  for (std::uintptr_t at = parent; at != 0 && path.size() < 600;) {
    const Object o = find_object(heap_, at);
    path = fmt::format("{:#x} ({}) -> {}", at, o.type != nullptr ? o.type->name : "no references", path);
    auto up = parents_.find(at);
    at = up != parents_.end() ? up->second : 0;
  }
  GEARBOX_PANIC("checkmark: reachable and not marked: object {:#x} of {} bytes ({}); path: root -> {}{:#x}",
                object.cell, object.payload_bytes, object.type != nullptr ? object.type->name : "no references", path,
                object.cell);
}

}  // namespace gearbox::collectors::concurrent_parts
