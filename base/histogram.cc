#include "base/histogram.h"

#include <algorithm>
#include <bit>
#include <boost/histogram.hpp>
#include <limits>
#include <tuple>

namespace gearbox {
namespace {

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

}  // namespace

struct Histogram::Counts {
  boost::histogram::histogram<std::tuple<LogLinearAxis>, boost::histogram::dense_storage<std::uint64_t>> bins{
      LogLinearAxis{}};
  std::uint64_t count = 0, sum = 0, min = std::numeric_limits<std::uint64_t>::max(), max = 0;
};

Histogram::Histogram() : counts_(std::make_unique<Counts>()) {}
Histogram::~Histogram() = default;
Histogram::Histogram(const Histogram& other) : counts_(std::make_unique<Counts>(*other.counts_)) {}
// A moved-from histogram is empty, not broken.
Histogram::Histogram(Histogram&& other) noexcept : Histogram() { std::swap(counts_, other.counts_); }
Histogram& Histogram::operator=(const Histogram& other) {
  *counts_ = *other.counts_;
  return *this;
}
Histogram& Histogram::operator=(Histogram&& other) noexcept {
  std::swap(counts_, other.counts_);
  return *this;
}

void Histogram::record(std::uint64_t value) noexcept {
  Counts& c = *counts_;
  c.bins(value);
  ++c.count;
  c.sum += value;
  c.min = std::min(c.min, value);
  c.max = std::max(c.max, value);
}

Histogram& Histogram::operator+=(const Histogram& other) {
  Counts& c = *counts_;
  const Counts& o = *other.counts_;
  c.bins += o.bins;
  c.count += o.count;
  c.sum += o.sum;
  c.min = std::min(c.min, o.min);
  c.max = std::max(c.max, o.max);
  return *this;
}

std::uint64_t Histogram::count() const noexcept { return counts_->count; }
std::uint64_t Histogram::sum() const noexcept { return counts_->sum; }
std::uint64_t Histogram::min() const noexcept { return counts_->count == 0 ? 0 : counts_->min; }
std::uint64_t Histogram::max() const noexcept { return counts_->max; }

std::uint64_t Histogram::percentile(double percentile) const noexcept {
  const Counts& c = *counts_;
  if (c.count == 0) return 0;
  auto rank = static_cast<std::uint64_t>(percentile / 100.0 * static_cast<double>(c.count) + 0.9999999);
  rank = std::clamp<std::uint64_t>(rank, 1, c.count);
  const auto& axis = c.bins.axis();
  std::uint64_t seen = 0;
  for (int i = 0; i < axis.size(); ++i) {
    seen += static_cast<std::uint64_t>(c.bins.at(i));
    if (seen >= rank) return i + 1 < axis.size() ? std::min(c.max, axis.value(i + 1) - 1) : c.max;
  }
  return c.max;
}

std::vector<Histogram::Bucket> Histogram::buckets() const {
  std::vector<Bucket> out;
  const auto& axis = counts_->bins.axis();
  for (int i = 0; i < axis.size(); ++i)
    if (const auto n = static_cast<std::uint64_t>(counts_->bins.at(i)); n > 0)
      out.push_back({axis.value(i), axis.value(i + 1), n});
  return out;
}

}  // namespace gearbox
