#include "base/check.h"

#include <cstdlib>
#include <cstring>

#include "base/last_words.h"
#include "base/os/file.h"

namespace gearbox {
void die(const char* kind, const char* file, int line, const char* what, const char* message) noexcept {
  claim_last_words();
  char text[2 * detail::kMessageBytes];
  auto out = fmt::format_to_n(text, sizeof(text), "gearbox: {}: {}:{}: {}{}{}\n", kind, file, line, what,
                              *what != '\0' && *message != '\0' ? ": " : "", message);
  os::write_all(2, text, out.size < sizeof(text) ? out.size : sizeof(text));
  std::abort();
}

}  // namespace gearbox
