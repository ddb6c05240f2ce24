// Files and descriptors: the few calls the project makes, with EINTR handled. Any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace gearbox::os {

// Writes everything, retrying on EINTR and short writes, and waiting for room in a descriptor that is non-blocking.
// Returns 0 or the errno. Async-signal-safe.
int write_all(int fd, const char* data, std::size_t bytes) noexcept;

// The whole file as text. For small files (/proc, configuration).
Result<std::string> read_file(const std::string& path);

}  // namespace gearbox::os
