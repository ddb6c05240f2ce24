#include "runtime/guard.h"

#include <csetjmp>

namespace gearbox {
namespace {
// Of the calling thread; f does not park, so that the thread stays the same.
thread_local constinit sigjmp_buf* way_out = nullptr;
}  // namespace

[[gnu::noinline]] bool guarded(void (*f)(void*), void* context) noexcept {
  sigjmp_buf here;
  sigjmp_buf* volatile outer = way_out;
  if (sigsetjmp(here, 1) != 0) {
    way_out = outer;
    return false;
  }
  way_out = &here;
  f(context);
  way_out = outer;
  return true;
}

void leave_guarded_call() noexcept {
  if (way_out != nullptr) siglongjmp(*way_out, 1);
}

}  // namespace gearbox
