// Histogram of non-negative whole numbers (nanoseconds, bytes) with relative error below 1/32: Boost.Histogram with a log-linear axis, as HdrHistogram
// has it (Debian packages no C++ HdrHistogram). One writer at a time; merge with +=. Recording costs a few nanoseconds and never allocates
// after construction.
#pragma once

#include <bit>
#include <boost/histogram.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace gearbox {

// 32 equal steps in every power of two; exact below 32. Bin i holds [value(i), value(i + 1)).
class LogLinearAxis {
 public:
  using value_type = std::uint64_t;
  static constexpr int kStepBits = 5;
  static constexpr int kMaxExponent = 44;  // 2^44 ns is almost five hours; larger values fall into the last bin
  static constexpr int kBins = (kMaxExponent - kStepBits + 1) << kStepBits;
  int index(std::uint64_t v) const noexcept {
    if (v < (1u << kStepBits)) return static_cast<int>(v);
    const int exponent = 63 - std::countl_zero(v);
    if (exponent >= kMaxExponent) return kBins - 1;
    const int shift = exponent - kStepBits;
    return ((shift + 1) << kStepBits) + static_cast<int>((v >> shift) & ((1u << kStepBits) - 1));
  }
  std::uint64_t value(int i) const noexcept {
    if (i < (1 << kStepBits)) return static_cast<std::uint64_t>(i);
    const int shift = (i >> kStepBits) - 1;
    return ((1ULL << kStepBits) + (static_cast<std::uint64_t>(i) & ((1u << kStepBits) - 1))) << shift;
  }
  int size() const noexcept { return kBins; }
  bool operator==(const LogLinearAxis&) const noexcept { return true; }
};

class Histogram {
 public:
  void record(std::uint64_t value) noexcept {
    counts_(value);
    ++count_;
    sum_ += value;
    if (value < min_) min_ = value;
    if (value > max_) max_ = value;
  }
  Histogram& operator+=(const Histogram& other) {
    counts_ += other.counts_;
    count_ += other.count_;
    sum_ += other.sum_;
    min_ = std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
    return *this;
  }
  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t sum() const noexcept { return sum_; }
  std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }
  std::uint64_t max() const noexcept { return max_; }
  // The upper end of the bin that holds the percentile (0 < percentile <= 100), never above max(). 0 when empty.
  std::uint64_t percentile(double percentile) const noexcept {
    if (count_ == 0) return 0;
    auto rank = static_cast<std::uint64_t>(percentile / 100.0 * static_cast<double>(count_) + 0.9999999);
    rank = rank < 1 ? 1 : (rank > count_ ? count_ : rank);
    const auto& axis = counts_.axis();
    std::uint64_t seen = 0;
    for (int i = 0; i < axis.size(); ++i) {
      seen += static_cast<std::uint64_t>(counts_.at(i));
      if (seen >= rank) return i + 1 < axis.size() ? std::min(max_, axis.value(i + 1) - 1) : max_;
    }
    return max_;
  }
  struct Bucket {
    std::uint64_t lower, upper, count;  // [lower, upper)
  };
  std::vector<Bucket> buckets() const {
    std::vector<Bucket> out;
    const auto& axis = counts_.axis();
    for (int i = 0; i < axis.size(); ++i)
      if (auto n = static_cast<std::uint64_t>(counts_.at(i)); n > 0) out.push_back({axis.value(i), axis.value(i + 1), n});
    return out;
  }

 private:
  using Counts = boost::histogram::histogram<std::tuple<LogLinearAxis>, boost::histogram::dense_storage<std::uint64_t>>;
  Counts counts_{LogLinearAxis{}};
  std::uint64_t count_ = 0, sum_ = 0, min_ = std::numeric_limits<std::uint64_t>::max(), max_ = 0;
};

}  // namespace gearbox
