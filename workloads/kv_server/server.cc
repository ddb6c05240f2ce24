#include "workloads/kv_server/server.h"

#include <cerrno>

#include "base/os/file.h"

namespace gearbox::workloads::kv {
namespace {
constexpr std::int64_t kFirstPause = kMillisecond, kLongestPause = 100 * kMillisecond;
constexpr std::int64_t kLooksPerIdleTime = 10;
}  // namespace

bool Server::passes(int error_number) noexcept {
  switch (error_number) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC:  // the user's limit of watched descriptors
    case EAGAIN:
    // Troubles of the one connection that was next: accept(2) hands them on.
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPERM:  // by a firewall
      return true;
    default:
      return false;
  }
}

void Server::start() {
  done_.add(1);
  go([this] {
    accept_all();
    done_.done();
  });
  if (limits_.idle_seconds == 0) return;
  done_.add(1);
  go([this] {
    end_idle();
    done_.done();
  });
}

void Server::end_idle() {
  const std::int64_t patience = limits_.idle_seconds * kSecond;
  for (bool goes_on = true; goes_on;) {
    select(on_recv(ended_, [&] { goes_on = false; }), on_recv(after(patience / kLooksPerIdleTime), [&] {
             Guard<GoMutex> hold(lock_);
             const std::int64_t oldest = now_ns() - patience;
             for (const Open& each : open_) {
               GEARBOX_SAFEPOINT();
               if (each.seen.load(std::memory_order_relaxed) < oldest) each.conn.close();
             }
           }));
  }
}

bool Server::add(const net::Conn& conn) {
  Guard<GoMutex> hold(lock_);
  if (stopped_) {
    conn.close();
    return false;
  }
  if (open_.size() >= limits_.clients) {
    store_.stats.rejected.fetch_add(1, std::memory_order_relaxed);
    conn.write("-ERR max number of clients reached\r\n");  // does not wait: nothing has been sent on it before
    conn.close();
    return true;
  }
  const auto place = open_.emplace(open_.end());
  place->conn = conn;
  done_.add(1);
  go([this, place] {
    serve(store_, place->conn, limits_, pool_, place->seen);
    place->conn.close();
    {
      Guard<GoMutex> hold(lock_);
      open_.erase(place);
    }
    done_.done();
  });
  return true;
}

void Server::accept_all() {
  std::int64_t pause = kFirstPause;
  for (;;) {
    auto conn = listener_.accept();
    if (!conn) {
      const int number = conn.error().error_number;
      if (number == ECANCELED) return;  // stop()
      if (!passes(number)) {
        failure_ = conn.error().message;
        const std::string line = fmt::format("kv_server: no more connections: {}\n", failure_);
        os::write_all(2, line.data(), line.size());
        listener_.close();  // nobody shall wait for an accept that never comes
        return;
      }
      sleep(pause);
      pause = std::min(2 * pause, kLongestPause);
      continue;
    }
    pause = kFirstPause;
    if (!add(*conn)) return;
  }
}

void Server::stop() {
  listener_.close();
  {
    Guard<GoMutex> hold(lock_);
    stopped_ = true;
    for (const Open& each : open_) each.conn.close();
  }
  ended_.close();
  done_.wait();
}

}  // namespace gearbox::workloads::kv
