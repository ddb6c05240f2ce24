// A raw epoll loop: what is left of the echo workload without goroutines, a runtime or a poller's contract.
//
// A thread is a loop with an epoll instance of its own. It holds both ends of its share of the connections, so that no round
// trip waits for another thread: the fastest that this program can be on this kernel. Level-triggered; an end waits for
// room only while something of it is unsent.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

#include "workloads/peers/peer.h"

namespace gearbox::peers {
namespace {

constexpr std::size_t kServerBufferBytes = 4096;

// Ends the program's run with the name of the call and errno's text.
[[noreturn]] void fail(const char* call) {
  throw Failure(std::string(call) + ": " + std::generic_category().message(errno));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  void close() {
    if (number_ >= 0) ::close(number_);
    number_ = -1;
  }

 private:
  int number_;
};

// One end of a connection. Sends what is in `unsent` before it does anything else.
class End {
 public:
  explicit End(int number) : socket(number) {}
  virtual ~End() = default;
  virtual void received(const char* bytes, std::size_t count) = 0;
  virtual bool ended() const = 0;  // nothing is to be sent or received any more

  Descriptor socket;
  std::string unsent;
  std::size_t sent = 0;  // of unsent
  std::uint32_t watched = 0;
};

class ServerEnd final : public End {
 public:
  using End::End;
  void received(const char* bytes, std::size_t count) override { unsent.append(bytes, count); }
  bool ended() const override { return false; }  // the client ends a connection
};

class ClientEnd final : public End {
 public:
  ClientEnd(int number, std::uint64_t connection, std::size_t message_bytes, std::uint64_t rounds)
      : End(number), message_(message_bytes, '\0'), connection_(connection), rounds_(rounds) {
    next_message();
  }
  void received(const char* bytes, std::size_t count) override {
    if (count > message_.size() - back_ || std::memcmp(bytes, message_.data() + back_, count) != 0)
      throw Failure("connection " + std::to_string(connection_) + " got other bytes back");
    back_ += count;
    if (back_ < message_.size()) return;
    back_ = 0;
    if (++round_ < rounds_) next_message();
  }
  bool ended() const override { return round_ == rounds_; }

 private:
  // Different for each connection, round and place, so that a byte from elsewhere is noticed.
  void next_message() {
    for (std::size_t i = 0; i < message_.size(); ++i) message_[i] = static_cast<char>(connection_ * 31 + round_ + i);
    unsent += message_;
  }

  std::string message_;
  std::size_t back_ = 0;  // bytes of the message that came back
  const std::uint64_t connection_, rounds_;
  std::uint64_t round_ = 0;
};

class Loop {
 public:
  Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll_.number() < 0) fail("epoll_create1");
  }
  void add(std::unique_ptr<End> end) {
    watch(*end, EPOLL_CTL_ADD, EPOLLIN);
    ends_.push_back(std::move(end));
  }
  // Until each end is closed. What failed is in failure().
  void run() {
    try {
      open_ = ends_.size();
      for (auto& end : ends_) send_unsent(*end);
      std::vector<epoll_event> events(256);
      while (open_ > 0) {
        const int count = epoll_wait(epoll_.number(), events.data(), static_cast<int>(events.size()), -1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; ++i) serve(*static_cast<End*>(events[static_cast<std::size_t>(i)].data.ptr));
      }
    } catch (const std::exception& failed) {
      failure_ = failed.what();
      for (auto& end : ends_) end->socket.close();
    }
  }
  const std::string& failure() const { return failure_; }

 private:
  void watch(End& end, int operation, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = &end;
    if (epoll_ctl(epoll_.number(), operation, end.socket.number(), &event) != 0) fail("epoll_ctl");
    end.watched = events;
  }
  void send_unsent(End& end) {
    while (end.sent < end.unsent.size()) {
      const ssize_t count =
          ::send(end.socket.number(), end.unsent.data() + end.sent, end.unsent.size() - end.sent, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno != EAGAIN) fail("send");
      if (count < 0) break;
      end.sent += static_cast<std::size_t>(count);
    }
    const bool all = end.sent == end.unsent.size();
    if (all) {
      end.unsent.clear();
      end.sent = 0;
    }
    const std::uint32_t wanted = all ? EPOLLIN : EPOLLIN | EPOLLOUT;
    if (wanted != end.watched) watch(end, EPOLL_CTL_MOD, wanted);
  }
  void serve(End& end) {
    char buffer[kServerBufferBytes];
    const ssize_t count = ::recv(end.socket.number(), buffer, sizeof(buffer), 0);
    if (count < 0 && errno != EAGAIN && errno != EINTR) fail("recv");
    if (count == 0 && !end.unsent.empty()) throw Failure("a connection ended before all was sent");
    if (count > 0) end.received(buffer, static_cast<std::size_t>(count));
    if (count == 0 || end.ended()) {
      end.socket.close();  // which takes it out of the epoll instance
      --open_;
      return;
    }
    send_unsent(end);
  }

  Descriptor epoll_;
  std::vector<std::unique_ptr<End>> ends_;
  std::size_t open_ = 0;
  std::string failure_;
};

// As runtimes do for their programs: a connection needs two descriptors.
void raise_descriptor_limit() {
  struct rlimit limit {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void prepare(int number) {
  const int on = 1;
  if (setsockopt(number, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) fail("setsockopt");
  if (fcntl(number, F_SETFL, O_NONBLOCK) != 0) fail("fcntl");
}

Values echo(const Params& params, const Machine& machine) {
  const std::uint64_t connections = params.at("connections"), message_bytes = params.at("message_bytes");
  const std::uint64_t requests = params.at("requests");
  if (connections == 0 || connections > 50'000 || message_bytes == 0 || message_bytes > 1 << 20 || requests == 0)
    throw Failure("connections is from 1 to 50000, message_bytes from 1 to 1048576, and requests at least 1");
  raise_descriptor_limit();
  const std::uint64_t rounds = (requests + connections - 1) / connections;
  const Descriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (listener.number() < 0) fail("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener.number(), any, length) != 0) fail("bind");
  if (listen(listener.number(), SOMAXCONN) != 0) fail("listen");
  if (getsockname(listener.number(), any, &length) != 0) fail("getsockname");
  std::vector<std::unique_ptr<Loop>> loops;
  for (unsigned i = 0; i < machine.procs; ++i) loops.push_back(std::make_unique<Loop>());
  for (std::uint64_t i = 0; i < connections; ++i) {
    const int client_number = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client_number < 0) fail("socket");
    auto client = std::make_unique<ClientEnd>(client_number, i, message_bytes, rounds);
    if (connect(client_number, any, length) != 0) fail("connect");
    const int server_number = accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC);
    if (server_number < 0) fail("accept4");
    auto server = std::make_unique<ServerEnd>(server_number);
    prepare(client_number);
    prepare(server_number);
    Loop& loop = *loops[i % loops.size()];
    loop.add(std::move(client));
    loop.add(std::move(server));
  }
  const std::int64_t began = now_ns();
  std::vector<std::thread> threads;
  for (auto& loop : loops) threads.emplace_back([&loop] { loop->run(); });
  for (auto& thread : threads) thread.join();
  const std::int64_t elapsed_ns = now_ns() - began;
  for (const auto& loop : loops)
    if (!loop->failure().empty()) throw Failure(loop->failure());
  return {{"throughput", static_cast<double>(rounds * connections) * 1e9 / static_cast<double>(elapsed_ns)}};
}

}  // namespace
}  // namespace gearbox::peers

int main(int argc, char** argv) {
  using namespace gearbox::peers;
  Peer peer;
  utsname kernel{};
  uname(&kernel);
  peer.version = std::string("epoll of Linux ") + kernel.release;
  peer.workloads["echo"] = {{{"connections", 64}, {"message_bytes", 64}, {"requests", 300'000}}, echo};
  return peer_main(argc, argv, peer);
}
