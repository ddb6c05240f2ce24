#include "workloads/kv_server/server.h"

#include <cerrno>

#include "base/os/file.h"

namespace gearbox::workloads::kv {
namespace {
constexpr std::int64_t kFirstPause = kMillisecond, kLongestPause = 100 * kMillisecond;
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
    lock_.lock();
    if (stopped_) {
      lock_.unlock();
      conn->close();
      return;
    }
    const auto place = open_.insert(open_.end(), *conn);
    lock_.unlock();
    done_.add(1);
    go([this, place, conn = *conn] {
      serve(store_, conn, limits_);
      conn.close();
      {
        Guard<GoMutex> hold(lock_);
        open_.erase(place);
      }
      done_.done();
    });
  }
}

void Server::stop() {
  listener_.close();
  {
    Guard<GoMutex> hold(lock_);
    stopped_ = true;
    for (const net::Conn& conn : open_) conn.close();
  }
  done_.wait();
}

}  // namespace gearbox::workloads::kv
