// Whose code an address is: the program's own, a room's of this tree below it, or a library's. By the source files that
// the debug information names.
#pragma once

#include "runtime/symbols.h"

namespace gearbox {

enum class Owner { kProgram, kRoom, kLibrary };
// kLibrary for a place without a file. Async-signal-safe as far as find_places() is.
Owner owner_of(const Place& place) noexcept;

}  // namespace gearbox
