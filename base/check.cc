#include "base/check.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "base/os/file.h"

namespace gearbox {
namespace {
std::atomic<DieHook> die_hook{nullptr};
}  // namespace

void set_die_hook(DieHook hook) noexcept { die_hook.store(hook, std::memory_order_release); }

void die(const char* kind, const char* file, int line, const char* what, const char* message) noexcept {
  char text[2 * detail::kMessageBytes];
  auto out = fmt::format_to_n(text, sizeof(text), "gearbox: {}: {}:{}: {}{}{}\n", kind, file, line, what,
                              *what != '\0' && *message != '\0' ? ": " : "", message);
  os::write_all(2, text, out.size < sizeof(text) ? out.size : sizeof(text));
  // Taken out before it runs: a hook that dies itself must not run again.
  if (DieHook hook = die_hook.exchange(nullptr, std::memory_order_acq_rel)) hook();
  std::abort();
}

}  // namespace gearbox
