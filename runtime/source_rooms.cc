#include "runtime/source_rooms.h"

#include <cstring>
#include <string_view>

namespace gearbox {
namespace {

constexpr std::string_view kRooms[] = {"base",       "interfaces", "runtime", "schedulers",
                                       "allocators", "collectors", "pollers", "harness"};
constexpr std::string_view kPrograms[] = {"workloads", "tests", "bench"};

template <std::size_t n>
bool is_one_of(std::string_view name, const std::string_view (&names)[n]) {
  for (const std::string_view each : names)
    if (each == name) return true;
  return false;
}

}  // namespace

// The path's beginning says nothing: it may be relative to a build folder, and, from a compiler cache, to another's. So the
// last folder with a room's name counts; tests/ and its like have folders that are named like the rooms that they test.
Owner owner_of(const Place& place) noexcept {
  if (place.file == nullptr) return Owner::kLibrary;
  std::string_view path = place.file;
  if (path.substr(0, 5) == "/usr/") return Owner::kLibrary;  // a header of the C++ library, inlined
  Owner owner = Owner::kProgram;
  bool in_program = false;  // the folder before
  for (std::size_t slash = path.find('/'); slash != std::string_view::npos; slash = path.find('/')) {
    const std::string_view folder = path.substr(0, slash);
    path.remove_prefix(slash + 1);
    if (is_one_of(folder, kRooms) && !in_program) owner = Owner::kRoom;
    in_program = is_one_of(folder, kPrograms);
    if (in_program) owner = Owner::kProgram;
  }
  return owner;
}

}  // namespace gearbox
