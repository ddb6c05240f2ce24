#include "runtime/chan.h"

namespace gearbox::detail {

void ChanCore::park_unlocking(const char* why) {
  current_runtime().park([](Runtime&, Goroutine*, void* lock) { static_cast<SpinLock*>(lock)->unlock(); }, &lock_, why);
}

void ChanCore::block_for_ever(const char* why) {
  const Inside inside;
  for (;;) current_runtime().park([](Runtime&, Goroutine*, void*) {}, nullptr, why);
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
