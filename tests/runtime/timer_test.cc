// Timers of the language surface: what stop() and reset() promise, and who keeps a timer alive.
#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

// More Ps than CPUs: the kernel takes the CPU from an M that has a timer in its hands, between the heap and the delivery.
Program crowded() {
  Program s;
  s.options.procs = 8;
  return s;
}

std::size_t armed_timers() {
  std::size_t armed = 0;
  for (PId p = 0; p < current_runtime().p_count(); ++p) armed += current_runtime().p(p).timers.size();
  return armed;
}
// Waits for `done`, for as long as a machine under load may take.
template <class F>
bool eventually(F done) {
  for (int i = 0; i < 20'000 && !done(); ++i) gearbox::sleep(kMillisecond);
  return done();
}

// Calls body(round, random) from several goroutines at a time.
template <class F>
void storm(int rounds, F body) {
  WaitGroup group;
  constexpr int kGoroutines = 3;
  group.add(kGoroutines);
  for (int g = 0; g < kGoroutines; ++g)
    go([&, g] {
      Random random(static_cast<std::uint64_t>(g) + 1);
      for (int i = 0; i < rounds; ++i) body(random);
      group.done();
    });
  group.wait();
}
void wait_about(Random& random, std::int64_t ns) {
  const std::int64_t until = now_ns() + static_cast<std::int64_t>(random.below(static_cast<std::uint32_t>(2 * ns)));
  while (now_ns() < until) gosched();  // timers are looked at between two goroutines
}
constexpr int kRounds = kSanitized ? 3000 : 60'000;
constexpr std::int64_t kShort = 8 * kMicrosecond;

// ---- stop() and reset() say true exactly if they have prevented a delivery.

// `if (!t.stop()) c.recv();` would hang where stop() says false and no value comes.
TEST(TimerStop, FalseMeansThatTheValueIsThere) {
  run(crowded(), [] {
    std::atomic<int> lost{0};
    storm(kRounds, [&](Random& random) {
      TimerHandle timer = new_timer(kShort);
      wait_about(random, kShort);
      // A value that nobody has received is taken back by stop(), as in Go 1.23: then it says true.
      if (!timer.stop()) lost.fetch_add(1);
    });
    EXPECT_EQ(lost.load(), 0) << "stop() said false, and there was nothing to receive";
  });
}

TEST(TimerReset, FalseMeansThatTheValueIsThere) {
  run(crowded(), [] {
    std::atomic<int> lost{0};
    storm(kRounds, [&](Random& random) {
      TimerHandle timer = new_timer(kShort);
      wait_about(random, kShort);
      if (!timer.reset(1000 * kSecond)) lost.fetch_add(1);
      if (!timer.stop()) lost.fetch_add(1);
    });
    EXPECT_EQ(lost.load(), 0);
  });
}

// With a receiver: each timer is either stopped or received, never both and never neither.
TEST(TimerStop, AValueIsEitherStoppedOrReceived) {
  run(crowded(), [] {
    std::atomic<int> both{0}, neither{0};
    storm(kRounds / 4, [&](Random& random) {
      TimerHandle timer = new_timer(kShort);
      const auto answer = make_chan<bool>(1), quit = make_chan<bool>();
      go([c = timer.channel(), answer, quit] {
        bool received = false;
        select(on_recv(c, [&](std::int64_t) { received = true; }), on_recv(quit, [](bool) {}));
        answer.send(received);
      });
      wait_about(random, kShort);
      const bool stopped = timer.stop();
      if (stopped) quit.close();
      // Not stopped: the value is the receiver's already, or on its way to it.
      bool received = false;
      if (stopped || !eventually([&] {
            select(on_recv(answer, [&](bool r) { received = r; }), otherwise([] {}));
            return received;
          })) {
        if (!stopped) quit.close();
        received = answer.recv();
      }
      if (stopped && received) both.fetch_add(1);
      if (!stopped && !received) neither.fetch_add(1);
    });
    EXPECT_EQ(both.load(), 0);
    EXPECT_EQ(neither.load(), 0);
  });
}

// Go: false means that the function was started.
TEST(TimerStop, AFunctionIsEitherStoppedOrStarted) {
  run(crowded(), [] {
    std::atomic<int> called{0}, not_stopped{0};
    storm(kRounds, [&](Random& random) {
      TimerHandle timer = after_func(kShort, [&] { called.fetch_add(1); });
      wait_about(random, kShort);
      if (!timer.stop()) not_stopped.fetch_add(1);
    });
    EXPECT_TRUE(eventually([&] { return called.load() == not_stopped.load(); }))
        << called.load() << " calls, " << not_stopped.load() << " times stop() said that it came too late";
    gearbox::sleep(5 * kMillisecond);
    EXPECT_EQ(called.load(), not_stopped.load());
  });
}

TEST(TimerReset, AFunctionIsStartedOnceForEachTimeItCameTooLate) {
  run(crowded(), [] {
    std::atomic<int> called{0}, due{0};
    storm(kRounds, [&](Random& random) {
      TimerHandle timer = after_func(kShort, [&] { called.fetch_add(1); });
      wait_about(random, kShort);
      if (!timer.reset(kShort)) due.fetch_add(1);
      wait_about(random, kShort);
      if (!timer.stop()) due.fetch_add(1);
    });
    EXPECT_TRUE(eventually([&] { return called.load() == due.load(); })) << called.load() << " " << due.load();
    gearbox::sleep(5 * kMillisecond);
    EXPECT_EQ(called.load(), due.load());
  });
}

// ---- a channel owns its timer

// The loop of every program that waits with a time limit: the timers that were not needed are gone, not due in an hour.
TEST(TimerLife, OfAnAfterThatNobodyHoldsEnds) {
  run(Program{}.procs(2), [] {
    const std::size_t before = armed_timers();
    const auto ready = make_chan<int>(1);
    for (int i = 0; i < 10'000; ++i) {
      ready.send(i);
      select(on_recv(ready, [](int) {}), on_recv(after(3600 * kSecond), [](std::int64_t) { FAIL(); }));
    }
    EXPECT_LE(armed_timers(), before + 10);
    for (int i = 0; i < 10'000; ++i) (void)new_timer(3600 * kSecond);
    for (int i = 0; i < 10'000; ++i) (void)new_ticker(3600 * kSecond);
    EXPECT_LE(armed_timers(), before + 10);
  });
}

// The handle is gone before recv() waits; the channel is held by whoever waits.
TEST(TimerLife, AChannelGoesOnWithoutItsHandle) {
  run(Program{}.procs(2), [] {
    EXPECT_GT(new_timer(kMillisecond).channel().recv(), 0);
    const Chan<std::int64_t> ticks = new_ticker(kMillisecond).channel();
    std::int64_t last = 0;
    for (int i = 0; i < 5; ++i) {
      const std::int64_t now = ticks.recv();
      EXPECT_GT(now, last);
      last = now;
    }
  });
}

TEST(TimerLife, ATickGoesOnAsLongAsItIsHeld) {
  run(Program{}.procs(2), [] {
    const std::size_t before = armed_timers();
    {
      const Chan<std::int64_t> ticks = tick(kMillisecond);
      for (int i = 0; i < 3; ++i) EXPECT_GT(ticks.recv(), 0);
      EXPECT_GT(armed_timers(), before);
    }
    EXPECT_TRUE(eventually([&] { return armed_timers() <= before; }));
    EXPECT_FALSE(tick(0));  // Go: nil
    EXPECT_FALSE(tick(-1));
  });
}

TEST(TimerLife, AChannelInAClosureGoesOn) {
  run(Program{}.procs(2), [] {
    const std::size_t before = armed_timers();
    const auto done = make_chan<std::int64_t>(1);
    after_func(kMillisecond, [ticks = new_ticker(kMillisecond).channel(), done] { done.send(ticks.recv()); });
    EXPECT_GT(done.recv(), 0);
    EXPECT_TRUE(eventually([&] { return armed_timers() <= before; })) << "a ticker outlived the closure that held it";
  });
}

// Handles are dropped on one P while others have the timer in their hands.
TEST(TimerLife, EndsWhileItFires) {
  run(crowded(), [] {
    const std::size_t before = armed_timers();
    storm(kRounds / 2, [&](Random& random) {
      Chan<std::int64_t> once = after(kShort);
      TimerHandle ticker = new_ticker(kShort);
      TimerHandle call = after_func(kShort, [held = ticker.channel()] {});
      wait_about(random, kShort);
    });
    EXPECT_TRUE(eventually([&] { return armed_timers() <= before; })) << armed_timers();
  });
}

// What a function captured ends on a goroutine, wherever its timer ended: its destructor may want to park.
TEST(TimerLife, CapturesEndOnAGoroutine) {
  run(crowded(), [] {
    struct Watch {
      std::atomic<int>* ended_elsewhere;
      std::atomic<int>* ended;
      bool live = true;
      Watch(std::atomic<int>* elsewhere, std::atomic<int>* all) : ended_elsewhere(elsewhere), ended(all) {}
      Watch(Watch&& other) noexcept
          : ended_elsewhere(other.ended_elsewhere), ended(other.ended), live(std::exchange(other.live, false)) {}
      ~Watch() {
        if (!live) return;
        if (current_g() == nullptr) ended_elsewhere->fetch_add(1);
        ended->fetch_add(1);
      }
    };
    std::atomic<int> elsewhere{0}, ended{0}, made{0};
    storm(kRounds, [&](Random& random) {
      made.fetch_add(1);
      TimerHandle call = after_func(kShort, [watch = Watch(&elsewhere, &ended)] {});
      wait_about(random, kShort);
      if (random.below(2) == 0) call.stop();
    });
    EXPECT_TRUE(eventually([&] { return ended.load() == made.load(); })) << ended.load() << " of " << made.load();
    EXPECT_EQ(elsewhere.load(), 0);
  });
}

}  // namespace
}  // namespace gearbox::testing
