#include "workloads/kv_server/connection.h"

#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "base/os/file.h"

namespace gearbox::workloads::kv {
namespace {

constexpr std::size_t kFirstBytes = 16 * 1024;             // of the input; also the least room a read is given
constexpr std::size_t kKeptBytes = 1 << 20;                // a larger input is given back when it is empty
constexpr std::size_t kBatchBytes = std::size_t{1} << 20;  // replies handed over at once

// Bytes that have come and are not used up. Grows as they come, never for what is only announced, and is not cleared:
// announcing a long value costs its sender as much as it costs the server.
class Input {
 public:
  explicit Input(Quota& quota) : quota_(quota) {}
  ~Input() { quota_.give(capacity_); }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  std::string_view bytes() const noexcept { return {memory_.get(), have_}; }
  std::size_t size() const noexcept { return have_; }
  // Room behind the bytes, for the next read; empty when there is none to be had. `needed`: what completes the request.
  std::span<char> room(std::size_t needed) {
    const bool suffices = have_ < needed && needed <= capacity_;
    if (!suffices && capacity_ - have_ < kFirstBytes) {
      std::size_t more = std::max(capacity_ + capacity_ / 2, have_ + kFirstBytes);
      if (needed >= have_ + kFirstBytes) more = std::min(more, needed);  // the last step to a long value is no longer
      if (!quota_.take(more)) return {};
      std::unique_ptr<char[]> larger(new (std::nothrow) char[more]);
      if (larger == nullptr) {
        quota_.give(more);
        return {};
      }
      copy_in_steps(larger.get(), bytes());
      memory_ = std::move(larger);
      quota_.give(std::exchange(capacity_, more));
    }
    return {memory_.get() + have_, capacity_ - have_};
  }
  void came(std::size_t n) noexcept { have_ += n; }
  void drop_front(std::size_t n) {
    if (n == 0) return;
    const std::string_view rest = bytes().substr(n);
    have_ = rest.size();
    if (have_ > 0) {
      copy_in_steps(memory_.get(), rest);
    } else if (capacity_ > kKeptBytes) {
      memory_.reset();
      quota_.give(std::exchange(capacity_, 0));
    }
  }

 private:
  Quota& quota_;
  std::unique_ptr<char[]> memory_;
  std::size_t capacity_ = 0, have_ = 0;
};

// Replies on their way out. The reader hands over, the writer sends; both are goroutines of one connection.
class Output {
 public:
  Output(net::Conn conn, LastSeen& seen) : conn_(std::move(conn)), seen_(seen) {
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
  // Takes the batch, and leaves none. False: the writer has failed.
  bool hand_over(Replies& batch) {
    std::vector<Block> blocks = batch.take();
    Guard<GoMutex> hold(lock_);
    if (failed_) return false;
    if (waiting_.empty()) {
      waiting_ = std::move(blocks);
    } else {
      for (Block& block : blocks) waiting_.push_back(std::move(block));
    }
    changed_.signal();
    return true;
  }

 private:
  void send_all() {
    for (;;) {
      std::vector<Block> sending;
      {
        Guard<GoMutex> hold(lock_);
        while (waiting_.empty() && !no_more_) changed_.wait();
        if (waiting_.empty()) return;
        sending = std::exchange(waiting_, {});
      }
      for (Block& block : sending) {
        if (!conn_.write(block.bytes()).ok()) return fail();
        seen_.store(now_ns(), std::memory_order_relaxed);
        block = Block();  // what is sent no longer counts
      }
    }
  }
  void fail() {
    std::vector<Block> dropped;
    Guard<GoMutex> hold(lock_);
    failed_ = true;
    dropped.swap(waiting_);
  }

  const net::Conn conn_;
  LastSeen& seen_;
  GoMutex lock_;  // guards the fields below
  Cond changed_{lock_};
  std::vector<Block> waiting_;
  bool no_more_ = false, failed_ = false;
  WaitGroup writer_;
};

ParserLimits parser_limits(const Session& session) {
  if (!session.authenticated) return kUnauthenticated;
  ParserLimits limits;
  limits.bulk_bytes = static_cast<std::int64_t>(session.limits.value_bytes());
  return limits;
}

// The memory that a request takes beside its bytes, paid for while it grows.
class RequestMemory {
 public:
  RequestMemory(Quota& quota) : quota_(quota) {}
  ~RequestMemory() { quota_.give(held_); }
  bool is_now(std::size_t bytes) {
    if (bytes > held_ && !quota_.take(bytes - held_)) return false;
    if (bytes < held_) quota_.give(held_ - bytes);
    held_ = bytes;
    return true;
  }

 private:
  Quota& quota_;
  std::size_t held_ = 0;
};

// The reader's half.
class Reader {
 public:
  Reader(Store& store, const net::Conn& conn, const Limits& limits, Pool& pool, LastSeen& seen)
      : conn_(conn),
        seen_(seen),
        session_{store, limits},
        input_quota_(pool, std::numeric_limits<std::size_t>::max() / 2),  // query_bytes is looked at apart
        output_quota_(pool, limits.output_bytes),
        input_(input_quota_),
        memory_(input_quota_),
        replies_(output_quota_),
        output_(conn, seen),
        parser_(parser_limits(session_), [this] {
          GEARBOX_SAFEPOINT();
          return memory_.is_now(parser_.memory_bytes(request_));
        }) {}

  void run() {
    for (;;) {
      const std::span<char> room = input_.room(parser_.needed());
      if (room.empty()) return end("the memory of all connections is used up");
      const net::Transfer got = conn_.read(room);
      if (got.bytes == 0) return;
      seen_.store(now_ns(), std::memory_order_relaxed);
      input_.came(got.bytes);
      // Else a long value is still under way: nothing to parse yet.
      if (input_.size() >= parser_.needed() && !carry_out()) return;
      if (input_.size() > session_.limits.query_bytes) return end("a request is longer than the query limit allows");
    }
  }

 private:
  // Every request that is complete. False: the connection ends.
  bool carry_out() {
    std::size_t at = 0;
    std::string error;
    std::uint64_t commands = 0;
    bool goes_on = true;
    while (goes_on) {
      GEARBOX_SAFEPOINT();
      const Parsed parsed = parser_.next(input_.bytes(), at, request_, error);
      if (parsed == Parsed::kIncomplete) break;
      if (parsed == Parsed::kError) {
        reply_error(replies_, "ERR " + error);
        goes_on = false;
      } else if (!request_.arguments.empty()) {
        const bool was = session_.authenticated;
        goes_on = execute(session_, request_, replies_);
        if (session_.authenticated != was) parser_.set_limits(parser_limits(session_));
        ++commands;
      }
      if (replies_.full()) {
        end("more replies wait to be read than the output limit or the memory of all connections allows");
        goes_on = false;
      } else if (replies_.size() > kBatchBytes) {
        goes_on = output_.hand_over(replies_) && goes_on;
      }
    }
    parser_.shrink(request_);
    session_.store.stats.commands.fetch_add(commands, std::memory_order_relaxed);
    if (!memory_.is_now(parser_.memory_bytes(request_))) {
      end("the memory of all connections is used up");
      return false;
    }
    if (replies_.size() > 0 && !output_.hand_over(replies_)) return false;
    if (goes_on) input_.drop_front(at);
    return goes_on;
  }

  // The writer may be in the middle of a write that nobody will ever read.
  void end(std::string_view why) const {
    const std::string line = fmt::format("kv_server: closing {}: {}\n", conn_.remote_address(), why);
    os::write_all(2, line.data(), line.size());
    conn_.close();
  }

  const net::Conn& conn_;
  LastSeen& seen_;
  Session session_;
  Quota input_quota_, output_quota_;  // outlive all that holds some of them
  Input input_;
  RequestMemory memory_;
  Replies replies_;
  Output output_;
  Parser parser_;
  Request request_;
};

}  // namespace

void serve(Store& store, const net::Conn& conn, const Limits& limits, Pool& pool, LastSeen& seen) {
  struct Counted {
    explicit Counted(Stats& s) : stats(s) {
      stats.connections.fetch_add(1, std::memory_order_relaxed);
      stats.clients.fetch_add(1, std::memory_order_relaxed);
    }
    ~Counted() { stats.clients.fetch_sub(1, std::memory_order_relaxed); }
    Stats& stats;
  } counted(store.stats);
  Reader(store, conn, limits, pool, seen).run();
}

}  // namespace gearbox::workloads::kv
