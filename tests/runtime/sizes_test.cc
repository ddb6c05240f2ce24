// Counts, sizes and durations of the surface at their ends and beyond: what Go does with them, or the panic that Go has.
#include <functional>
#include <limits>

#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

constexpr auto kLeast = std::numeric_limits<std::int64_t>::min(), kMost = std::numeric_limits<std::int64_t>::max();
constexpr auto kMostUnsigned = std::numeric_limits<std::uint64_t>::max();

// What call() panics with; "" if it returns.
std::string panic_of(const std::function<void()>& call) {
  std::string message;
  scope([&](Defer& defer) {
    defer([&] {
      if (auto p = recover()) message = p->message;
    });
    call();
  });
  return message;
}

// Not known to the compiler, which would warn of what it can see.
template <class T>
[[gnu::noinline]] T given(T value) {
  asm volatile("" : "+m"(value));
  return value;
}

struct Case {
  const char* call;
  std::function<void()> run;
  const char* panic;  // what it begins with; "": none
};

const Case kCases[] = {
    {"make_chan(-1)", [] { make_chan<int>(given(-1)); }, "makechan: size out of range"},
    {"make_chan(int64 min)", [] { make_chan<int>(given(kLeast)); }, "makechan: size out of range"},
    {"make_chan(int8 -1)", [] { make_chan<int>(given<std::int8_t>(-1)); }, "makechan: size out of range"},
    {"make_chan(uint64 max)", [] { make_chan<int>(given(kMostUnsigned)); }, "makechan: size out of range"},
    {"make_chan(int64 max)", [] { make_chan<int>(given(kMost)); }, "makechan: size out of range"},
    {"make_chan of 2^61 times 8 bytes", [] { make_chan<std::int64_t>(given(std::int64_t{1} << 61)); },
     "makechan: size out of range"},
    {"Chan(-1)", [] { Chan<int>(given(-1)); }, "makechan: size out of range"},
    {"make_chan(0)", [] { EXPECT_EQ(make_chan<int>(given(0)).cap(), 0u); }, ""},
    {"make_array(-1)", [] { (void)make_array<int>(given(-1)); }, "runtime error: makeslice: len out of range"},
    {"make_array(int8 -1)", [] { (void)make_array<int>(given<std::int8_t>(-1)); },
     "runtime error: makeslice: len out of range"},
    {"make_array(uint64 max)", [] { (void)make_array<char>(given(kMostUnsigned)); },
     "runtime error: makeslice: len out of range"},
    {"make_array of 2^61 times 8 bytes", [] { (void)make_array<std::int64_t>(given(std::uint64_t{1} << 61)); },
     "runtime error: makeslice: len out of range"},
    {"make_bytes(-1)", [] { (void)make_bytes(given(-1)); }, "runtime error: makeslice: len out of range"},
    {"make_bytes(int64 min)", [] { (void)make_bytes(given(kLeast)); }, "runtime error: makeslice: len out of range"},
    {"make_bytes(0)", [] { EXPECT_NE(make_bytes(given(0)), nullptr); }, ""},

    {"gomaxprocs(-1)", [] { EXPECT_EQ(gomaxprocs(given(-1)), 2); }, ""},
    {"gomaxprocs(int64 min)", [] { EXPECT_EQ(gomaxprocs(given(kLeast)), 2); }, ""},
    {"gomaxprocs(257)", [] { gomaxprocs(given(257)); }, "GOMAXPROCS(257): from 1 to 256"},
    {"gomaxprocs(2^32 + 1)", [] { gomaxprocs(given((std::int64_t{1} << 32) + 1)); },
     "GOMAXPROCS(4294967297): from 1 to 256"},

    {"Semaphore(-1)", [] { Semaphore s(given(-1)); }, "semaphore: negative number of permits"},
    {"Semaphore(0)", [] { EXPECT_FALSE(Semaphore(given(0)).try_acquire()); }, ""},
    {"Semaphore(int64 max).release()", [] { Semaphore(given(kMost)).release(); }, "semaphore: released more than held"},
    {"WaitGroup.add(-1)", [] { WaitGroup().add(given(-1)); }, "sync: negative WaitGroup counter"},
    {"WaitGroup.add(int64 min)", [] { WaitGroup().add(given(kLeast)); }, "sync: negative WaitGroup counter"},
    {"WaitGroup.add() beyond int64",
     [] {
       WaitGroup group;
       group.add(given(kMost));
       group.add(given(1));
     },
     "sync: negative WaitGroup counter"},
    {"WaitGroup.add(int64 max)",
     [] {
       WaitGroup group;
       group.add(given(kMost));
       group.add(-given(kMost));
       group.wait();
     },
     ""},

    {"sleep(-1)", [] { gearbox::sleep(given(-1)); }, ""},
    {"sleep(int64 min)", [] { gearbox::sleep(given(kLeast)); }, ""},
    {"after(-1)", [] { EXPECT_GT(after(given(-1)).recv(), 0); }, ""},
    {"after(int64 min)", [] { EXPECT_GT(after(given(kLeast)).recv(), 0); }, ""},
    {"after(int64 max)", [] { select(on_recv(after(given(kMost)), [](std::int64_t) { FAIL(); }), otherwise([] {})); },
     ""},
    {"new_timer(int64 min)", [] { EXPECT_GT(new_timer(given(kLeast)).channel().recv(), 0); }, ""},
    {"new_timer(int64 max).stop()", [] { EXPECT_TRUE(new_timer(given(kMost)).stop()); }, ""},
    {"new_ticker(0)", [] { new_ticker(given(0)); }, "non-positive interval for NewTicker"},
    {"new_ticker(int64 min)", [] { new_ticker(given(kLeast)); }, "non-positive interval for NewTicker"},
    {"new_ticker(int64 max)", [] { EXPECT_TRUE(new_ticker(given(kMost)).stop()); }, ""},
    {"Ticker.reset(0)", [] { new_ticker(kSecond).reset(given(0)); }, "non-positive interval for Ticker.Reset"},
    {"Ticker.reset(-1)", [] { new_ticker(kSecond).reset(given(-1)); }, "non-positive interval for Ticker.Reset"},
    {"Timer.reset(-1)",
     [] {
       TimerHandle timer = new_timer(kSecond * 3600);
       timer.reset(given(-1));
       EXPECT_GT(timer.channel().recv(), 0);
     },
     ""},
    {"reset() of no timer", [] { TimerHandle().reset(given(1)); }, "time: Reset called on uninitialized Timer"},
    {"tick(-1)", [] { EXPECT_FALSE(tick(given(-1))); }, ""},
    {"after_func(int64 min)",
     [] {
       const auto called = make_chan<int>();
       after_func(given(kLeast), [called] { called.send(1); });
       called.recv();
     },
     ""},

    {"net: a deadline before the beginning of time",
     [] {
       const auto pair = *net::pipe();
       EXPECT_FALSE(pair.first.set_deadline(given(kLeast)));
       char byte;
       EXPECT_TRUE(pair.first.read({&byte, 1}).error.timeout());
     },
     ""},
    {"net: a deadline at the end of time",
     [] {
       const auto pair = *net::pipe();
       EXPECT_FALSE(pair.first.set_deadline(given(kMost)));
       EXPECT_TRUE(pair.first.write("x").ok());
       char byte;
       EXPECT_TRUE(pair.second.read({&byte, 1}).ok());
     },
     ""},
    {"net: a port beyond 65535", [] { EXPECT_FALSE(net::listen("127.0.0.1:65536").ok()); }, ""},
    {"net: a negative port", [] { EXPECT_FALSE(net::listen("127.0.0.1:-1").ok()); }, ""},
};

TEST(Sizes, MoreElementsThan32BitsCount) {
  if (kSanitized) GTEST_SKIP() << "the sanitizers keep notes on 4 GiB that nobody touches otherwise";
  run(Program{}, [] {
    EXPECT_EQ(make_chan<char>(given(std::int64_t{1} << 32)).cap(), std::uint64_t{1} << 32);
    const auto c = make_chan<char>(given((std::uint64_t{1} << 32) + 1));
    for (int i = 0; i < 5; ++i) c.send('x');
    EXPECT_EQ(c.len(), 5u);
  });
}

TEST(Sizes, AtTheirEndsAndBeyond) {
  Program s;
  s.poller = "epoll";
  s.options.procs = 2;
  run(s, [] {
    // No SCOPED_TRACE: it keeps a list for each thread, and this goroutine moves.
    for (const Case& c : kCases) {
      const std::string message = panic_of(c.run);
      if (*c.panic == '\0')
        EXPECT_EQ(message, "") << c.call;
      else
        EXPECT_EQ(message.substr(0, std::string_view(c.panic).size()), c.panic) << c.call;
    }
  });
}

// More than there is, but not more than there could be: the end, as in Go, and not a C++ exception.
TEST(SizesDeathTest, AChannelLargerThanMemoryIsTheEnd) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's allocator ends the process itself";
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(run(Program{}, [] { make_chan<char>(given(std::int64_t{1} << 45)); }), ::testing::ExitedWithCode(2),
              "fatal error: out of memory: a channel of 35184372088832 elements of 1 byte");
}
TEST(SizesDeathTest, ARowLargerThanTheHeapIsTheEnd) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const auto& allocator : all_allocators()) {
    Program s;
    s.allocator = allocator.name;
    s.collector = s.allocator == "bump" ? "none" : "stw";
    EXPECT_EXIT(run(s, [] { keep_alive(make_bytes(std::int64_t{1} << 45)); }), ::testing::ExitedWithCode(2),
                "fatal error: out of memory");
  }
}

}  // namespace
}  // namespace gearbox::testing
