#include "runtime/symbols.h"

#include <backtrace.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <atomic>
#include <cstring>
#include <string_view>

#include "base/os/file.h"
#include "runtime/guard.h"
#include "runtime/probe.h"
#include "runtime/source_rooms.h"

// libstdc++'s demangler without malloc (libsupc++.a).
extern "C" int __gcclibcxx_demangle_callback(const char* name, void (*append)(const char*, std::size_t, void*),
                                             void* context);

namespace gearbox {
namespace {

void ignore_error(void*, const char*, int) {}  // what was not found stays unknown

backtrace_state* the_state() noexcept {
  static std::atomic<backtrace_state*> state{nullptr};
  backtrace_state* made = state.load(std::memory_order_acquire);
  if (made != nullptr) return made;
  made = ::backtrace_create_state(nullptr, 1, ignore_error, nullptr);
  backtrace_state* none = nullptr;
  // Two threads may both make one; the second's is left.
  return state.compare_exchange_strong(none, made, std::memory_order_acq_rel) ? made : none;
}

// Text of a fixed size; what does not fit is left out.
struct Text {
  char* const begin;
  const std::size_t room;
  std::size_t bytes = 0;

  void append(std::string_view more) noexcept {
    const std::size_t n = more.size() < room - bytes ? more.size() : room - bytes;
    std::memcpy(begin + bytes, more.data(), n);
    bytes += n;
  }
  template <class... Arguments>
  void format(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
    bytes += fmt::format_to_n(begin + bytes, room - bytes, form, std::forward<Arguments>(arguments)...).size;
    if (bytes > room) bytes = room;
  }
  std::string_view view() const noexcept { return {begin, bytes}; }
};

constexpr std::size_t kFrameBytes = 12 * 1024;  // with all that is inlined there
constexpr std::size_t kNameBytes = 1024;

// The path without "..": a compiler that was told relative paths names files from its build folder.
void append_path(Text& out, std::string_view path) {
  const std::size_t begin = out.bytes;
  while (path.substr(0, 3) == "../") path.remove_prefix(3);
  while (!path.empty()) {
    const std::size_t end = path.find('/');
    const std::string_view part = path.substr(0, end == std::string_view::npos ? path.size() : end + 1);
    path.remove_prefix(part.size());
    const std::string_view so_far(out.begin + begin, out.bytes - begin);
    const std::size_t folder = so_far.size() > 1 ? so_far.rfind('/', so_far.size() - 2) : std::string_view::npos;
    if (part == "../" && folder != std::string_view::npos && so_far.substr(folder + 1) != "../")
      out.bytes = begin + folder + 1;
    else
      out.append(part);
  }
}

struct FrameText {
  std::uintptr_t return_address;
  Text& out;
  std::uintptr_t entry = 0;
  bool has_file = false;
  // Only the innermost place of the program's own is wanted, after this word.
  const char* lead = nullptr;
  std::uint64_t goroutine = 0;
  bool done = false;
};

void append_name(FrameText& frame, const Place& place) {
  char name[kNameBytes];
  demangle(place.function, name, sizeof(name));
  if (frame.lead != nullptr) frame.out.append(frame.lead);
  frame.out.append(name);
  // Names of C have no list of parameters.
  if (std::strchr(name, '(') == nullptr && place.function != nullptr) frame.out.append("(...)");
  if (frame.lead != nullptr) frame.out.format(" in goroutine {}", frame.goroutine);
  frame.out.append("\n\t");
}

void append_place(void* context, const Place& place) {
  auto& frame = *static_cast<FrameText*>(context);
  if (frame.lead != nullptr && (frame.done || (place.inlined && owner_of(place) != Owner::kProgram))) return;
  frame.done = true;
  append_name(frame, place);
  if (place.file != nullptr) {
    append_path(frame.out, place.file);
    frame.out.format(":{}", place.line);
    if (frame.entry != 0) frame.out.format(" +{:#x}", frame.return_address - frame.entry);
    frame.out.append("\n");
    return;
  }
  Dl_info module{};
  if (::dladdr(reinterpret_cast<void*>(frame.return_address - 1), &module) != 0 && module.dli_fname != nullptr)
    frame.out.format("{}+{:#x}\n", module.dli_fname,
                     frame.return_address - reinterpret_cast<std::uintptr_t>(module.dli_fbase));
  else
    frame.out.format("{:#x}\n", frame.return_address);
}

// A frame that could not be read is its address.
void describe_frame(FrameText& frame) {
  const auto describe = [](void* context) {
    auto& frame = *static_cast<FrameText*>(context);
    find_places(frame.return_address - 1, frame.entry, append_place, context);
  };
  if (guarded(describe, &frame)) return;
  frame.out.bytes = 0;
  frame.out.format("{}?\n\t{:#x}\n", frame.lead != nullptr ? frame.lead : "", frame.return_address);
}

template <class Visit>  // visit(std::string_view) gets each frame's text
void describe_frames(const std::uintptr_t* return_addresses, std::size_t count, const Visit& visit) {
  struct Job {
    const std::uintptr_t* addresses;
    std::size_t count;
    const Visit& visit;
  } job{return_addresses, count, visit};
  on_signal_stack(
      [](void* context) {
        const Job& job = *static_cast<Job*>(context);
        char room[kFrameBytes];
        for (std::size_t i = 0; i < job.count; ++i) {
          Text text{room, sizeof(room)};
          FrameText frame{job.addresses[i], text};
          describe_frame(frame);
          job.visit(text.view());
        }
      },
      &job);
}

constexpr auto kWrite = [](std::string_view text) { os::write_all(2, text.data(), text.size()); };

}  // namespace

void find_places(std::uintptr_t address, std::uintptr_t& entry, void (*visit)(void*, const Place&), void* context) {
  struct Found {
    std::array<Place, 24> places;
    std::size_t count = 0;
    const char* symbol = nullptr;
    std::uintptr_t start = 0;
  } found;
  backtrace_state* state = the_state();
  if (state != nullptr) {
    ::backtrace_syminfo(
        state, address,
        [](void* data, std::uintptr_t, const char* name, std::uintptr_t value, std::uintptr_t) {
          auto& found = *static_cast<Found*>(data);
          found.symbol = name;
          found.start = value;
        },
        ignore_error, &found);
    ::backtrace_pcinfo(
        state, address,
        [](void* data, std::uintptr_t, const char* file, int line, const char* function) {
          auto& found = *static_cast<Found*>(data);
          if (found.count < found.places.size() && (file != nullptr || function != nullptr))
            found.places[found.count++] = {function, file, line, true};
          return 0;
        },
        ignore_error, &found);
  }
  entry = found.symbol != nullptr ? found.start : 0;
  if (found.count == 0) found.count = 1;
  Place& outermost = found.places[found.count - 1];
  outermost.inlined = false;
  if (found.symbol != nullptr) outermost.function = found.symbol;  // debug information has some names unmangled
  if (outermost.function == nullptr) {
    Dl_info module{};
    if (::dladdr(reinterpret_cast<void*>(address), &module) != 0 && module.dli_sname != nullptr) {
      outermost.function = module.dli_sname;
      entry = reinterpret_cast<std::uintptr_t>(module.dli_saddr);
    }
  }
  for (std::size_t i = 0; i < found.count; ++i) visit(context, found.places[i]);
}

void demangle(const char* name, char* out, std::size_t bytes) noexcept {
  Text text{out, bytes - 1};
  if (name == nullptr) {
    text.append("?");
  } else if (std::strncmp(name, "_Z", 2) != 0 || __gcclibcxx_demangle_callback(
                                                     name,
                                                     [](const char* part, std::size_t n, void* to) {
                                                       static_cast<Text*>(to)->append({part, n});
                                                     },
                                                     &text) != 0) {
    text.bytes = 0;
    text.append(name);
  }
  out[text.bytes] = '\0';
}

std::string describe_trace(const std::vector<void*>& trace) {
  std::string all;
  describe_frames(reinterpret_cast<const std::uintptr_t*>(trace.data()), trace.size(),
                  [&all](std::string_view text) { all += text; });
  return all;
}

void print_trace(const std::vector<void*>& trace) {
  print_trace(reinterpret_cast<const std::uintptr_t*>(trace.data()), trace.size());
}

void print_trace(const std::uintptr_t* return_addresses, std::size_t count) {
  describe_frames(return_addresses, count, kWrite);
}

void print_creator(const void* return_address, std::uint64_t id) {
  struct Job {
    std::uintptr_t address;
    std::uint64_t id;
  } job{reinterpret_cast<std::uintptr_t>(return_address), id};
  on_signal_stack(
      [](void* context) {
        const Job& job = *static_cast<Job*>(context);
        char room[kFrameBytes];
        Text text{room, sizeof(room)};
        FrameText frame{job.address, text};
        frame.lead = "created by ";
        frame.goroutine = job.id;
        describe_frame(frame);
        kWrite(text.view());
      },
      &job);
}

}  // namespace gearbox
