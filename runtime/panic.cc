#include "runtime/panic.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "base/os/file.h"
#include "runtime/root.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace {

// A panic while a scope runs its deferred functions: known to the goroutine, innermost first.
struct Passing {
  PanicInFlight* in_flight = nullptr;  // null: the scope returns normally, or goexit passes
  bool recovered = false;
  Passing* outer = nullptr;
};

void print(std::string_view text) { os::write_all(2, text.data(), text.size()); }

// Raised while deferred functions of an earlier panic run: that one is replaced, and printed before it.
std::vector<std::string> replaced_panics() {
  std::vector<std::string> earlier;
  if (Goroutine* g = current_goroutine()) {
    if (auto* passing = static_cast<Passing*>(g->panics);
        passing != nullptr && passing->in_flight != nullptr && !passing->recovered) {
      earlier = passing->in_flight->earlier;
      earlier.push_back(passing->in_flight->value.message);
    }
  }
  return earlier;
}

[[noreturn]] void raise(PanicValue value) {
  PanicInFlight in_flight{std::move(value), replaced_panics(), {}};
  capture_trace(in_flight.trace, 2);
  throw in_flight;
}

[[noreturn]] void die_of_panic(const PanicInFlight& in_flight) {
  std::string text;
  for (const auto& message : in_flight.earlier) text += fmt::format("panic: {}\n\t", message);
  text += fmt::format("panic: {}\n\n", in_flight.value.message);
  if (const G* g = current_g()) text += fmt::format("goroutine {} [running]:\n", g->id);
  print(text);
  print_trace(in_flight.trace);
  exit_process(2);
}

}  // namespace

void exit_process(int code) {
  std::fflush(stdout);
  ::_exit(code);
}

void panic(std::string_view message) { raise({std::string(message), false}); }
void runtime_panic(std::string_view message) { raise({std::string(message), true}); }
void goexit() {
  if (Goroutine* g = current_goroutine()) g->goexit = true;
  throw GoexitInFlight{};
}

std::optional<PanicValue> recover() {
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

bool Defer::run(PanicInFlight* in_flight) {
  PanicInFlight latest;
  bool panicking = in_flight != nullptr;
  if (panicking) latest = *in_flight;
  bool goexit_passing = false;
  while (last_ != nullptr) {
    Goroutine* g = current_goroutine();
    Passing passing{panicking ? &latest : nullptr, false, static_cast<Passing*>(g->panics)};
    g->panics = &passing;
    bool raised = false;
    PanicInFlight replacement;
    try {
      pop(true);
    } catch (PanicInFlight& thrown) {
      replacement = std::move(thrown);
      raised = true;
    } catch (GoexitInFlight&) {
      goexit_passing = true;
    }
    current_goroutine()->panics = passing.outer;
    if (passing.recovered || goexit_passing) panicking = false;
    if (raised) {
      latest = std::move(replacement);
      panicking = true;
    }
  }
  if (goexit_passing) throw GoexitInFlight{};
  if (panicking && in_flight == nullptr) throw latest;
  if (panicking) *in_flight = std::move(latest);
  return in_flight != nullptr && !panicking;
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

void fatal_error(std::string_view message) {
  print(fmt::format("fatal error: {}\n\n", message));
  std::vector<void*> trace;
  capture_trace(trace, 1);
  if (const G* g = current_g()) print(fmt::format("goroutine {} [running]:\n", g->id));
  print_trace(trace);
  exit_process(2);
}

[[gnu::no_sanitize("address", "thread")]] void capture_trace_from(void* frame, std::uintptr_t low, std::uintptr_t high,
                                                                  std::vector<void*>& out) {
  auto at = reinterpret_cast<std::uintptr_t>(frame);
  while (out.size() < 64 && at >= low && at + 16 <= high && at % 8 == 0) {
    const auto* words = reinterpret_cast<const std::uintptr_t*>(at);
    if (words[1] == 0) break;
    out.push_back(reinterpret_cast<void*>(words[1]));
    if (words[0] <= at) break;
    at = words[0];
  }
}

void capture_trace(std::vector<void*>& out, int skip) {
  std::uintptr_t low = 0, high = 0;
  if (const Goroutine* g = current_goroutine()) {
    low = g->stack_lo;
    high = g->stack_hi;
  } else {
    os::thread_stack_bounds(low, high);
  }
  capture_trace_from(__builtin_frame_address(0), low, high, out);
  if (out.size() > static_cast<std::size_t>(skip)) out.erase(out.begin(), out.begin() + skip);
}

std::string describe_trace(const std::vector<void*>& trace) {
  std::string text;
  for (void* address : trace) {
    Dl_info info{};
    std::string name = "?";
    std::uintptr_t offset = 0;
    if (::dladdr(address, &info) != 0 && info.dli_sname != nullptr) {
      int status = 0;
      char* demangled = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
      name = status == 0 ? demangled : info.dli_sname;
      std::free(demangled);
      offset = reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(info.dli_saddr);
    }
    text += fmt::format("\t{}+{:#x} ({})\n", name, offset, address);
  }
  return text;
}

void print_trace(const std::vector<void*>& trace) { print(describe_trace(trace)); }

}  // namespace gearbox
