// Every call of the surface is a safepoint, or comes past one: a loop of it can be stopped and preempted. The rows are
// held against runtime/api.h by tests/house/surface_calls_test.py, which fails for a call without one.
#include "base/os/clock.h"
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

// What the calls are made on. Each row gets its own, made on the goroutine that loops.
struct Things {
  Chan<int> wide = make_chan<int>(1 << 20), empty = make_chan<int>(1), closed = make_chan<int>();
  GoMutex mutex, held;
  RWMutex rw;
  Cond cond{mutex};
  Once once;
  WaitGroup group, none;
  Semaphore semaphore{0};
  TimerHandle timer = new_timer(3600 * kSecond);
  std::pair<net::Conn, net::Conn> conns = *net::pipe();
  net::Listener listener = *net::listen("127.0.0.1:0");
  net::Conn ended;  // its peer has gone
  int* object = make<int>(1);
  char buffer[16] = {};
  Things() {
    closed.close();
    held.lock();
    once.run([] {});
    auto pair = *net::pipe();
    ended = pair.first;
    pair.second.close();
  }
  void send() {
    if (wide.len() == wide.cap()) wide = make_chan<int>(1 << 20);
    wide.send(1);
  }
};

struct Row {
  const char* name;
  void (*call)(Things& t);  // null: not looped
};
#define ROW(name, ...) Row{name, [](Things& t) { (void)t, __VA_ARGS__; }},
#define NO_ROW(name, why)
constexpr const char* kHandle = "looks at the caller's own handle or value, which no other goroutine may change";
constexpr const char* kMoves = "runs where values move, which is under a channel's lock";
constexpr const char* kInner = "the runtime's own";
constexpr const char* kEnds = "ends the process";
[[maybe_unused]] constexpr const char* kWhys[] = {kHandle, kMoves, kInner, kEnds};

// A call a line.
// clang-format off
const Row kRows[] = {
    // blocking.h
    ROW("blocking", blocking([] {}))
    // chan.h
    ROW("make_chan", make_chan<int>(1))
    ROW("Chan::Chan", Chan<int>(1))
    ROW("Chan::send", t.send())
    ROW("Chan::recv", t.closed.recv())
    ROW("Chan::recv_ok", t.closed.recv_ok())
    ROW("Chan::close", make_chan<int>().close())
    ROW("Chan::len", t.empty.len())
    ROW("Chan::cap", t.empty.cap())
    ROW("Chan::begin", t.closed.begin())
    NO_ROW("Chan::end", kHandle)
    NO_ROW("Chan::operator bool", kHandle)
    NO_ROW("Chan::operator==", kHandle)
    NO_ROW("Chan::core", kInner)
    NO_ROW("Chan::adopt", kInner)
    // errno.h
    NO_ROW("gearbox_errno_location", kInner)
    ROW("Chan::Iterator::Iterator", Chan<int>::Iterator(&t.closed))
    ROW("Chan::Iterator::operator++", ++Chan<int>::Iterator(&t.closed))
    NO_ROW("Chan::Iterator::operator*", kHandle)
    NO_ROW("Chan::Iterator::operator!=", kHandle)
    // go.h
    ROW("go", go([] {}))
    ROW("gosched", gosched())
    ROW("num_goroutine", num_goroutine())
    ROW("gomaxprocs", gomaxprocs(0))
    ROW("num_cpu", num_cpu())
    ROW("lock_os_thread", lock_os_thread())
    ROW("unlock_os_thread", unlock_os_thread())
    ROW("stack", stack())
    ROW("goroutine_id", goroutine_id())
    // heap.h
    ROW("make", keep_alive(make<int>(1)))
    ROW("make_array", keep_alive(make_array<int>(4).data()))
    ROW("make_bytes", keep_alive(make_bytes(100)))
    ROW("gc", gc())
    ROW("read_mem_stats", read_mem_stats())
    ROW("set_finalizer", set_finalizer(t.object, [](int*) {}))
    NO_ROW("set_finalizer_erased", kInner)
    NO_ROW("shade_if_marking", kInner)
    // net.h
    ROW("net::listen", net::listen("127.0.0.1:0"))
    ROW("net::dial", net::dial("127.0.0.1:1"))
    ROW("net::dial_until", net::dial_until("127.0.0.1:1", 1))
    ROW("net::pipe", net::pipe())
    ROW("net::adopt", net::adopt(-1))
    ROW("net::real", net::real())
    ROW("net::Conn::read", t.ended.read(t.buffer))
    ROW("net::Conn::read_full", t.ended.read_full(t.buffer))
    ROW("net::Conn::write", t.ended.write("x"))
    ROW("net::Conn::close", t.conns.first.close())
    ROW("net::Conn::close_write", t.conns.first.close_write())
    ROW("net::Conn::set_linger_zero", t.conns.first.set_linger_zero())
    ROW("net::Conn::set_deadline", t.conns.first.set_deadline(0))
    ROW("net::Conn::set_read_deadline", t.conns.first.set_read_deadline(0))
    ROW("net::Conn::set_write_deadline", t.conns.first.set_write_deadline(0))
    ROW("net::Conn::local_address", t.conns.first.local_address())
    ROW("net::Conn::remote_address", t.conns.first.remote_address())
    NO_ROW("net::Conn::operator bool", kHandle)
    ROW("net::Listener::accept", t.listener.set_deadline(1), t.listener.accept())
    ROW("net::Listener::close", t.listener.close())
    ROW("net::Listener::set_deadline", t.listener.set_deadline(1))
    ROW("net::Listener::address", t.listener.address())
    NO_ROW("net::Listener::operator bool", kHandle)
    NO_ROW("net::Failure::Failure", kHandle)
    NO_ROW("net::Failure::closed", kHandle)
    NO_ROW("net::Failure::number", kHandle)
    NO_ROW("net::Failure::operator bool", kHandle)
    NO_ROW("net::Failure::text", kHandle)
    NO_ROW("net::Failure::timeout", kHandle)
    NO_ROW("net::Transfer::ok", kHandle)
    // panic.h
    ROW("scope", scope([](Defer&) {}))
    ROW("Defer::operator()", scope([](Defer& defer) { defer([] {}); }))
    ROW("panic", scope([](Defer& defer) { defer([] { recover(); }); panic("again"); }))
    ROW("runtime_panic", scope([](Defer& defer) { defer([] { recover(); }); runtime_panic("again"); }))
    ROW("recover", recover())
    ROW("goexit", go([] { goexit(); }))
    NO_ROW("run_guarded", kInner)
    NO_ROW("raise_fault", kInner)
    NO_ROW("report_panic", kInner)
    NO_ROW("on_terminate", kInner)
    // root.h
    NO_ROW("Root::Root", kMoves)
    NO_ROW("Root::load", kMoves)
    NO_ROW("Root::store", kMoves)
    NO_ROW("Root::operator T *", kMoves)
    NO_ROW("Root::operator*", kMoves)
    NO_ROW("Root::operator->", kMoves)
    NO_ROW("RootBlock::RootBlock", kInner)
    NO_ROW("RootBlock::enlist", kInner)
    NO_ROW("RootBlock::withdraw", kInner)
    NO_ROW("roots::exact", kInner)
    NO_ROW("roots::visit", kInner)
    NO_ROW("roots::shade", kInner)
    NO_ROW("roots::set_without_p", kInner)
    NO_ROW("roots::ShadeList::open", kInner)
    NO_ROW("roots::ShadeList::close", kInner)
    NO_ROW("roots::ShadeList::take", kInner)
    // select.h
    ROW("select", select(on_recv(t.empty, [](int) {}), otherwise([] {})))
    NO_ROW("on_recv", kHandle)
    NO_ROW("on_send", kHandle)
    NO_ROW("otherwise", kHandle)
    // sync.h
    ROW("GoMutex::lock", t.mutex.lock(), t.mutex.unlock())
    ROW("GoMutex::unlock", t.mutex.try_lock(), t.mutex.unlock())
    ROW("GoMutex::try_lock", t.held.try_lock())
    ROW("RWMutex::lock", t.rw.lock(), t.rw.unlock())
    ROW("RWMutex::unlock", t.rw.lock(), t.rw.unlock())
    ROW("RWMutex::rlock", t.rw.rlock())
    ROW("RWMutex::runlock", t.rw.rlock(), t.rw.runlock())
    ROW("WaitGroup::add", t.group.add(1))
    ROW("WaitGroup::done", t.group.add(1), t.group.done())
    ROW("WaitGroup::wait", t.none.wait())
    ROW("Semaphore::acquire", t.semaphore.release(), t.semaphore.acquire())
    ROW("Semaphore::try_acquire", t.semaphore.try_acquire())
    ROW("Semaphore::release", t.semaphore.release())
    NO_ROW("Semaphore::Semaphore", kHandle)
    ROW("Once::run", t.once.run([] {}))
    NO_ROW("Cond::Cond", kHandle)
    ROW("Cond::signal", t.cond.signal())
    ROW("Cond::broadcast", t.cond.broadcast())
    ROW("Cond::wait", t.mutex.lock(), go([&t] { t.mutex.lock(); t.cond.signal(); t.mutex.unlock(); }), t.cond.wait(), t.mutex.unlock())
    // time.h
    ROW("now_ns", now_ns())
    ROW("sleep", gearbox::sleep(0))
    ROW("after", after(3600 * kSecond))
    ROW("tick", tick(3600 * kSecond))
    ROW("new_timer", (void)new_timer(3600 * kSecond))
    ROW("new_ticker", (void)new_ticker(3600 * kSecond))
    ROW("after_func", after_func(3600 * kSecond, [] {}).stop())
    ROW("TimerHandle::stop", t.timer.stop())
    ROW("TimerHandle::reset", t.timer.reset(3600 * kSecond))
    ROW("TimerHandle::channel", t.timer.channel())
};
// clang-format on

constexpr std::int64_t kPatience = 30 * kSecond;  // of a loop that cannot be stopped: then it ends by itself, and fails

// Loops over the call until `stop`, or gives up.
struct Loop {
  const Row& row;
  std::atomic<bool> stop{false}, gave_up{false};
  std::atomic<std::uint64_t> rounds{0};
  WaitGroup ended;
  explicit Loop(const Row& which) : row(which) {
    ended.add(1);
    go([this] {
      Things things;
      // No call of the surface in here but the row's.
      const std::int64_t limit = os::monotonic_ns() + kPatience;
      while (!stop.load(std::memory_order_relaxed)) {
        row.call(things);
        rounds.fetch_add(1, std::memory_order_relaxed);
        if (os::monotonic_ns() < limit) continue;
        gave_up = true;
        break;
      }
      ended.done();
    });
  }
  ~Loop() {
    stop = true;
    ended.wait();
    EXPECT_FALSE(gave_up.load()) << "a loop of " << row.name << "() comes past no safepoint";
  }
};

Program setup(std::uint64_t procs) {
  Program s;
  s.poller = "epoll";
  s.options.procs = procs;
  s.options.slice_us = 100;
  s.options.preempt = RuntimeOptions::Preempt::kFlag;  // no signal helps out where a safepoint is missing
  return s;
}

TEST(Safepoints, EachCallCanBeStopped) {
  for (const Row& row : kRows)
    run(setup(2), [&] {
      Loop loop(row);
      while (loop.rounds.load(std::memory_order_relaxed) == 0) gosched();
      for (int i = 0; i < 5; ++i) {
        gc();
        gosched();
      }
    });
}

TEST(Safepoints, EachCallCanBePreempted) {
  for (const Row& row : kRows)
    run(setup(1), [&] {
      Loop loop(row);
      while (loop.rounds.load(std::memory_order_relaxed) == 0) gosched();
      for (int i = 0; i < 5; ++i) gosched();
    });
}

// The same calls where there is no P, or no runtime at all: no safepoint may be looked for there.
TEST(Safepoints, AreNotLookedForWithoutAP) {
  const auto calls = [] {
    const auto c = make_chan<int>(1);
    EXPECT_EQ(c.len(), 0u);
    EXPECT_EQ(c.cap(), 1u);
    EXPECT_GT(now_ns(), 0);
    EXPECT_GE(num_cpu(), 1);
    WaitGroup group;
    group.add(1);
    group.done();
    group.wait();
    Once once;
    once.run([] {});
    GoMutex mutex;
    mutex.lock();
    mutex.unlock();
    EXPECT_FALSE(recover());
    TimerHandle none;
    EXPECT_FALSE(none.stop());
    EXPECT_FALSE(none.channel());
  };
  calls();
  run(setup(1), [&] { blocking(calls); });
}

}  // namespace
}  // namespace gearbox::testing
