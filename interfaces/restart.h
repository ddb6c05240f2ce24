// Restartable sequences: the two hottest pieces of the runtime that are inlined into programs.
//
// Taking a cell from a window and storing a Ref begin with a look at the current P, and end with one store. A goroutine
// that is preempted by signal between the two may go on with another P, or after a mark has begun; so the handler sets
// its program counter back to the beginning (runtime/preempt.h). For that each sequence is one block of assembly which
// changes nothing before its last instruction, and says where it begins and ends in a table in the executable.
//
// Entries are offsets from themselves, so that the table needs no relocation. The "?" puts an entry into the section
// group of the function around it: the linker drops both or neither.
#pragma once

#include <cstdint>

#define GEARBOX_RESTART_BEGIN "8881:\n\t"
#define GEARBOX_RESTART_END                           \
  "8882:\n\t"                                         \
  ".pushsection gearbox_restart,\"a?\",@progbits\n\t" \
  ".long 8881b - .\n\t"                               \
  ".long 8882b - .\n\t"                               \
  ".popsection\n\t"

extern "C" {
// The linker's names for the ends of the table; null in an executable without one.
extern const std::int32_t __start_gearbox_restart[] __attribute__((weak, visibility("hidden")));
extern const std::int32_t __stop_gearbox_restart[] __attribute__((weak, visibility("hidden")));
}

namespace gearbox::restart {

// Calls visit(begin, end) for each sequence: one that is interrupted at begin < pc < end is to go back to begin.
template <class F>
void visit_all(F&& visit) {
  for (const std::int32_t* entry = __start_gearbox_restart; entry < __stop_gearbox_restart; entry += 2)
    visit(reinterpret_cast<std::uintptr_t>(entry) + static_cast<std::uintptr_t>(static_cast<std::intptr_t>(entry[0])),
          reinterpret_cast<std::uintptr_t>(entry + 1) +
              static_cast<std::uintptr_t>(static_cast<std::intptr_t>(entry[1])));
}

}  // namespace gearbox::restart
