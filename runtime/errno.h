// errno for code that parks.
//
// glibc declares __errno_location(), which finds the thread's errno, as a const function: called twice with the same
// arguments it returns the same. That is true of a thread, and not of a goroutine, which wakes up on another one. g++
// keeps the first answer over a park, and `errno = 5; sleep(1000); return errno;` reads the errno of the thread that the
// goroutine has left, although its own has come along (runtime/sched.cc).
//
// This tree is built with -D__const__=__unused__ (CMakeLists.txt), which takes the promise out of every such declaration
// of the C library: errno, pthread_self(), the tables of ctype.h. This header is for code that is built without it. Where
// nobody has included <errno.h> before, it does, without the promise; and it makes `errno` call the same function under
// a name of which nothing is promised. Code of other headers that named errno before this one keeps what it was given.
#pragma once

#include <features.h>

#pragma push_macro("__attribute_const__")
#undef __attribute_const__
#define __attribute_const__
#include <errno.h>  // NOLINT(modernize-deprecated-headers): <cerrno> includes more
#pragma pop_macro("__attribute_const__")

extern "C" int* gearbox_errno_location() noexcept __asm__("__errno_location");

#undef errno
#define errno (*gearbox_errno_location())
