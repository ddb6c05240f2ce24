#include "harness/progress.h"

#include <fmt/format.h>
#include <cmath>

#include <algorithm>

#include "base/os/clock.h"
#include "base/os/process.h"
#include "harness/output.h"

namespace gearbox::harness {
namespace {
constexpr std::int64_t kLineEvery_ns = 10'000'000'000;
constexpr int kErrors = 2;
}  // namespace

std::string duration_text(double seconds) {
  const auto s = static_cast<std::uint64_t>(std::llround(std::max(0.0, seconds)));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}

Progress::Progress(std::uint64_t total, std::uint64_t already_done, bool quiet)
    : total_(total),
      at_start_(already_done),
      done_(already_done),
      terminal_(os::is_terminal(kErrors)),
      quiet_(quiet),
      started_(os::monotonic_ns()),
      last_line_(started_) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (!drawn_) return;
  print_err("\r\x1b[K");
  drawn_ = false;
}

void Progress::show(const std::string& now_running) {
  if (quiet_) return;
  if (terminal_) return draw(now_running);
  const std::int64_t now = os::monotonic_ns();
  if (now - last_line_ < kLineEvery_ns) return;
  last_line_ = now;
  draw(now_running);
}

void Progress::draw(const std::string& now_running) {
  const double spent = static_cast<double>(os::monotonic_ns() - started_) * 1e-9;
  const std::uint64_t here = done_ - at_start_;
  const std::string left =
      here == 0 ? "time left unknown yet"
                : duration_text(spent / static_cast<double>(here) * static_cast<double>(total_ - done_)) + " left";
  const std::string bad = failed_ == 0 ? "" : fmt::format(", {} not ok", failed_);
  if (!terminal_) {
    print_err("{}/{} cells{}, {}\n", done_, total_, bad, left);
    return;
  }
  const int columns = os::terminal_columns(kErrors);
  constexpr std::uint64_t kWidth = 24;
  const std::uint64_t filled = total_ == 0 ? kWidth : done_ * kWidth / total_;
  std::string line = fmt::format("[{}{}] {}/{}{}, {}  {}", std::string(filled, '#'), std::string(kWidth - filled, '.'),
                                 done_, total_, bad, left, now_running);
  if (static_cast<int>(line.size()) >= columns) line.resize(static_cast<std::size_t>(std::max(columns - 1, 1)));
  print_err("\r\x1b[K{}", line);
  drawn_ = true;
}

void Progress::one_done(bool failed) {
  ++done_;
  if (failed) ++failed_;
}

void Progress::note(const std::string& line) {
  if (quiet_) return;
  clear();
  print_err("{}\n", line);
}

}  // namespace gearbox::harness
