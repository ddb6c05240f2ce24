#include "interfaces/current.h"

#include "interfaces/collector.h"
#include "interfaces/object.h"

extern "C" {
__thread GearboxCurrent gearbox_current __attribute__((tls_model("local-exec"))) = {nullptr, nullptr, nullptr};
}

namespace gearbox {

void write_barrier_full(P& p) noexcept { p.collector->flush_write_buffer(p); }

}  // namespace gearbox
