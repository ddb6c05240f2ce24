#include "base/os/disk.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "base/os/file.h"

namespace gearbox::os {
namespace {

Result<Descriptor> open_file(const std::string& path, int flags) {
  for (;;) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
    if (fd >= 0) return Descriptor(fd);
    if (errno != EINTR) return os_error("opening " + path, errno);
  }
}

// A new name is on the disk only when its folder is. Returns 0 or the errno.
int sync_folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = ::fsync(fd) == 0 ? 0 : errno;
  if (error == EINVAL) error = 0;  // a file system that has no such thing
  ::close(fd);
  return error;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.fd_;
    other.fd_ = -1;
  }
  return *this;
}
Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Result<Descriptor> open_for_reading(const std::string& path) { return open_file(path, O_RDONLY); }
Result<Descriptor> create_file(const std::string& path) { return open_file(path, O_RDWR | O_CREAT | O_TRUNC); }
Result<Descriptor> open_for_appending(const std::string& path) {
  return open_file(path, O_WRONLY | O_CREAT | O_APPEND);
}

Status append_line(const Descriptor& file, std::string_view line, const std::string& path) {
  const std::uint64_t before = size_of(file);
  std::string text(line);
  text += '\n';
  int error = write_all(file.fd(), text.data(), text.size());
  if (error == 0 && ::fsync(file.fd()) != 0) error = errno;
  if (error == 0) return Ok{};
  Error out = os_error("writing " + path, error);
  if (::ftruncate(file.fd(), static_cast<off_t>(before)) != 0)
    out.message += "; the half-written line could not be removed";
  return out;
}

Status replace_file(const std::string& path, std::string_view text) {
  const std::string temporary = path + ".new";
  auto file = create_file(temporary);
  if (!file) return file.error();
  int error = write_all(file->fd(), text.data(), text.size());
  if (error == 0 && ::fsync(file->fd()) != 0) error = errno;
  if (error == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) error = sync_folder_of(path);
  if (error == 0) return Ok{};
  ::unlink(temporary.c_str());
  return os_error("writing " + path, error);
}

Status truncate_file(const std::string& path, std::uint64_t bytes) {
  if (::truncate(path.c_str(), static_cast<off_t>(bytes)) != 0) return os_error("truncating " + path, errno);
  return Ok{};
}

std::uint64_t size_of(const Descriptor& file) noexcept {
  struct stat facts {};
  return ::fstat(file.fd(), &facts) == 0 ? static_cast<std::uint64_t>(facts.st_size) : 0;
}

std::string read_part(const Descriptor& file, std::uint64_t offset, std::size_t limit) {
  constexpr std::size_t kLeastPiece = 4096;  // the kernel's own files say that their size is 0
  std::string out;
  std::size_t have = 0;
  while (have < limit) {
    // The memory of what is there, not of the limit: after a large buffer was touched and freed, the caches are empty.
    const std::uint64_t size = size_of(file), at = offset + have;
    const std::size_t there = size > at ? static_cast<std::size_t>(size - at) : 0;
    const std::size_t piece = std::min(limit - have, std::max(there, kLeastPiece));
    out.resize(have + piece);
    const ssize_t n = ::pread(file.fd(), out.data() + have, piece, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    have += static_cast<std::size_t>(n);
  }
  out.resize(have);
  return out;
}

Status is_in_place(const Descriptor& file, const std::string& path, std::uint64_t bytes) {
  struct stat open_one {
  }, named{};
  if (::fstat(file.fd(), &open_one) != 0) return os_error("looking at " + path, errno);
  if (::stat(path.c_str(), &named) != 0)
    return os_error(path + " was taken away while it was written; looking at it", errno);
  if (open_one.st_dev != named.st_dev || open_one.st_ino != named.st_ino)
    return Error{path + " was replaced by another file while it was written"};
  const auto size = static_cast<std::uint64_t>(open_one.st_size);
  if (size != bytes)
    return Error{
        fmt::format("{} has {} bytes, and {} were written: another program has changed it", path, size, bytes)};
  return Ok{};
}

Result<Descriptor> lock_file(const std::string& path) {
  auto file = open_file(path, O_RDWR | O_CREAT);
  if (!file) return file.error();
  if (::flock(file->fd(), LOCK_EX | LOCK_NB) != 0) return os_error("locking " + path, errno);
  return file;
}

Result<std::string> make_temporary_folder(const std::string& prefix) {
  const char* base = std::getenv("TMPDIR");
  std::string path =
      (base != nullptr && *base != '\0' ? std::string(base) : std::string("/tmp")) + "/" + prefix + "XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return os_error("making the folder " + path, errno);
  return path;
}

Status replace_link(const std::string& target, const std::string& path) {
  // A name of its own for each call: two processes that replace the same link at once would take each other's away.
  static std::atomic<std::uint64_t> calls{0};
  const std::string temporary = path + "." + std::to_string(::getpid()) + "." +
                                std::to_string(calls.fetch_add(1, std::memory_order_relaxed)) + ".new";
  ::unlink(temporary.c_str());  // left by an earlier process with our id
  if (::symlink(target.c_str(), temporary.c_str()) != 0) return os_error("making the link " + temporary, errno);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return os_error("renaming the link " + path, error);
  }
  if (int error = sync_folder_of(path); error != 0) return os_error("syncing the folder of " + path, error);
  return Ok{};
}

}  // namespace gearbox::os
