#include "allocators/size_class/page_heap.h"

#include <algorithm>

#include "base/check.h"
#include "base/os/memory.h"

namespace gearbox::allocators::size_class_parts {

void PageHeap::insert(std::size_t first, std::size_t count) {
  by_address_.emplace(first, count);
  by_count_.emplace(count, first);
}

void PageHeap::erase(ByAddress::iterator run) {
  by_count_.erase({run->second, run->first});
  by_address_.erase(run);
}

std::size_t PageHeap::count_dirty(std::size_t first, std::size_t count) const noexcept {
  std::size_t sum = 0;
  for (std::size_t page = first, end = first + count; page < end;) {
    if (page % 64 == 0 && end - page >= 64) {
      sum += static_cast<std::size_t>(__builtin_popcountll(dirty_[page / 64]));
      page += 64;
    } else {
      sum += dirty(page++);
    }
  }
  return sum;
}

void PageHeap::set_dirty(std::size_t first, std::size_t count, bool dirty) noexcept {
  for (std::size_t page = first, end = first + count; page < end;) {
    const std::size_t bits = std::min(64 - page % 64, end - page);
    const std::uint64_t mask = (bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1) << page % 64;
    if (dirty)
      dirty_[page / 64] |= mask;
    else
      dirty_[page / 64] &= ~mask;
    page += bits;
  }
}

PageRun PageHeap::take(std::size_t count, bool grow) {
  Guard<Mutex> hold(lock_);
  if (auto fit = by_count_.lower_bound({count, 0}); fit != by_count_.end()) {
    auto run = by_address_.find(fit->second);
    const auto [first, length] = *run;
    erase(run);
    if (length > count) insert(first + count, length - count);
    const std::size_t dirt = count_dirty(first, count);
    dirty_free_ -= dirt;
    return {first, count, dirt == 0};
  }
  const std::size_t first = frontier();
  if (!grow || pages_ - first < count) return {};
  frontier_.store(first + count, std::memory_order_relaxed);
  if (dirty_.size() * 64 < first + count) dirty_.resize(std::max(dirty_.size() * 2, (first + count) / 64 + 1));
  return {first, count, true};
}

// Lock held.
void PageHeap::join(std::size_t first, std::size_t count) {
  auto after = by_address_.lower_bound(first);
  GEARBOX_INVARIANT(H1, after == by_address_.end() || after->first >= first + count, "pages {}+{} are free already",
                    first, count);
  if (after != by_address_.end() && after->first == first + count) {
    count += after->second;
    auto gone = after++;
    erase(gone);
  }
  if (after != by_address_.begin()) {
    auto before = std::prev(after);
    GEARBOX_INVARIANT(H1, before->first + before->second <= first, "pages {}+{} are free already", first, count);
    if (before->first + before->second == first) {
      first = before->first;
      count += before->second;
      erase(before);
    }
  }
  insert(first, count);
}

void PageHeap::give(std::size_t first, std::size_t count) {
  Guard<Mutex> hold(lock_);
  set_dirty(first, count, true);
  dirty_free_ += count;
  join(first, count);
}

bool PageHeap::release(std::size_t keep_pages) {
  std::size_t first = 0, count = 0;
  {
    Guard<Mutex> hold(lock_);
    if (dirty_free_ <= keep_pages) {
      release_below_ = 0;
      return false;
    }
    // The highest dirty page below where the last piece began, and the dirty ones before it.
    for (int lap = 0; count == 0 && lap < 2; ++lap) {
      std::size_t below = release_below_ != 0 ? release_below_ : frontier();
      for (auto run = by_address_.lower_bound(below); count == 0 && run != by_address_.begin();) {
        --run;
        std::size_t end = std::min(below, run->first + run->second);
        while (end > run->first && !dirty(end - 1))
          end -= end % 64 == 0 && end - run->first >= 64 && dirty_[end / 64 - 1] == 0 ? 64 : 1;
        while (end - count > run->first && count < kPiecePages && dirty(end - count - 1)) ++count;
        first = end - count;
      }
      if (count == 0) release_below_ = 0;
    }
    GEARBOX_INVARIANT(H2, count != 0, "{} dirty pages are free, and none was found", dirty_free_);
    if (count == 0) return false;
    release_below_ = first;
    auto run = std::prev(by_address_.upper_bound(first));
    const auto [start, length] = *run;
    erase(run);
    if (first > start) insert(start, first - start);
    if (start + length > first + count) insert(first + count, start + length - first - count);
    dirty_free_ -= count;
  }
  os::discard(reinterpret_cast<void*>(base_ + first * kHeapPage), count * kHeapPage);
  Guard<Mutex> hold(lock_);
  set_dirty(first, count, false);
  join(first, count);
  return true;
}

std::size_t PageHeap::free_pages() const noexcept {
  std::size_t sum = 0;
  for (const auto& [first, count] : by_address_) sum += count;
  return sum;
}

void PageHeap::check() const {
  Guard<Mutex> hold(lock_);
  GEARBOX_REQUIRE(by_address_.size() == by_count_.size(), "H1: {} runs by address, {} by count", by_address_.size(),
                  by_count_.size());
  std::size_t end = 0, dirt = 0;
  for (const auto& [first, count] : by_address_) {
    GEARBOX_REQUIRE(first > end || (end == 0 && first == 0), "H1: free runs touch at page {}", first);
    GEARBOX_REQUIRE(by_count_.contains({count, first}), "H1: run at page {} is not filed by count", first);
    end = first + count;
    GEARBOX_REQUIRE(end <= frontier(), "H1: a free run reaches behind the frontier");
    dirt += count_dirty(first, count);
  }
  GEARBOX_REQUIRE(dirt == dirty_free_, "H2: {} free pages are dirty, {} are counted", dirt, dirty_free_);
}

}  // namespace gearbox::allocators::size_class_parts
