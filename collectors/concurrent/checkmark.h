// Checkmark: after a concurrent mark, with the world stopped, walk everything reachable again, with a set of its own,
// and die at the first object that the mark has missed. For tests and for `checkmark=on`; the pause is as long as a
// full trace.
//
// Heap slots and Roots are exact, and must lead to marked objects only. Other places are not. A goroutine's stack: a
// dead word that was below the stack pointer when the stack was scanned may lie in a frame now and point to garbage. A
// channel's buffer, a closure: a number in it may look like the address of a dead object. A word there that leads to an
// unmarked object proves nothing and is passed over.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "interfaces/heap.h"
#include "interfaces/world.h"

namespace gearbox::collectors::concurrent_parts {

class Checkmark {
 public:
  explicit Checkmark(const Heap& heap) : heap_(heap) {}
  // World stopped, on the M's stack, marking complete.
  void run(World& world);

 private:
  void found(std::uintptr_t word, std::uintptr_t parent, bool exact);
  [[noreturn]] void report(const Object& object, std::uintptr_t parent) const;

  const Heap& heap_;
  std::unordered_map<std::uintptr_t, std::uintptr_t> parents_;  // by cell; 0: a root
  std::vector<Object> work_;
};

}  // namespace gearbox::collectors::concurrent_parts
