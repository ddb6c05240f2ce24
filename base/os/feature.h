// What the kernel or the container lets this process do, found by trying it.
#pragma once

#include "base/result.h"

namespace gearbox::os {

// Sets a ring up and takes it down again. Error: the kernel refuses; the sentence names the call and the errno.
Status try_io_uring();

}  // namespace gearbox::os
