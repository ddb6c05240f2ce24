// SIGINT and SIGTERM as something to read: for programs that serve until they are told to stop.
#pragma once

#include "base/result.h"

namespace gearbox::os {

// An eventfd that becomes readable at the first SIGINT or SIGTERM from here on. Process-wide, once; the descriptor is
// the caller's.
Result<int> interrupt_eventfd();

}  // namespace gearbox::os
