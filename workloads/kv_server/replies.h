// Replies while they are built and until they are sent: a row of blocks, each paid for from the connection's quota
// before it is allocated. So a reply is never larger than the limit, not even for a moment.
//
// A reply that meets the limit is dropped, and with it all that is waiting in this batch: Replies is full() from then
// on and takes nothing more. Commands look at full() in their loops, and the connection ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workloads/kv_server/limits.h"

namespace gearbox::workloads::kv {

// Movable; gives its bytes back to the quota that paid for them.
class Block {
 public:
  // Empty when the quota or the system refuses.
  static Block make(Quota& quota, std::size_t capacity);
  Block() noexcept = default;
  Block(Block&& other) noexcept
      : quota_(other.quota_),
        memory_(std::move(other.memory_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Block& operator=(Block&& other) noexcept {
    release();
    quota_ = other.quota_;
    memory_ = std::move(other.memory_);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }
  ~Block() { release(); }

  std::string_view bytes() const noexcept { return {memory_.get(), size_}; }
  std::size_t capacity() const noexcept { return capacity_; }
  // Takes the first of the bytes that fit, and returns how many.
  std::size_t append(std::string_view bytes) noexcept;

 private:
  void release() noexcept {
    memory_.reset();
    if (capacity_ > 0) quota_->give(std::exchange(capacity_, 0));
  }
  Quota* quota_ = nullptr;
  std::unique_ptr<char[]> memory_;
  std::size_t size_ = 0, capacity_ = 0;
};

class Replies {
 public:
  explicit Replies(Quota& quota) noexcept : quota_(quota) {}
  // On a goroutine; may yield between blocks.
  void append(std::string_view bytes);
  bool full() const noexcept { return full_; }
  std::size_t size() const noexcept { return size_; }
  // The batch so far; leaves none.
  std::vector<Block> take() noexcept {
    size_ = 0;
    return std::exchange(blocks_, {});
  }
  std::string text() const;  // a copy, for those who are not a connection

 private:
  Quota& quota_;
  std::vector<Block> blocks_;
  std::size_t size_ = 0;
  bool full_ = false;
};

void reply_simple(Replies& out, std::string_view text);
void reply_error(Replies& out, std::string_view text);  // with its code: "ERR syntax error"
void reply_integer(Replies& out, std::int64_t value);
void reply_bulk(Replies& out, std::string_view bytes);
void reply_nil(Replies& out);
void reply_nil_array(Replies& out);
void reply_array(Replies& out, std::size_t count);

}  // namespace gearbox::workloads::kv
