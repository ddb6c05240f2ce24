// The language surface: all that a workload may include of the runtime (and interfaces/workload.h). One line a room.
#pragma once

#include "runtime/errno.h"  // errno, first: it depends on who includes the C library's header

#include "runtime/blocking.h"  // blocking(f)
#include "runtime/chan.h"      // Chan<T>, make_chan
#include "runtime/go.h"        // go, gosched, gomaxprocs, num_goroutine, lock_os_thread, stack
#include "runtime/heap.h"      // make<T>, make_array, make_bytes, gc, read_mem_stats, set_finalizer
#include "runtime/net.h"       // net::listen, net::dial, net::Conn, net::Listener
#include "runtime/panic.h"     // scope, Defer, panic, recover, goexit
#include "runtime/root.h"      // Root<T>
#include "runtime/select.h"    // select, on_recv, on_send, otherwise
#include "runtime/sync.h"      // GoMutex, RWMutex, WaitGroup, Once, Cond, Semaphore
#include "runtime/time.h"      // sleep, after, tick, new_timer, new_ticker, after_func
