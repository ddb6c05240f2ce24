#include "runtime/misuse.h"

#include <unistd.h>

#include <cstring>
#include <string_view>

#include "base/last_words.h"
#include "runtime/fatal.h"
#include "runtime/probe.h"
#include "runtime/runtime.h"
#include "runtime/source_rooms.h"
#include "runtime/symbols.h"

namespace gearbox {
namespace {

// "auto gearbox::make<gearbox::Node>(int)" -> "make", "gearbox::Chan<int>::send(int) const" -> "Chan<int>::send": the
// name that the program used.
std::string_view called_name(std::string_view name) noexcept {
  constexpr std::string_view kOurs = "gearbox::", kDetail = "detail::";
  std::size_t begin = 0, end = name.size();
  int depth = 0;
  constexpr std::string_view kNoName = "(anonymous namespace)";
  for (std::size_t i = 0; i < end; ++i) {
    if (name.substr(i, kNoName.size()) == kNoName) {
      i += kNoName.size() - 1;
      continue;
    }
    if (name[i] == '<' || name[i] == '{') ++depth;
    if (name[i] == '>' || name[i] == '}') --depth;
    if (depth != 0) continue;
    if (name[i] == ' ') begin = i + 1;  // behind the type of the result
    if (name[i] == '(' && i > begin) end = i;
  }
  name = name.substr(begin, end - begin);
  if (!name.empty() && name.back() == '>') {  // a function template's arguments
    depth = 0;
    for (std::size_t i = name.size(); i-- > 0;) {
      if (name[i] == '>') ++depth;
      if (name[i] == '<' && --depth == 0) {
        name = name.substr(0, i);
        break;
      }
    }
  }
  for (const std::string_view prefix : {kOurs, kDetail})
    if (name.substr(0, prefix.size()) == prefix) name.remove_prefix(prefix.size());
  return name;
}

// The outermost function of the runtime below the program's own code: what the program called.
struct Call {
  char name[1024] = "";
  bool reached_program = false;
};

void find_call(const FrameList& frames, Call& call) {
  for (std::size_t i = 0; i < frames.count && !call.reached_program; ++i) {
    std::uintptr_t entry = 0;
    find_places(
        frames.addresses[i] - 1, entry,
        [](void* context, const Place& place) {
          auto& call = *static_cast<Call*>(context);
          const Owner owner = owner_of(place);
          call.reached_program |= owner == Owner::kProgram;
          if (!call.reached_program && owner == Owner::kRoom) demangle(place.function, call.name, sizeof(call.name));
        },
        &call);
  }
}

struct Report {
  const FrameList& frames;
};

void report(void* context) {
  const FrameList& frames = static_cast<const Report*>(context)->frames;
  Call call;
  find_call(frames, call);
  const std::string_view name = call.name[0] != '\0' ? called_name(call.name) : "a call of the runtime";
  const bool is_goroutine = current_g() != nullptr;
  say("fatal error: ");
  say(name);
  say(is_goroutine
          ? "() inside blocking(): the function that blocks has no P, so it may not allocate, wait, or stop the "
            "world\n\n"
          : "() on a thread that is no goroutine\n\n");
  say_who("syscall");
  print_trace(frames.addresses, frames.count);
}

}  // namespace

bool is_misuse(const Fault& fault, const Interrupted& where) noexcept {
  if (fault.signal != SIGSEGV || fault.code <= 0 || fault.address >= sizeof(Processor)) return false;
  const G* g = current_g();
  const bool in_call =
      g != nullptr && current_p() == nullptr && g->status.load(std::memory_order_relaxed) == GStatus::kSyscall;
  if (!in_call && current_m() != nullptr) return false;
  // A nil dereference of the program's own is none, and one through a Ref is the program's own: `nil->field.load()`.
  struct Look {
    bool decided = false, is_room = false;
  } look;
  std::uintptr_t entry = 0;
  find_places(
      where.frames.addresses[0] - 1, entry,
      [](void* context, const Place& place) {
        auto& look = *static_cast<Look*>(context);
        const Owner owner = owner_of(place);
        if (look.decided || owner == Owner::kLibrary) return;  // std::atomic's load(), inlined
        look.decided = true;
        const bool reads_ref = std::strstr(place.file, "interfaces/object.h") != nullptr && place.function != nullptr &&
                               std::strstr(place.function, "change") == nullptr &&
                               std::strstr(place.function, "barrier") == nullptr;
        look.is_room = owner == Owner::kRoom && !reads_ref;
      },
      &look);
  return look.is_room;
}

void die_of_misuse(const FrameList& frames) {
  if (!claim_last_words()) ::_exit(2);
  limit_report();
  Report it{frames};
  on_signal_stack(report, &it);
  exit_process(2);
}

void die_of_misuse() {
  FrameList frames;
  capture_unwound(frames, 1);
  die_of_misuse(frames);
}

void require_goroutine() {
  if (current_g() == nullptr) die_of_misuse();
}

}  // namespace gearbox
