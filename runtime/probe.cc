#include "runtime/probe.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <new>

#include "base/os/clock.h"
#include "base/os/thread.h"
#include "runtime/runtime.h"

namespace gearbox {
namespace {

// A real-time signal carries a pointer, which is one of these.
struct Request {
  void (*act)(Request& request, const void* ucontext) = nullptr;
};

int probe_signal() noexcept { return SIGRTMAX - 3; }

void on_probe(int, siginfo_t* info, void* context) {
  if (info->si_code != SI_QUEUE || info->si_pid != os::process_id()) return;  // none of ours
  const int saved_errno = errno;
  auto& request = *static_cast<Request*>(info->si_value.sival_ptr);
  request.act(request, context);
  errno = saved_errno;
}

bool send(int thread_id, Request& request) noexcept {
  siginfo_t info{};
  info.si_signo = probe_signal();
  info.si_code = SI_QUEUE;
  info.si_pid = os::process_id();
  info.si_uid = ::getuid();
  info.si_value.sival_ptr = &request;
  return ::syscall(SYS_rt_tgsigqueueinfo, os::process_id(), thread_id, probe_signal(), &info) == 0;
}

[[maybe_unused]] bool has_idle_signal_stack() noexcept {
  stack_t stack{};
  sigset_t blocked;
  return ::sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & (SS_ONSTACK | SS_DISABLE)) == 0 &&
         ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked) == 0 && sigismember(&blocked, probe_signal()) == 0;
}

}  // namespace

void arm_probe() {
  struct sigaction action {};
  action.sa_sigaction = on_probe;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  ::sigaction(probe_signal(), &action, nullptr);
}

void on_signal_stack(void (*f)(void*), void* context) noexcept {
#if !GEARBOX_ASAN && !GEARBOX_TSAN  // they take a goroutine's stack for granted; ours have room for a frame there
  struct Call : Request {
    void (*f)(void*);
    void* context;
  } call;
  call.act = [](Request& request, const void*) {
    auto& call = static_cast<Call&>(request);
    call.f(call.context);
  };
  call.f = f;
  call.context = context;
  if (has_idle_signal_stack() && send(os::thread_id(), call)) return;  // it is delivered before the call returns
#endif
  f(context);
}

// ---- whereabouts

// Asked -> (the thread:) answering -> answered, or asked -> (the asker, after a while:) given up. A question that was
// given up may still be delivered, so its memory stays.
struct Survey::Question : Request {
  enum State : std::uint32_t { kAsked, kAnswering, kAnswered, kGivenUp };
  std::atomic<std::uint32_t> state{kAsked};
  bool freeze = false;
  Whereabouts answer;

  static void act_on(Request& request, const void* ucontext) {
    auto& question = static_cast<Question&>(request);
    std::uint32_t asked = kAsked;
    if (!question.state.compare_exchange_strong(asked, kAnswering, std::memory_order_acq_rel)) return;
    question.answer.m = current_machine();
    question.answer.g = current_goroutine();
    question.answer.p = current_processor();
    capture_interrupted(ucontext, question.answer.where);
    const bool freeze = question.freeze;
    question.state.store(kAnswered, std::memory_order_release);  // partner: answer(). The asker may free it from here
    if (freeze)
      for (;;) ::pause();
  }
};

namespace {

// Visits the ids of this process's threads. Neither opendir() nor a C++ stream: they allocate.
template <class Visit>
void each_thread(const Visit& visit) noexcept {
  const int folder = ::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  struct Entry {  // the kernel's linux_dirent64
    std::uint64_t inode;
    std::int64_t next;
    unsigned short bytes;
    unsigned char type;
    char name[1];
  };
  alignas(8) char room[4096];
  for (;;) {
    const long bytes = ::syscall(SYS_getdents64, folder, room, sizeof(room));
    if (bytes <= 0) break;
    for (long at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const Entry*>(room + at);
      int id = 0;
      for (const char* digit = entry->name; *digit >= '0' && *digit <= '9'; ++digit) id = id * 10 + (*digit - '0');
      if (id != 0) visit(id);
      at += entry->bytes;
    }
  }
  ::close(folder);
}

constexpr std::size_t kMostThreads = kMaxMs + 64;
constexpr std::int64_t kPatienceNs = 1'000'000'000;

}  // namespace

bool Survey::prepare() noexcept {
  void* memory = ::mmap(nullptr, kMostThreads * sizeof(Question), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  questions_ = static_cast<Question*>(memory);
  return true;
}

void Survey::ask(int thread_id, bool freeze) noexcept {
  if (thread_id == os::thread_id() || count_ == kMostThreads) return;
  auto* question = new (&questions_[count_]) Question;
  question->act = Question::act_on;
  question->freeze = freeze;
  question->answer.thread_id = thread_id;
  if (send(thread_id, *question)) ++count_;
}

void Survey::wait() noexcept {
  const std::int64_t deadline = os::monotonic_ns() + kPatienceNs;
  for (std::size_t i = 0; i < count_; ++i) {
    std::atomic<std::uint32_t>& state = questions_[i].state;
    while (state.load(std::memory_order_acquire) != Question::kAnswered) {
      std::uint32_t asked = Question::kAsked;
      if (os::monotonic_ns() >= deadline && state.compare_exchange_strong(asked, Question::kGivenUp)) {
        all_answered_ = false;
        break;
      }
      ::usleep(200);
    }
  }
}

Survey::Survey() noexcept {
  if (!prepare()) return;
  each_thread([this](int id) { ask(id, true); });
  wait();
}

Survey::Survey(const int* thread_ids, std::size_t count) noexcept {
  if (!prepare()) return;
  for (std::size_t i = 0; i < count; ++i) ask(thread_ids[i], false);
  wait();
}

Survey::~Survey() {
  if (questions_ != nullptr && all_answered_) ::munmap(questions_, kMostThreads * sizeof(Question));
}

const Whereabouts* Survey::answer(std::size_t i) const noexcept {
  const bool answered = questions_[i].state.load(std::memory_order_acquire) == Question::kAnswered;
  return answered ? &questions_[i].answer : nullptr;
}

}  // namespace gearbox
