#include "harness/output.h"

#include "base/os/file.h"
#include "base/os/process.h"
#include "harness/command_line.h"

namespace gearbox::harness {
namespace {

constexpr std::size_t kPiece = 16 * 1024;

class Stream {
 public:
  enum class AfterFailure { kGoOn, kGiveUp };
  Stream(int fd, const char* name, std::size_t collects, AfterFailure then)
      : fd_(fd), name_(name), collects_(collects), then_(then) {}

  void write(std::string_view text) {
    pending_ += text;
    if (pending_.size() >= collects_) flush();
  }
  void flush() {
    if (pending_.empty()) return;
    if (error_ == 0 || then_ == AfterFailure::kGoOn) {
      const int error = os::write_all(fd_, pending_.data(), pending_.size());
      if (error_ == 0) error_ = error;
    }
    pending_.clear();
  }
  std::optional<Error> failure() const {
    if (error_ == 0) return std::nullopt;
    return os_error(std::string(name_) + " could not be written", error_);
  }

 private:
  const int fd_;
  const char* const name_;
  const std::size_t collects_;  // bytes
  const AfterFailure then_;
  std::string pending_;
  int error_ = 0;  // errno of the first write that failed
};

Stream& standard_output() {
  constexpr int kOutput = 1;
  // A result with a hole in its middle is worse than one that ends early.
  static Stream stream(kOutput, "standard output", os::is_terminal(kOutput) ? 0 : kPiece,
                       Stream::AfterFailure::kGiveUp);
  return stream;
}
Stream& standard_error() {
  constexpr int kErrors = 2;
  // The later lines of a conversation are worth having without the earlier ones.
  static Stream stream(kErrors, "standard error", 0, Stream::AfterFailure::kGoOn);
  return stream;
}

}  // namespace

void write_out(std::string_view text) { standard_output().write(text); }
void write_err(std::string_view text) {
  standard_output().flush();
  standard_error().write(text);
}
void flush_output() { standard_output().flush(); }
std::optional<Error> lost_errors() { return standard_error().failure(); }

int exit_code_of(int code) {
  flush_output();
  const auto lost = standard_output().failure();
  if (!lost) return code;
  print_err("gearbox: {}; what it should have shown is incomplete\n", lost->message);
  return code == kExitOk ? kExitFailed : code;
}

}  // namespace gearbox::harness
