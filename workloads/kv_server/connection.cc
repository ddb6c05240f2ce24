#include "workloads/kv_server/connection.h"

#include <cstring>
#include <memory>

#include "base/os/file.h"

namespace gearbox::workloads::kv {
namespace {

constexpr std::size_t kFirstBytes = 16 * 1024;             // of the input; also the least room a read is given
constexpr std::size_t kKeptBytes = 1 << 20;                // a larger input is given back when it is empty
constexpr std::size_t kBatchBytes = std::size_t{1} << 20;  // replies handed over at once

void log(const net::Conn& conn, const char* what) {
  const std::string line = fmt::format("kv_server: closing {}: {}\n", conn.remote_address(), what);
  os::write_all(2, line.data(), line.size());
}

// Bytes that have come and are not used up. Grows as they come, never for what is only announced, and is not cleared:
// announcing a long value costs its sender as much as it costs the server.
class Input {
 public:
  std::string_view bytes() const noexcept { return {memory_.get(), have_}; }
  std::size_t size() const noexcept { return have_; }
  // Room behind the bytes, for the next read.
  std::span<char> room() {
    if (capacity_ - have_ < kFirstBytes) {
      const std::size_t more = std::max(capacity_ * 2, have_ + kFirstBytes);
      auto larger = std::make_unique_for_overwrite<char[]>(more);
      if (have_ > 0) std::memcpy(larger.get(), memory_.get(), have_);
      memory_ = std::move(larger);
      capacity_ = more;
    }
    return {memory_.get() + have_, capacity_ - have_};
  }
  void came(std::size_t n) noexcept { have_ += n; }
  void drop_front(std::size_t n) {
    if (n == 0) return;
    have_ -= n;
    if (have_ > 0) {
      std::memmove(memory_.get(), memory_.get() + n, have_);
    } else if (capacity_ > kKeptBytes) {
      memory_.reset();
      capacity_ = 0;
    }
  }

 private:
  std::unique_ptr<char[]> memory_;
  std::size_t capacity_ = 0, have_ = 0;
};

// Replies on their way out. The reader hands over, the writer sends; both are goroutines of one connection.
class Output {
 public:
  Output(net::Conn conn, std::size_t most) : conn_(std::move(conn)), most_(most) {
    writer_.add(1);
    go([this] {
      send_all();
      writer_.done();
    });
  }
  ~Output() {
    {
      Guard<GoMutex> hold(lock_);
      no_more_ = true;
      changed_.signal();
    }
    writer_.wait();
  }
  enum class Handed : std::uint8_t { kYes, kFailed, kTooMuch };
  // Takes the batch, and leaves an empty one.
  Handed hand_over(std::string& batch) {
    Guard<GoMutex> hold(lock_);
    if (failed_) return Handed::kFailed;
    if (waiting_.empty())
      waiting_.swap(batch);
    else
      waiting_ += batch;
    batch.clear();
    if (waiting_.size() + sending_bytes_ > most_) {
      waiting_.clear();
      failed_ = true;
      return Handed::kTooMuch;
    }
    changed_.signal();
    return Handed::kYes;
  }

 private:
  void send_all() {
    std::string sending;
    for (;;) {
      {
        Guard<GoMutex> hold(lock_);
        sending_bytes_ = 0;
        while (waiting_.empty() && !no_more_ && !failed_) changed_.wait();
        if (waiting_.empty() || failed_) return;
        sending.clear();
        if (sending.capacity() > kKeptBytes) sending = std::string();
        sending.swap(waiting_);
        sending_bytes_ = sending.size();
      }
      if (conn_.write(sending).ok()) continue;
      Guard<GoMutex> hold(lock_);
      failed_ = true;
      waiting_ = std::string();
      return;
    }
  }

  const net::Conn conn_;
  const std::size_t most_;
  GoMutex lock_;  // guards the fields below
  Cond changed_{lock_};
  std::string waiting_;
  std::size_t sending_bytes_ = 0;
  bool no_more_ = false, failed_ = false;
  WaitGroup writer_;
};

}  // namespace

void serve(Store& store, const net::Conn& conn, const Limits& limits) {
  Input input;
  Output output(conn, limits.output_bytes);
  Parser parser;
  Request request;
  std::string replies, error;
  const auto hand_over = [&] {
    switch (output.hand_over(replies)) {
      case Output::Handed::kYes:
        return true;
      case Output::Handed::kTooMuch:
        log(conn, "more replies wait to be read than the output limit allows");
        conn.close();  // the writer may be in the middle of a write that nobody will ever read
        return false;
      case Output::Handed::kFailed:
        break;
    }
    return false;
  };
  struct Counted {
    explicit Counted(Stats& s) : stats(s) {
      stats.connections.fetch_add(1, std::memory_order_relaxed);
      stats.clients.fetch_add(1, std::memory_order_relaxed);
    }
    ~Counted() { stats.clients.fetch_sub(1, std::memory_order_relaxed); }
    Stats& stats;
  } counted(store.stats);
  for (;;) {
    const net::Transfer got = conn.read(input.room());
    if (got.bytes == 0) return;
    input.came(got.bytes);
    if (input.size() >= parser.needed()) {  // else a long value is still under way: nothing to parse yet
      std::size_t at = 0;
      Parsed parsed;
      bool goes_on = true;
      std::uint64_t commands = 0;
      while (goes_on && (parsed = parser.next(input.bytes(), at, request, error)) != Parsed::kIncomplete) {
        if (parsed == Parsed::kError) {
          reply_error(replies, "ERR " + error);
          goes_on = false;
        } else if (!request.arguments.empty()) {
          goes_on = execute(store, request, replies);
          ++commands;
        }
        if (replies.size() > kBatchBytes && !hand_over()) return;
      }
      store.stats.commands.fetch_add(commands, std::memory_order_relaxed);
      if (!replies.empty() && !hand_over()) return;
      if (!goes_on) return;
      input.drop_front(at);
    }
    if (input.size() > limits.query_bytes) {
      log(conn, "a request is longer than the query limit allows");
      conn.close();
      return;
    }
  }
}

}  // namespace gearbox::workloads::kv
