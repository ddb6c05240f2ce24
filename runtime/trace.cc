#include "runtime/trace.h"

#include "base/last_words.h"
#include "runtime/fatal.h"
#include "runtime/frames.h"
#include "runtime/probe.h"
#include "runtime/runtime.h"
#include "runtime/symbols.h"

namespace gearbox {
namespace {

const char* describe_status(const Goroutine& g, GStatus status) {
  switch (status) {
    case GStatus::kWaiting:
      return g.wait_reason;
    case GStatus::kSyscall:
      return "syscall";
    case GStatus::kRunning:
    case GStatus::kStopped:
      return "running";
    default:
      return "runnable";
  }
}

// `live`: the frames of the thread that runs it, if that is known. A running goroutine has no others, and the context of
// one in a system call is that of its last switch.
void print_goroutine(const Goroutine& g, GStatus status, const FrameList* live) {
  limit_report();
  say("goroutine {} [{}{}{}]:\n", g.id, describe_status(g, status), g.locked_m != nullptr ? ", locked to thread" : "",
      g.system ? ", system" : "");
  if (live != nullptr) {
    print_trace(live->addresses, live->count);
  } else if (status == GStatus::kRunning || status == GStatus::kSyscall) {
    say("\tgoroutine on a thread that does not answer; stack unavailable\n");
  } else {
    FrameList frames;
    capture_parked(g, frames);
    print_trace(frames.addresses, frames.count);
  }
  if (g.parent_id != 0) print_creator(g.creator_pc, g.parent_id);
  say("\n");
}

bool is_on_thread(GStatus status) { return status == GStatus::kRunning || status == GStatus::kSyscall; }

// All threads, the calling one included.
class Everywhere {
 public:
  explicit Everywhere(const void* ucontext) {
    mine_.m = current_machine();
    mine_.g = current_goroutine();
    capture_interrupted(ucontext, mine_.where);
  }
  std::size_t count() const { return others_.count() + 1; }
  const Whereabouts* at(std::size_t i) const { return i == 0 ? &mine_ : others_.answer(i - 1); }
  const FrameList* frames_of(const Goroutine& g) const {
    for (std::size_t i = 0; i < count(); ++i)
      if (const Whereabouts* thread = at(i); thread != nullptr && thread->g == &g) return &thread->where.frames;
    return nullptr;
  }
  // Whether thread i is the first that belongs to its runtime.
  const Runtime* new_runtime_at(std::size_t i) const {
    const Whereabouts* thread = at(i);
    if (thread == nullptr || thread->m == nullptr) return nullptr;
    for (std::size_t before = 0; before < i; ++before)
      if (const Whereabouts* other = at(before);
          other != nullptr && other->m != nullptr && other->m->runtime == thread->m->runtime)
        return nullptr;
    return thread->m->runtime;
  }

 private:
  Survey others_;
  Whereabouts mine_;
};

}  // namespace

void report_everything(const void* ucontext) {
  const Everywhere threads(ucontext);
  for (std::size_t i = 0; i < threads.count(); ++i) {
    const Runtime* runtime = threads.new_runtime_at(i);
    if (runtime == nullptr) continue;
    const GoroutineTable& all = runtime->goroutine_table();
    for (const bool on_thread : {true, false})
      for (std::uint32_t number = 0; number < all.count(); ++number) {
        const Goroutine& g = *all.at(number);
        const GStatus status = g.status.load(std::memory_order_acquire);
        if (status == GStatus::kDead || is_on_thread(status) != on_thread) continue;
        // The runtime's own are of interest where they may be what is waited for.
        if (g.system && !on_thread) continue;
        print_goroutine(g, status, threads.frames_of(g));
      }
  }
}

// Names the goroutines that are waited for, with their traces, on standard error.
void Runtime::report_slow_stop() {
  std::vector<int> ids;
  for (PId i = 0; i < p_count(); ++i) {
    const auto& each = static_cast<const Processor&>(p(i));
    if (&each == current_p() || each.status.load(std::memory_order_acquire) != PStatus::kRunning) continue;
    if (const int id = each.thread_id.load(std::memory_order_relaxed); id != 0) ids.push_back(id);
  }
  std::string text;
  const Survey threads(ids.data(), ids.size());
  bool all_answered = true;
  for (std::size_t i = 0; i < threads.count(); ++i) {
    const Whereabouts* thread = threads.answer(i);
    if (thread == nullptr) all_answered = false;
    if (thread == nullptr || thread->m == nullptr || thread->m->runtime != this || thread->p == nullptr) continue;
    if (thread->p->status.load(std::memory_order_acquire) != PStatus::kRunning) continue;  // it has stopped since
    const std::string who = thread->g != nullptr ? fmt::format("goroutine {}", thread->g->id)
                                                 : fmt::format("thread {}, in the runtime,", thread->thread_id);
    text += fmt::format("gearbox: {} has not stopped for 1 s, and all others wait for it\n{} [running]:\n", who, who);
    std::vector<void*> trace;
    for (std::size_t f = 0; f < thread->where.frames.count; ++f)
      trace.push_back(reinterpret_cast<void*>(thread->where.frames.addresses[f]));
    text += describe_trace(trace) + "\n";
  }
  if (text.empty() && !all_answered)
    text = "gearbox: some goroutine has not stopped for 1 s, and all others wait for it; its thread does not answer\n";
  os::write_all(2, text.data(), text.size());
}

// Goroutines that are parked or runnable, with the trace from their saved context. Called when the process is lost:
// nothing here is locked, and nothing is allocated.
void Runtime::print_all_goroutines(bool including_running) {
  constexpr int kMost = 100;
  int printed = 0;
  for (std::uint32_t i = 0; i < goroutines_.count() && printed < kMost; ++i) {
    const Goroutine* g = goroutines_.at(i);
    const GStatus status = g->status.load(std::memory_order_acquire);
    if (status == GStatus::kDead || g->system) continue;
    if (status == GStatus::kRunning && !including_running) continue;
    print_goroutine(*g, status, nullptr);
    ++printed;
  }
  if (printed == kMost) say("... and more; {} goroutines in all\n", goroutine_count());
}

void Runtime::report_deadlock() {
  claim_last_words();
  say("fatal error: all goroutines are asleep - deadlock!\n\n");
  print_all_goroutines(false);
  exit_process(2);
}

}  // namespace gearbox
