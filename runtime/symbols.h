// Names of addresses: function, file and line, from the debug information of the modules that are loaded.
//
// libbacktrace reads it, when a trace is first printed and not before. It comes with g++, reads DWARF with inlined
// calls, knows position-independent executables and shared libraries, and takes its memory from mmap: what is below may
// run in a signal handler of a thread that faulted inside malloc. Two things are beyond help there, and are left to the
// time limit of the last words: the loader's lock, when the fault came from inside dlopen(), and a damaged C library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace gearbox {

// One function at an address. An address in inlined code is at several at once.
struct Place {
  const char* function = nullptr;  // mangled if it is C++'s; null: unknown
  const char* file = nullptr;      // null: no debug information
  int line = 0;
  bool inlined = false;  // into the next place
};

// Visits the places of the instruction at `address`, innermost first; `entry` gets the address of the function that
// holds it, 0 if unknown. Strings stay valid. Allocates no malloc memory.
void find_places(std::uintptr_t address, std::uintptr_t& entry, void (*visit)(void* context, const Place& place),
                 void* context);
// Writes the name for people, ended by zero and cut at `bytes`. Allocates no malloc memory.
void demangle(const char* name, char* out, std::size_t bytes) noexcept;

// As in Go, two lines a frame: "function(...)\n\tfile:line +0xoffset". Addresses are return addresses. Needs about 32 KiB
// of stack, which it takes from the thread's signal stack if there is one.
std::string describe_trace(const std::vector<void*>& trace);
// The same to standard error; allocates no malloc memory, and survives faults of its own.
void print_trace(const std::vector<void*>& trace);
void print_trace(const std::uintptr_t* return_addresses, std::size_t count);
// "created by <function> in goroutine <id>\n\tfile:line +0xoffset\n" to standard error. Of the functions that are inlined
// at the address, the one that is named is the innermost of the program's own.
void print_creator(const void* return_address, std::uint64_t id);

}  // namespace gearbox
