#include "runtime/chan.h"

#include "runtime/fatal.h"

#include <new>

namespace gearbox::detail {

// The unlock runs on the other side of the switch, where the analysis of locks cannot follow.
void ChanCore::park_unlocking(const char* why) {
  current_runtime().park([](Runtime&, Goroutine*, void* lock)
                             GEARBOX_NO_THREAD_SAFETY_ANALYSIS { static_cast<SpinLock*>(lock)->unlock(); },
                         &lock_, why);
}

void ChanCore::block_for_ever(const char* why) {
  const Inside inside;
  for (;;) current_runtime().park([](Runtime&, Goroutine*, void*) {}, nullptr, why);
}

void* ChanCore::new_ring(std::uint64_t capacity, std::size_t element_bytes, std::size_t alignment) {
  const std::uint64_t bytes = capacity * element_bytes;  // checked() has looked at the product
  void* ring = ::operator new (bytes, std::align_val_t{alignment}, std::nothrow);
  if (ring == nullptr)
    fatal_error(fmt::format("out of memory: a channel of {} elements of {} byte{}", capacity, element_bytes,
                            element_bytes == 1 ? "" : "s"));
  return ring;
}

void ChanCore::close_channel() {
  const Inside inside;
  GList woken;
  lock_.lock();
  if (closed_) {
    lock_.unlock();
    runtime_panic("close of closed channel");
  }
  closed_ = true;
  for (WaitQueue* queue : {&receivers_, &senders_}) {
    while (Waiter* w = queue->pop()) {
      w->success = false;
      w->g->wait_word = w;
      woken.push_back(w->g);
    }
  }
  lock_.unlock();
  while (G* g = woken.pop_front()) current_runtime().ready(g);
}

}  // namespace gearbox::detail
