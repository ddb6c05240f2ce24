#include "workloads/kv_server/replies.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <new>

#include "runtime/api.h"

namespace gearbox::workloads::kv {
namespace {

constexpr std::size_t kLeastBlockBytes = 16 * 1024, kMostBlockBytes = 256 * 1024;

// "<kind><number>\r\n"
void append_number(Replies& out, char kind, std::int64_t number) {
  char line[24];
  line[0] = kind;
  char* end = std::to_chars(line + 1, line + sizeof(line) - 2, number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append({line, static_cast<std::size_t>(end - line)});
}

}  // namespace

Block Block::make(Quota& quota, std::size_t capacity) {
  Block block;
  if (!quota.take(capacity)) return block;
  block.memory_.reset(new (std::nothrow) char[capacity]);
  if (block.memory_ == nullptr) {
    quota.give(capacity);
    return block;
  }
  block.quota_ = &quota;
  block.capacity_ = capacity;
  return block;
}

std::size_t Block::append(std::string_view bytes) noexcept {
  const std::size_t taken = std::min(bytes.size(), capacity_ - size_);
  if (taken > 0) std::memcpy(memory_.get() + size_, bytes.data(), taken);
  size_ += taken;
  return taken;
}

void Replies::append(std::string_view bytes) {
  while (!full_) {
    if (!blocks_.empty()) {
      const std::size_t taken = blocks_.back().append(bytes);
      size_ += taken;
      bytes.remove_prefix(taken);
    }
    if (bytes.empty()) return;
    GEARBOX_SAFEPOINT();
    const std::size_t capacity =
        blocks_.empty() ? kLeastBlockBytes : std::min(kMostBlockBytes, 2 * blocks_.back().capacity());
    Block block = Block::make(quota_, capacity);
    if (block.capacity() > 0) {
      blocks_.push_back(std::move(block));
    } else {
      full_ = true;
      take();
    }
  }
}

std::string Replies::text() const {
  std::string all;
  for (const Block& block : blocks_) all += block.bytes();
  return all;
}

void reply_simple(Replies& out, std::string_view text) { out.append(fmt::format("+{}\r\n", text)); }
void reply_error(Replies& out, std::string_view text) {
  std::string line = fmt::format("-{}", text);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\r' || c == '\n'; }, ' ');
  out.append(line += "\r\n");
}
void reply_integer(Replies& out, std::int64_t value) { append_number(out, ':', value); }
void reply_bulk(Replies& out, std::string_view bytes) {
  append_number(out, '$', static_cast<std::int64_t>(bytes.size()));
  out.append(bytes);
  out.append("\r\n");
}
void reply_nil(Replies& out) { out.append("$-1\r\n"); }
void reply_nil_array(Replies& out) { out.append("*-1\r\n"); }
void reply_array(Replies& out, std::size_t count) { append_number(out, '*', static_cast<std::int64_t>(count)); }

}  // namespace gearbox::workloads::kv
