// Histogram of non-negative whole numbers (nanoseconds, bytes) with relative error below 1/32: Boost.Histogram with a
// log-linear axis, as HdrHistogram has it (Debian packages no C++ HdrHistogram). One writer at a time; merge with +=.
// Recording costs a few nanoseconds and never allocates after construction. Boost stays in histogram.cc: its header
// would cost every file that includes this one two seconds.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace gearbox {

class Histogram {
 public:
  Histogram();
  ~Histogram();
  Histogram(const Histogram& other);
  Histogram(Histogram&& other) noexcept;
  Histogram& operator=(const Histogram& other);
  Histogram& operator=(Histogram&& other) noexcept;

  void record(std::uint64_t value) noexcept;
  Histogram& operator+=(const Histogram& other);
  std::uint64_t count() const noexcept;
  std::uint64_t sum() const noexcept;
  std::uint64_t min() const noexcept;  // 0 when empty
  std::uint64_t max() const noexcept;
  // The upper end of the bin that holds the percentile (0 < percentile <= 100), never above max(). 0 when empty.
  std::uint64_t percentile(double percentile) const noexcept;
  struct Bucket {
    std::uint64_t lower, upper, count;  // [lower, upper); the same edges in every histogram
  };
  std::vector<Bucket> buckets() const;  // those that are not empty

 private:
  struct Counts;
  std::unique_ptr<Counts> counts_;
};

}  // namespace gearbox
