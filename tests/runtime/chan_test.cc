// Channels and select: Go's semantics, case by case.
#include <map>
#include <memory>
#include <string>

#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

Program two() {
  Program s;
  s.options.procs = 2;
  return s;
}

TEST(Chan, UnbufferedHandsOverInOrder) {
  run(two(), [] {
    const auto c = make_chan<int>();
    go([=] {
      for (int i = 0; i < 1000; ++i) c.send(i);
      c.close();
    });
    int next = 0;
    for (int v : c) EXPECT_EQ(v, next++);
    EXPECT_EQ(next, 1000);
  });
}

TEST(Chan, BufferedKeepsWhatWasSentBeforeClose) {
  run(two(), [] {
    const auto c = make_chan<std::string>(3);
    c.send("a");
    c.send(std::string(100, 'b'));
    c.close();
    EXPECT_EQ(c.len(), 2u);
    EXPECT_EQ(c.cap(), 3u);
    EXPECT_EQ(c.recv(), "a");
    EXPECT_EQ(c.recv_ok().value, std::string(100, 'b'));
    const auto [v, ok] = c.recv_ok();
    EXPECT_FALSE(ok);
    EXPECT_EQ(v, "");
  });
}

TEST(Chan, MoveOnlyValuesPass) {
  run(two(), [] {
    const auto c = make_chan<std::unique_ptr<int>>(1);
    const auto d = make_chan<std::unique_ptr<int>>();
    go([=] { d.send(c.recv()); });
    c.send(std::make_unique<int>(5));
    EXPECT_EQ(*d.recv(), 5);
  });
}

TEST(Chan, ClosedAndNilMisuseIsGosPanic) {
  run(two(), [] {
    const auto message_of = [](auto f) {
      std::string message;
      scope([&](Defer& defer) {
        defer([&] {
          if (auto p = recover()) message = p->message;
        });
        f();
      });
      return message;
    };
    const auto closed = make_chan<int>(1);
    closed.close();
    EXPECT_EQ(message_of([&] { closed.send(1); }), "send on closed channel");
    EXPECT_EQ(message_of([&] { closed.close(); }), "close of closed channel");
    EXPECT_EQ(message_of([] { Chan<int>().close(); }), "close of nil channel");
    const auto c = make_chan<int>();
    go([=] {
      gearbox::sleep(kMillisecond);
      c.close();
    });
    EXPECT_EQ(message_of([&] { c.send(1); }), "send on closed channel");
    EXPECT_EQ(message_of([&] { select(on_send(closed, 1, [] {})); }), "send on closed channel");
  });
}

TEST(Chan, CloseWakesAllReceivers) {
  run(two(), [] {
    const auto c = make_chan<int>();
    WaitGroup group;
    group.add(20);
    for (int i = 0; i < 20; ++i)
      go([&, c] {
        EXPECT_FALSE(c.recv_ok().ok);
        group.done();
      });
    gearbox::sleep(kMillisecond);
    c.close();
    group.wait();
  });
}

TEST(Chan, ManyToManyLosesNothing) {
  constexpr std::uint64_t kEach = kSanitized ? 300 : 5000;
  for (std::uint32_t capacity : {0u, 1u, 7u, 128u}) {
    run(two(), [capacity] {
      const auto c = make_chan<std::uint64_t>(capacity);
      const auto sums = make_chan<std::uint64_t>(4);
      WaitGroup senders;
      senders.add(4);
      for (std::uint64_t s = 0; s < 4; ++s)
        go([&, c, s] {
          for (std::uint64_t i = 0; i < kEach; ++i) c.send(s * kEach + i);
          senders.done();
        });
      for (int r = 0; r < 4; ++r)
        go([=] {
          std::uint64_t sum = 0;
          for (std::uint64_t v : c) sum += v;
          sums.send(sum);
        });
      senders.wait();
      c.close();
      std::uint64_t sum = 0;
      for (int r = 0; r < 4; ++r) sum += sums.recv();
      EXPECT_EQ(sum, 4 * kEach * (4 * kEach - 1) / 2);
    });
  }
}

TEST(Select, DefaultWhenNothingIsReady) {
  run(two(), [] {
    const auto c = make_chan<int>();
    int what = 0;
    select(on_recv(c, [&](int) { what = 1; }), otherwise([&] { what = 2; }));
    EXPECT_EQ(what, 2);
    select(on_recv(Chan<int>(), [&](int) { what = 3; }), otherwise([&] { what = 4; }));
    EXPECT_EQ(what, 4);
  });
}

// Whoever asks with a default takes a value and puts it back, so the channel never runs dry, and never closes: the default
// would be a lie, although nobody holds the lock to look.
TEST(Select, DefaultIsNotTakenWhileThereIsAlwaysAValue) {
  run(Program{}.procs(4), [] {
    constexpr int kAskers = 4, kTurns = 20'000;
    const auto values = make_chan<int>(kAskers + 1);
    for (int i = 0; i < kAskers + 1; ++i) values.send(i);
    std::atomic<int> defaults{0};
    WaitGroup group;
    group.add(kAskers);
    for (int i = 0; i < kAskers; ++i)
      go([&] {
        for (int k = 0; k < kTurns; ++k) {
          int taken = -1;
          select(on_recv(values, [&](int v) { taken = v; }), otherwise([&] { ++defaults; }));
          if (taken >= 0) select(on_send(values, taken, [] {}), otherwise([&] { ++defaults; }));
        }
        group.done();
      });
    group.wait();
    EXPECT_EQ(defaults, 0);
    EXPECT_EQ(values.len(), kAskers + 1u);
  });
}

// A receiver that finds its channel closed, or not ready, was right at some moment: after a close, the next look sees it.
TEST(Select, DefaultAfterACloseIsNotTaken) {
  run(Program{}.procs(2), [] {
    for (int round = 0; round < 2000; ++round) {
      const auto channel = make_chan<int>(1);
      std::atomic<bool> closed{false};
      go([&, channel] {
        channel.send(7);
        channel.close();
        closed = true;
      });
      int got = 0;
      for (bool ended = false; !ended;) {
        const bool was_closed = closed;
        bool idle = false;
        select(on_recv(channel,
                       [&](int, bool ok) {
                         if (ok) ++got;
                         ended = !ok;
                       }),
               otherwise([&] { idle = true; }));
        ASSERT_FALSE(was_closed && idle);
        if (idle) gosched();
      }
      EXPECT_EQ(got, 1);
      while (!closed) gosched();
    }
  });
}

TEST(Select, ReadyCasesShareFairly) {
  run(two(), [] {
    const auto a = make_chan<int>(1000), b = make_chan<int>(1000);
    for (int i = 0; i < 1000; ++i) {
      a.send(0);
      b.send(1);
    }
    int from[2] = {0, 0};
    for (int i = 0; i < 1000; ++i) select(on_recv(a, [&](int v) { ++from[v]; }), on_recv(b, [&](int v) { ++from[v]; }));
    // 500 +- 8 standard deviations.
    EXPECT_GT(from[0], 370);
    EXPECT_GT(from[1], 370);
  });
}

TEST(Select, ReceiveTellsClosedFromValue) {
  run(two(), [] {
    const auto c = make_chan<int>(1);
    c.send(9);
    c.close();
    bool first = false, second = true;
    select(on_recv(c, [&](int v, bool ok) { first = ok && v == 9; }));
    select(on_recv(c, [&](int, bool ok) { second = ok; }));
    EXPECT_TRUE(first);
    EXPECT_FALSE(second);
  });
}

TEST(Select, SendersAndReceiversMeetExactlyOnce) {
  constexpr int kEach = kSanitized ? 300 : 5000;
  run(two(), [] {
    const auto a = make_chan<int>(), b = make_chan<int>(2), stop = make_chan<int>();
    std::atomic<std::uint64_t> sent{0}, received{0}, count{0};
    WaitGroup senders, receivers;
    senders.add(3);
    receivers.add(3);
    for (int s = 0; s < 3; ++s)
      go([&, s] {
        for (int i = 0; i < kEach; ++i) {
          const int v = s * kEach + i;
          select(on_send(a, v, [] {}), on_send(b, v, [] {}));
          sent.fetch_add(static_cast<std::uint64_t>(v));
        }
        senders.done();
      });
    for (int r = 0; r < 3; ++r)
      go([&] {
        bool running = true;
        const auto take = [&](int v) {
          received.fetch_add(static_cast<std::uint64_t>(v));
          count.fetch_add(1);
        };
        while (running) select(on_recv(a, take), on_recv(b, take), on_recv(stop, [&](int) { running = false; }));
        receivers.done();
      });
    senders.wait();
    while (b.len() > 0) gosched();
    stop.close();
    receivers.wait();
    EXPECT_EQ(count.load(), 3u * kEach);
    EXPECT_EQ(sent.load(), received.load());
  });
}

TEST(Select, TheSameChannelTwice) {
  run(two(), [] {
    const auto c = make_chan<int>();
    go([=] {
      for (int i = 0; i < 100; ++i) c.send(i);
    });
    int sum = 0;
    for (int i = 0; i < 100; ++i) select(on_recv(c, [&](int v) { sum += v; }), on_recv(c, [&](int v) { sum += v; }));
    EXPECT_EQ(sum, 4950);
  });
}

TEST(Time, TimersTickersAndStop) {
  run(two(), [] {
    auto timer = new_timer(2 * kMillisecond);
    EXPECT_GT(timer.channel().recv(), 0);
    EXPECT_FALSE(timer.stop());
    EXPECT_FALSE(timer.reset(1000 * kSecond));
    EXPECT_TRUE(timer.stop());

    auto ticker = new_ticker(kMillisecond);
    std::int64_t last = 0;
    for (int i = 0; i < 5; ++i) {
      const std::int64_t now = ticker.channel().recv();
      EXPECT_GT(now, last);
      last = now;
    }
    ticker.stop();

    std::atomic<int> called{0};
    WaitGroup group;
    group.add(1);
    after_func(kMillisecond, [&] {
      called.fetch_add(1);
      group.done();
    });
    group.wait();
    EXPECT_EQ(called.load(), 1);

    auto never = after_func(kSecond * 1000, [&] { called.fetch_add(1); });
    EXPECT_TRUE(never.stop());
    EXPECT_FALSE(never.stop());

    bool timed_out = false;
    select(on_recv(make_chan<int>(), [](int) {}),
           on_recv(after(kMillisecond), [&](std::int64_t) { timed_out = true; }));
    EXPECT_TRUE(timed_out);
  });
}

// A value that was sent before stop() or reset() is not received afterwards (Go 1.23).
TEST(Time, ResetDropsTheStaleValue) {
  run(two(), [] {
    auto timer = new_timer(kMillisecond);
    gearbox::sleep(5 * kMillisecond);
    EXPECT_TRUE(timer.reset(20 * kMillisecond));
    const std::int64_t began = now_ns();
    timer.channel().recv();
    EXPECT_GE(now_ns() - began, 19 * kMillisecond);
  });
}

TEST(Time, ManyTimersDieWhileTheyFire) {
  run(two(), [] {
    for (int round = 0; round < 50; ++round) {
      std::vector<TimerHandle> timers;
      for (int i = 0; i < 40; ++i)
        timers.push_back(i % 2 == 0 ? new_timer(i * 10 * kMicrosecond) : new_ticker((i + 1) * 10 * kMicrosecond));
      gearbox::sleep(200 * kMicrosecond);
      timers.clear();
    }
  });
}

}  // namespace
}  // namespace gearbox::testing
