// goexit x panic x recover, and foreign C++ exceptions on the way. What is expected was printed by the same programs in
// Go (1.26); `order` is what ran, then whether the goroutine went on behind its outermost scope.
#include <stdexcept>

#include "tests/runtime/program.h"

namespace gearbox::testing {
namespace {

struct Row {
  const char* name;
  std::function<void(std::string& order)> body;
  const char* order;
};

std::string text_of_recover() {
  const auto p = recover();
  return "r" + (p ? p->message : "-");
}

// Each body is Go's, with scope() for a function and defer() for defer.
const Row kRows[] = {
    {"goexit, panic, recovered in the same scope: the goexit goes on",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         scope([&](Defer& defer) {
           defer([&] { order += '1'; });
           defer([&] { order += text_of_recover(); });
           defer([] { panic("p"); });
           goexit();
         });
         order += '!';
       });
     },
     "rp1o"},
    {"goexit passes, the panic over it is recovered further out: the goexit goes on",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         scope([&](Defer& defer) {
           defer([&] { order += '1'; });
           defer([&] { order += text_of_recover(); });
           scope([&](Defer& inner) {
             inner([] { panic("p"); });
             goexit();
           });
           order += '?';
         });
         order += '!';
       });
     },
     "rp1o"},
    {"panic, goexit: the panic is over",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         scope([&](Defer& defer) {
           defer([&] { order += text_of_recover(); });
           defer([] { goexit(); });
           panic("p");
         });
         order += '!';
       });
     },
     "r-o"},
    {"panic, recovered, goexit",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         scope([&](Defer& defer) {
           defer([] { goexit(); });
           defer([&] { order += text_of_recover(); });
           panic("p");
         });
         order += '!';
       });
     },
     "rpo"},
    {"a panic that begins and ends inside a deferred function leaves the goexit alone",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         scope([&](Defer& defer) {
           defer([&] {
             scope([&](Defer& within) {
               within([&] { order += text_of_recover(); });
               panic("q");
             });
             order += 'c';
           });
           goexit();
         });
         order += '!';
       });
     },
     "rqco"},
    {"panic, goexit, panic, recovered: the goexit goes on",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         scope([&](Defer& defer) {
           defer([&] { order += '1'; });
           defer([&] { order += text_of_recover(); });
           defer([] { panic("p2"); });
           defer([] { goexit(); });
           panic("p1");
         });
         order += '!';
       });
     },
     "rp21o"},
    {"goexit, goexit",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         scope([&](Defer& defer) {
           defer([&] { order += '1'; });
           defer([] { goexit(); });
           goexit();
         });
         order += '!';
       });
     },
     "1o"},
    {"goexit, panic, replaced by a panic further out, recovered: the goexit goes on",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         scope([&](Defer& defer) {
           defer([&] { order += '1'; });
           defer([&] { order += text_of_recover(); });
           defer([] { panic("p2"); });
           scope([&](Defer& inner) {
             inner([] { panic("p1"); });
             goexit();
           });
         });
         order += '!';
       });
     },
     "rp21o"},
    {"goexit in a scope of a deferred function, during a panic",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         outer([&] {
           scope([](Defer&) { goexit(); });
           order += 'x';
         });
         panic("p1");
       });
     },
     "o"},
    {"recover and goexit in one deferred function",
     [](std::string& order) {
       scope([&](Defer& outer) {
         outer([&] { order += 'o'; });
         scope([&](Defer& defer) {
           defer([&] { order += '1'; });
           defer([&] {
             order += text_of_recover();
             goexit();
           });
           panic("p");
         });
         order += '!';
       });
     },
     "rp1o"},
};

TEST(Unwinding, GoexitPanicAndRecoverMeetAsInGo) {
  for (const Row& row : kRows) {
    std::string order;
    bool went_on = false;
    run(Program{}.procs(2), [&] {
      WaitGroup group;
      group.add(1);
      go([&] {
        struct Done {
          WaitGroup& group;
          ~Done() { group.done(); }
        } done{group};
        row.body(order);
        went_on = true;
      });
      group.wait();
    });
    EXPECT_EQ(order, row.order) << row.name;
    EXPECT_FALSE(went_on) << row.name;
  }
}

void dies(std::function<void()> body, const char* text) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        run(Program{}.procs(2), [&] {
          go(body);
          gearbox::sleep(kSecond);
        });
        std::exit(0);
      },
      ::testing::ExitedWithCode(2), text);
}

TEST(UnwindingDeathTest, APanicOverAGoexitEndsTheProcess) {
  dies(
      [] {
        scope([](Defer& defer) {
          defer([] { panic("p"); });
          defer([] { goexit(); });
        });
      },
      "^panic: p\n\n");
  dies(
      [] {
        scope([](Defer& defer) {
          defer([] { panic("p2"); });
          defer([] { recover(); });
          defer([] { panic("p1"); });
          goexit();
        });
      },
      "^panic: p2\n\n");
}

TEST(UnwindingDeathTest, TheMessageHasThePanicsOnTheWay) {
  const auto nested = [](bool second) {
    return [second] {
      scope([second](Defer& defer) {
        defer([second] {
          scope([second](Defer& within) {
            within([second] {
              if (second) panic("second");
              recover();  // not called by a deferred function of a scope that the panic passes
            });
          });
        });
        panic("first");
      });
    };
  };
  dies(nested(true), "^panic: first\n\tpanic: second\n\n");
  dies(nested(false), "^panic: first\n\n");
  dies(
      [] {
        scope([](Defer& defer) {
          defer([] {
            recover();
            panic("second");
          });
          panic("first");
        });
      },
      "^panic: first \\[recovered\\]\n\tpanic: second\n\n");
  dies(
      [] {
        scope([](Defer& defer) {
          defer([] { panic("p2"); });
          defer([] { goexit(); });
          panic("p1");
        });
      },
      "^panic: p1\n\tpanic: p2\n\n");
}

TEST(Unwinding, ForeignExceptionsRunWhatWasDeferred) {
  run(Program{}.procs(2), [] {
    std::string order;
    try {
      scope([&](Defer& outer) {
        outer([&] {
          EXPECT_FALSE(recover().has_value());
          order += 'o';
        });
        scope([&](Defer& inner) {
          inner([&] { order += '1'; });
          inner([&] {
            gosched();
            order += '2';
          });
          throw std::runtime_error("foreign");
        });
      });
    } catch (const std::runtime_error& e) {
      order += e.what();
    }
    EXPECT_EQ(order, "21oforeign");
  });
}

TEST(Unwinding, ADeferredFunctionMayThrowAForeignException) {
  run(Program{}.procs(2), [] {
    std::string order;
    try {
      scope([&](Defer& defer) {
        defer([&] { order += text_of_recover(); });  // the panic was replaced
        defer([] { throw std::runtime_error("foreign"); });
        panic("p");
      });
    } catch (const std::runtime_error& e) {
      order += e.what();
    }
    EXPECT_FALSE(recover().has_value());  // the record of the deferred function that threw is gone
    scope([&](Defer& defer) {
      defer([&] { order += text_of_recover(); });
      defer([] { panic("replaces it"); });
      throw std::runtime_error("foreign");
    });
    EXPECT_EQ(order, "r-foreignrreplaces it");
  });
}

}  // namespace
}  // namespace gearbox::testing
