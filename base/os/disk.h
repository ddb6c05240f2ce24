// Files that must survive a crash: whole-line appends, atomic replacement, locks, folders of one's own. One owner per
// object; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace gearbox::os {

// An open descriptor, closed with the object.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int fd() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

Result<Descriptor> open_for_reading(const std::string& path);
Result<Descriptor> create_file(const std::string& path);         // emptied when it exists; read and write
Result<Descriptor> open_for_appending(const std::string& path);  // created when missing

// Appends the line and a newline and waits until the disk has them. When the disk is full or breaks midway, the file is
// cut back to what it was, so that no half line stays. The Error carries the errno.
Status append_line(const Descriptor& file, std::string_view line, const std::string& path);

// Replaces the file by `text`: readers see the old or the new, whatever happens. On the disk when it returns.
Status replace_file(const std::string& path, std::string_view text);

// Cuts the file to `bytes`.
Status truncate_file(const std::string& path, std::uint64_t bytes);

std::uint64_t size_of(const Descriptor& file) noexcept;
// What the file has from `offset` on, at most `limit` bytes. Takes the memory of what is there, whatever the limit.
std::string read_part(const Descriptor& file, std::uint64_t offset, std::size_t limit);

// Error: the open file is not the one at `path` any more, or has another size than `bytes`: another program has removed,
// replaced or changed it.
Status is_in_place(const Descriptor& file, const std::string& path, std::uint64_t bytes);

// Takes an advisory lock that lives as long as the Descriptor (and dies with the process). error_number is EWOULDBLOCK
// when another holds it.
Result<Descriptor> lock_file(const std::string& path);

// A new empty folder below the system's folder for temporary files.
Result<std::string> make_temporary_folder(const std::string& prefix);

// Replaces the symbolic link `path` by one to `target`, in one step.
Status replace_link(const std::string& target, const std::string& path);

}  // namespace gearbox::os
