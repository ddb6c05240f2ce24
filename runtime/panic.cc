#include "runtime/panic.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <typeinfo>

#include "base/last_words.h"
#include "runtime/fatal.h"
#include "runtime/frames.h"
#include "runtime/root.h"
#include "runtime/runtime.h"
#include "runtime/symbols.h"

namespace gearbox {
namespace {

// A scope that runs one of its deferred functions: known to the goroutine, innermost first.
struct Passing {
  PanicInFlight* in_flight = nullptr;                 // null: the scope returns normally, or something else passes
  const std::vector<std::string>* cut_off = nullptr;  // panics that a goexit ended on its way here
  bool recovered = false;
  Passing* outer = nullptr;
};

// Takes the record off again however the deferred function ends.
class Announced {
 public:
  explicit Announced(Passing& passing) : outer_(passing.outer) { current_goroutine()->panics = &passing; }
  ~Announced() { current_goroutine()->panics = outer_; }  // perhaps on another thread than the constructor's
  Announced(const Announced&) = delete;
  Announced& operator=(const Announced&) = delete;

 private:
  Passing* outer_;
};

std::vector<std::string> with(std::vector<std::string> earlier, const PanicInFlight& last, bool recovered) {
  earlier.push_back(last.value.message + (recovered ? " [recovered]" : ""));
  return earlier;
}

// Raised while deferred functions of an earlier panic run: that one is replaced, and printed before it.
std::vector<std::string> replaced_panics() {
  const Goroutine* g = current_goroutine();
  if (g == nullptr) return {};
  for (auto* passing = static_cast<Passing*>(g->panics); passing != nullptr; passing = passing->outer) {
    if (passing->in_flight != nullptr)
      return with(passing->in_flight->earlier, *passing->in_flight, passing->recovered);
    if (passing->cut_off != nullptr && !passing->cut_off->empty()) return *passing->cut_off;
  }
  return {};
}

[[noreturn]] void raise(PanicValue value) {
  PanicInFlight in_flight{std::move(value), replaced_panics(), {}, false, {}};
  capture_trace(in_flight.trace, 2);
  throw in_flight;
}

[[noreturn]] void die_of_panic(const PanicInFlight& in_flight) { report_panic(in_flight, {}); }

}  // namespace

void report_panic(const PanicInFlight& in_flight, std::string_view why) {
  const bool first = claim_last_words();
  for (const auto& message : in_flight.earlier) {
    say("panic: ");
    say_indented(message);
    say("\n\t");
  }
  say("panic: ");
  say_indented(in_flight.value.message);
  say("\n");
  say(in_flight.signal);
  say("\n");
  if (!first) ::_exit(2);
  if (!why.empty()) say("fatal error: {}\n\n", why);
  limit_report();
  say_who();
  print_trace(in_flight.trace);
  exit_process(2);
}

void panic(std::string_view message) { raise({std::string(message), false}); }
void runtime_panic(std::string_view message) { raise({std::string(message), true}); }
void raise_fault(std::string message, std::string signal, std::vector<void*> trace) {
  throw PanicInFlight{{std::move(message), true}, replaced_panics(), std::move(trace), false, std::move(signal)};
}
void goexit() {
  if (Goroutine* g = current_goroutine()) g->goexit = true;
  throw GoexitInFlight{{}};
}

std::optional<PanicValue> recover() {
  safepoint_if_on_p();
  Goroutine* g = current_goroutine();
  if (g == nullptr) return std::nullopt;
  auto* passing = static_cast<Passing*>(g->panics);
  if (passing == nullptr || passing->in_flight == nullptr || passing->recovered) return std::nullopt;
  passing->recovered = true;
  return passing->in_flight->value;
}

// Overflow of a Defer. The goroutine adds and takes at the end; a collector's worker may read at any time.
struct Defer::Chunk final : RootBlock {
  Chunk(Chunk* before, std::size_t room) : RootBlock(Words::kAnything), outer(before), bytes(room) {}
  void visit_words(void (*visit)(void*, const std::uintptr_t*, std::size_t), void* context) override {
    if (GEARBOX_MUTANT(kHideClosures)) return;
    const std::size_t filled = used.load(std::memory_order_acquire);  // partner: push()
    visit(context, reinterpret_cast<const std::uintptr_t*>(room()), filled / sizeof(std::uintptr_t));
  }
  std::byte* room() noexcept { return reinterpret_cast<std::byte*>(this) + kHead; }
  static Chunk* make(Chunk* outer, std::size_t room) {
    auto* chunk = new (::operator new(kHead + room)) Chunk(outer, room);
    chunk->enlist();
    return chunk;
  }
  static void destroy(Chunk* chunk) noexcept {
    chunk->withdraw();
    chunk->~Chunk();
    ::operator delete(chunk);
  }
  bool holds(const Entry* entry) noexcept {
    return reinterpret_cast<std::uintptr_t>(entry) - reinterpret_cast<std::uintptr_t>(room()) < bytes;
  }

  static constexpr std::size_t kHead = 64;
  static constexpr std::size_t kLeastRoom = 1024 - kHead;
  Chunk* const outer;
  const std::size_t bytes;
  std::atomic<std::size_t> used{0};
};

Defer::~Defer() {
  while (last_ != nullptr) pop(false);
  while (chunk_ != nullptr) Chunk::destroy(std::exchange(chunk_, chunk_->outer));  // a closure could not be made
}

Defer::Entry* Defer::place(std::size_t bytes) {
  static_assert(sizeof(Chunk) <= Chunk::kHead);
  bytes = (sizeof(Entry) + bytes + alignof(Entry) - 1) & ~(alignof(Entry) - 1);
  std::byte* at = nullptr;
  if (chunk_ == nullptr && kInlineBytes - inline_used_ >= bytes) {
    at = inline_ + inline_used_;
  } else {
    if (chunk_ == nullptr || chunk_->bytes - chunk_->used.load(std::memory_order_relaxed) < bytes)
      chunk_ = Chunk::make(chunk_, std::max(bytes, Chunk::kLeastRoom));
    at = chunk_->room() + chunk_->used.load(std::memory_order_relaxed);
  }
  auto* entry = new (at) Entry;
  entry->bytes = bytes - sizeof(Entry);
  return entry;
}

void Defer::push(Entry* entry) {
  entry->previous = last_;
  last_ = entry;
  if (chunk_ == nullptr) {
    inline_used_ = static_cast<std::size_t>(reinterpret_cast<std::byte*>(entry + 1) + entry->bytes - inline_);
    return;
  }
  roots::shade(entry + 1, entry->bytes);
  chunk_->used.store(static_cast<std::size_t>(reinterpret_cast<std::byte*>(entry + 1) + entry->bytes - chunk_->room()),
                     std::memory_order_release);  // partner: visit_words()
}

void Defer::pop(bool call) {
  // An empty chunk is left when a closure could not be made.
  while (chunk_ != nullptr && chunk_->used.load(std::memory_order_relaxed) == 0)
    Chunk::destroy(std::exchange(chunk_, chunk_->outer));
  Entry* entry = std::exchange(last_, last_->previous);
  if (chunk_ != nullptr) roots::shade(entry + 1, entry->bytes);
  entry->leave(*this, entry, call);
}

void Defer::give_back(Entry* entry) noexcept {
  if (chunk_ == nullptr || !chunk_->holds(entry)) {
    inline_used_ = static_cast<std::size_t>(reinterpret_cast<std::byte*>(entry) - inline_);
    return;
  }
  chunk_->used.store(static_cast<std::size_t>(reinterpret_cast<std::byte*>(entry) - chunk_->room()),
                     std::memory_order_release);
  if (reinterpret_cast<std::byte*>(entry) == chunk_->room()) Chunk::destroy(std::exchange(chunk_, chunk_->outer));
}

// What passes through a scope, from one deferred function to the next. At most one of panicking and foreign.
struct Defer::Passage {
  bool panicking = false;
  PanicInFlight latest{};
  bool goexit = false;                 // a goexit passes, or lies under the panic that does
  std::vector<std::string> cut_off{};  // the panics it ended
  std::exception_ptr foreign{};
};

void Defer::run_at_return() {
  safepoint_if_on_p();
  if (last_ == nullptr) return;
  Passage passage;
  run(passage);
}

void Defer::run_for(PanicInFlight& in_flight) {
  const bool over_goexit = in_flight.over_goexit;
  Passage passage{.panicking = true, .latest = std::move(in_flight), .goexit = over_goexit};
  run(passage);
}

void Defer::run_for(GoexitInFlight& in_flight) {
  Passage passage{.goexit = true, .cut_off = std::move(in_flight.earlier)};
  run(passage);
}

void Defer::run_for_foreign(std::exception_ptr in_flight) {
  Passage passage{.foreign = std::move(in_flight)};
  run(passage);
}

void Defer::run(Passage& passage) {
  while (last_ != nullptr) {
    Passing passing{passage.panicking ? &passage.latest : nullptr, &passage.cut_off, false,
                    static_cast<Passing*>(current_goroutine()->panics)};
    std::optional<PanicInFlight> raised;
    bool left = false;
    std::exception_ptr foreign;
    std::vector<std::string> cut_off;
    try {
      const Announced announced(passing);
      pop(true);
    } catch (PanicInFlight& thrown) {
      raised = std::move(thrown);
    } catch (GoexitInFlight& thrown) {
      left = true;
      cut_off = std::move(thrown.earlier);
    } catch (...) {
      foreign = std::current_exception();
    }
    if (passing.recovered) passage.panicking = false;
    if (raised) {
      passage.goexit |= raised->over_goexit;
      passage.latest = std::move(*raised);
      passage.panicking = true;
      passage.foreign = nullptr;
    } else if (left) {
      if (passage.panicking) cut_off = with(passage.latest.earlier, passage.latest, false);
      if (!cut_off.empty()) passage.cut_off = std::move(cut_off);
      passage.goexit = true;
      passage.panicking = false;
      passage.foreign = nullptr;
    } else if (foreign != nullptr) {
      passage.foreign = std::move(foreign);
      passage.panicking = false;
    }
  }
  if (passage.panicking) {
    passage.latest.over_goexit = passage.goexit;
    throw std::move(passage.latest);
  }
  if (passage.foreign != nullptr) std::rethrow_exception(passage.foreign);
  if (passage.goexit) throw GoexitInFlight{std::move(passage.cut_off)};
}

void run_guarded(void (*f)(void*), void* argument) {
  try {
    f(argument);
  } catch (PanicInFlight& in_flight) {
    die_of_panic(in_flight);
  } catch (GoexitInFlight&) {
    // The deferred functions have run; the goroutine ends here.
  } catch (std::exception& e) {
    fatal_error(fmt::format("a C++ exception left a goroutine: {}", e.what()));
  } catch (...) {
    fatal_error("a C++ exception of unknown type left a goroutine");
  }
}

// std::terminate(): something was thrown that must not pass a noexcept function or a destructor, or left a thread that is
// no goroutine. The stack is as it was where it was thrown, or where the unwinding met its end.
void on_terminate() {
  const bool on_goroutine = current_g() != nullptr;
  if (std::current_exception() == nullptr) fatal_error("std::terminate() was called");
  const auto where = [&](std::string_view what) {
    return fmt::format("{} {}", what,
                       on_goroutine ? "in a noexcept function or destructor" : "left a thread that is no goroutine");
  };
  try {
    throw;
  } catch (const PanicInFlight& in_flight) {
    report_panic(in_flight, on_goroutine ? where("panic") : where("a panic"));
  } catch (const GoexitInFlight&) {
    fatal_error(where("goexit()"));
  } catch (const std::exception& e) {
    fatal_error(fmt::format("{}: {}", where("a C++ exception"), e.what()));
  } catch (...) {
    fatal_error(where("a C++ exception of unknown type"));
  }
}

}  // namespace gearbox
