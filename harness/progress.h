// Progress: a bar with the time left on a terminal, a plain line every ten seconds elsewhere. Writes to standard error,
// so that standard output stays clean for results. One thread.
#pragma once

#include <cstdint>
#include <string>

namespace gearbox::harness {

class Progress {
 public:
  Progress(std::uint64_t total, std::uint64_t already_done, bool quiet);
  ~Progress();                                // takes the bar off the screen
  void show(const std::string& now_running);  // before a cell
  void one_done(bool failed);
  // Prints a line of its own above the bar.
  void note(const std::string& line);

 private:
  void draw(const std::string& now_running);
  void clear();
  const std::uint64_t total_, at_start_;
  std::uint64_t done_, failed_ = 0;
  const bool terminal_, quiet_;
  const std::int64_t started_;
  std::int64_t last_line_;
  bool drawn_ = false;
};

std::string duration_text(double seconds);  // "42 s", "3 min 05 s", "2 h 10 min"

}  // namespace gearbox::harness
