#include "allocators/size_class/page_heap.h"

#include "base/check.h"
#include "base/os/memory.h"
#include "interfaces/heap.h"

namespace gearbox::allocators::size_class_parts {

void PageHeap::insert(std::size_t first, Rest rest) {
  by_address_.emplace(first, rest);
  by_count_.emplace(rest.count, first);
}

void PageHeap::erase(ByAddress::iterator run) {
  by_count_.erase({run->second.count, run->first});
  by_address_.erase(run);
}

PageRun PageHeap::take(std::size_t count, bool grow) {
  Guard<Mutex> hold(lock_);
  if (auto fit = by_count_.lower_bound({count, 0}); fit != by_count_.end()) {
    auto run = by_address_.find(fit->second);
    const std::size_t first = run->first;
    const Rest rest = run->second;
    erase(run);
    if (rest.count > count) insert(first + count, {rest.count - count, rest.zero});
    return {first, count, rest.zero};
  }
  if (!grow || pages_ - frontier_ < count) return {};
  const std::size_t first = frontier_;
  frontier_ += count;
  return {first, count, true};
}

void PageHeap::give(std::size_t first, std::size_t count) {
  Guard<Mutex> hold(lock_);
  // A merged run is zero only if all of it was: forgetting that some pages were costs a memset, the opposite would hand
  // out dirt.
  auto after = by_address_.lower_bound(first);
  GEARBOX_INVARIANT(H1, after == by_address_.end() || after->first >= first + count, "pages {}+{} are free already",
                    first, count);
  if (after != by_address_.end() && after->first == first + count) {
    count += after->second.count;
    auto gone = after++;
    erase(gone);
  }
  if (after != by_address_.begin()) {
    auto before = std::prev(after);
    GEARBOX_INVARIANT(H1, before->first + before->second.count <= first, "pages {}+{} are free already", first, count);
    if (before->first + before->second.count == first) {
      first = before->first;
      count += before->second.count;
      erase(before);
    }
  }
  insert(first, {count, false});
}

std::size_t PageHeap::release() {
  Guard<Mutex> hold(lock_);
  std::size_t bytes = 0;
  for (auto& [first, rest] : by_address_) {
    if (rest.zero) continue;
    os::discard(reinterpret_cast<void*>(base_ + first * kHeapPage), rest.count * kHeapPage);
    rest.zero = true;
    bytes += rest.count * kHeapPage;
  }
  return bytes;
}

std::size_t PageHeap::free_pages() const noexcept {
  std::size_t sum = 0;
  for (const auto& [first, rest] : by_address_) sum += rest.count;
  return sum;
}

void PageHeap::check() const {
  Guard<Mutex> hold(lock_);
  GEARBOX_REQUIRE(by_address_.size() == by_count_.size(), "H1: {} runs by address, {} by count", by_address_.size(),
                  by_count_.size());
  std::size_t end = 0;
  for (const auto& [first, rest] : by_address_) {
    GEARBOX_REQUIRE(first > end || (end == 0 && first == 0), "H1: free runs touch at page {}", first);
    GEARBOX_REQUIRE(by_count_.contains({rest.count, first}), "H1: run at page {} is not filed by count", first);
    end = first + rest.count;
    GEARBOX_REQUIRE(end <= frontier_, "H1: a free run reaches behind the frontier");
  }
}

}  // namespace gearbox::allocators::size_class_parts
