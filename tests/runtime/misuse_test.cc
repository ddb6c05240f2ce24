// What must not be called inside blocking(f), or on a thread that is no goroutine: the message names the call.
#include <gmock/gmock.h>

#include <thread>

#include "tests/runtime/child.h"

namespace gearbox::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;

TEST(Blocking, NestsAndRunsTheInnerFunctionInTheOuterCall) {
  run(Program{}.procs(2), [] {
    for (int i = 0; i < 100; ++i) {
      const int result = blocking([] { return blocking([] { return blocking([] { return 7; }); }) + 1; });
      EXPECT_EQ(result, 8);
      keep_alive(make_bytes(16));  // it has its P again
    }
    // What is thrown goes through both.
    std::string message;
    scope([&](Defer& defer) {
      defer([&] { message = recover()->message; });
      blocking([] { blocking([] { panic("within"); }); });
    });
    EXPECT_EQ(message, "within");
    keep_alive(make_bytes(16));
  });
}

TEST(Blocking, GoroutinesMayBeStartedInside) {
  run(Program{}.procs(2), [] {
    const auto c = make_chan<int>(1);
    blocking([&] { go([=] { c.send(1); }); });
    EXPECT_EQ(c.recv(), 1);
  });
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

struct Node {
  Ref<Node> next;
  int key = 0;
  GEARBOX_REFS(Node, next)
};

struct Misuse {
  const char* call;  // a regular expression
  std::function<void()> body;
};

std::vector<Misuse> misuses() {
  return {
      {"make", [] { keep_alive(make<Node>()); }},
      {"make_bytes", [] { keep_alive(make_bytes(100)); }},
      {"make_array", [] { keep_alive(make_array<Ref<Node>>(10).data()); }},
      {"make_array", [] { keep_alive(make_array<Ref<Node>>(100'000).data()); }},
      {"Chan<int>::send", [] { make_chan<int>().send(1); }},
      {"Chan<int>::recv", [] { make_chan<int>().recv(); }},
      {"Chan<int>::recv_ok", [] { make_chan<int>().recv_ok(); }},
      {"select",
       [] {
         const auto a = make_chan<int>(), b = make_chan<int>();
         select(on_recv(a, [](int) {}), on_recv(b, [](int) {}));
       }},
      {"select", [] { select(); }},
      {"sleep", [] { gearbox::sleep(kMillisecond); }},
      {"GoMutex::lock",
       [] {
         static GoMutex m;
         m.lock();
         m.lock();
       }},
      {"RWMutex::lock",
       [] {
         static RWMutex m;
         m.lock();
         m.lock();
       }},
      {"WaitGroup::wait",
       [] {
         static WaitGroup group;
         group.add(1);
         group.wait();
       }},
      {"gosched", [] { gosched(); }},
      {"gc", [] { gc(); }},
      {"gomaxprocs", [] { gomaxprocs(1); }},
      {"after", [] { gearbox::after(kSecond); }},
      {"safepoint", [] { GEARBOX_SAFEPOINT(); }},
  };
}

TEST(BlockingDeathTest, WhatMustNotBeCalledInsideIsNamed) {
  for (const Misuse& misuse : misuses())
    EXPECT_EXIT(
        in_child([&] { blocking([&] { misuse.body(); }); }), ExitedWithCode(2),
        AllOf(ContainsRegex("fatal error: (gearbox::)?" + std::string(misuse.call) + "\\(\\) inside blocking\\(\\)"),
              ContainsRegex("goroutine [0-9]+ \\[syscall\\]:\n"), HasSubstr("tests/runtime/misuse_test.cc:")))
        << misuse.call;
}

TEST(BlockingDeathTest, OtherThreadsAreToldSo) {
  const auto is_named = [](const std::string& call) {
    return AllOf(ContainsRegex("fatal error: (gearbox::)?" + call + "\\(\\) on a thread that is no goroutine"),
                 HasSubstr("tests/runtime/misuse_test.cc:"));
  };
  const auto on_thread = [](std::function<void()> body) {
    in_child([body = std::move(body)] { std::thread(body).join(); });
  };
  EXPECT_EXIT(on_thread([] { keep_alive(make<Node>()); }), ExitedWithCode(2), is_named("make"));
  EXPECT_EXIT(on_thread([] { make_chan<int>().send(1); }), ExitedWithCode(2), is_named("Chan<int>::send"));
  EXPECT_EXIT(on_thread([] { gearbox::sleep(1); }), ExitedWithCode(2), is_named("sleep"));
  EXPECT_EXIT(on_thread([] { go([] {}); }), ExitedWithCode(2), is_named("go"));
  EXPECT_EXIT(on_thread([] { gc(); }), ExitedWithCode(2), is_named("gc"));
  EXPECT_EXIT(on_thread([] { blocking([] {}); }), ExitedWithCode(2), is_named("blocking"));
}

#endif

}  // namespace
}  // namespace gearbox::testing
