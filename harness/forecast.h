// Forecast: what a plan will cost and what it can find, from what earlier runs recorded. Reads the runs below a results
// folder that a build of the same preset made; no record that cannot be read spoils a forecast, it is only not counted.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/plan.h"

namespace gearbox::harness {

// What earlier runs say of cells, whichever build of the same preset ran them.
class History {
 public:
  // Reads the records of these cells from the newest runs below `results`.
  static History read(const std::string& results, const std::vector<Cell>& cells);

  std::uint64_t runs() const { return runs_; }           // that have records of the cells
  const std::string& newest() const { return newest_; }  // the newest of them, as <experiment>/<run-id>

  struct Time {
    double block_s = 0;
    std::size_t known = 0, cells = 0;  // different cells of the block, and those of which a time is known
  };
  // Seconds of a block: the median time of each cell, and for a cell without one the mean of its workload's others, or of
  // all. Nothing when no cell's time is known.
  std::optional<Time> block_time(const std::vector<Cell>& block) const;

  // The residual standard deviation of the logs of a workload's headline, after cells and blocks are taken out.
  struct Noise {
    double sd = 0;
    std::uint64_t degrees = 0;  // of freedom
  };
  std::optional<Noise> noise(const std::string& workload) const;

 private:
  std::map<std::string, std::vector<double>> walls_s_;  // by cell, build left out
  std::map<std::string, std::pair<double, std::uint64_t>>
      squares_;  // by workload: sum of squared residuals, degrees of freedom
  std::uint64_t runs_ = 0;
  std::string newest_;
};

// Sum of the squared residuals of values with two labels each (cell, block), both taken out, and its degrees of freedom.
struct LogValue {
  std::string cell;
  std::uint64_t block;
  double log;
};
std::pair<double, std::uint64_t> residual_squares(const std::vector<LogValue>& values);

// The smallest factor between a treatment and the baseline that is found with 80 % power is exp(M s), with s the residual
// standard deviation of logs. M was simulated for families of 16 treatments with the baseline once and three times a
// block, for 3 to 30 blocks; between and beyond, by the square roots that means have. Nothing below 3 blocks, which get
// no verdict.
std::optional<double> detectable_log(std::uint64_t blocks, std::uint64_t baseline_runs);

}  // namespace gearbox::harness
