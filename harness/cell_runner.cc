#include "harness/cell_runner.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/os/clock.h"
#include "base/os/disk.h"
#include "base/os/file.h"
#include "base/os/process.h"
#include "base/os/thread.h"
#include "base/random.h"
#include "harness/cell_result.h"

namespace gearbox::harness {
namespace {

constexpr std::int64_t kLookEvery_ns = 50'000'000;
constexpr std::int64_t kGrace_ns = 5'000'000'000;  // between SIGQUIT and SIGKILL: the traces of many goroutines
constexpr std::size_t kKeptBytes = 64 * 1024;

struct CpuTicks {
  std::uint64_t total = 0, steal = 0;
};
CpuTicks cpu_ticks() {
  CpuTicks out;
  auto text = os::read_file("/proc/stat");
  unsigned long long v[8] = {};
  if (text && std::sscanf(text->c_str(), "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
                          &v[4], &v[5], &v[6], &v[7]) == 8) {
    for (auto ticks : v) out.total += ticks;
    out.steal = v[7];
  }
  return out;
}

double load1() {
  auto text = os::read_file("/proc/loadavg");
  return text ? std::strtod(text->c_str(), nullptr) : 0.0;
}

// Kills by the kernel's out-of-memory killer so far: in our control group where there is one to ask, else on this
// machine. Neither says whom it hit; together with a SIGKILL that we did not send it is as good as there is.
std::uint64_t oom_kills() {
  std::string file = "/proc/vmstat";
  if (auto groups = os::read_file("/proc/self/cgroup"); groups && groups->starts_with("0::")) {
    const std::string path = groups->substr(3, groups->find('\n') - 3);
    const std::string events = "/sys/fs/cgroup" + (path == "/" ? "" : path) + "/memory.events";
    if (std::filesystem::exists(events)) file = events;
  }
  auto text = os::read_file(file);
  if (!text) return 0;
  const auto at = text->find("oom_kill ");
  return at == std::string::npos ? 0 : std::strtoull(text->c_str() + at + 9, nullptr, 10);
}

// Only what a program needs to run, and a random amount of padding: the size of the environment moves the stack, and
// with it caches and time (Mytkowicz 2009), so every attempt draws a new one.
std::vector<std::string> environment(std::uint64_t seed) {
  std::vector<std::string> out = {"LANG=C.UTF-8"};
  for (const char* name : {"PATH", "HOME", "TMPDIR", "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "LD_LIBRARY_PATH",
                           "GEARBOX_KV_PASSWORD"})
    if (const char* value = std::getenv(name)) out.push_back(std::string(name) + "=" + value);
  Random random(seed);
  out.push_back("GEARBOX_PADDING=" + std::string(random.below(4096), 'x'));
  return out;
}

std::string signal_name(int number) {
  const char* name = ::sigabbrev_np(number);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(number);
}

// A runtime says why it dies in its first line; the trace follows.
std::string first_line(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \n\t\r");
  if (begin == std::string::npos) return "";
  return text.substr(begin, std::min<std::size_t>(text.find('\n', begin) - begin, 300));
}

struct Folder {  // removed with all it holds
  std::string path;
  ~Folder() {
    std::error_code ignored;
    if (!path.empty()) std::filesystem::remove_all(path, ignored);
  }
};

// Why the runner ended the cell, if it did.
enum class Ending { kItself, kTimeout, kMemory, kOutput, kInterrupt };

}  // namespace

CellRunner own_cells() { return CellRunner({os::own_executable(), "cell"}, os::kOwnProgram); }

std::string iso_time(std::int64_t wall_ns, bool milliseconds) {
  const std::time_t seconds = wall_ns / 1'000'000'000;
  std::string out = fmt::format("{:%Y-%m-%dT%H:%M:%S}", fmt::gmtime(seconds));
  if (milliseconds) out += fmt::format(".{:03}", wall_ns / 1'000'000 % 1000);
  return out + "Z";
}

CellOutcome CellRunner::run(const Cell& cell, std::uint64_t attempt, std::uint64_t seed) const {
  CellOutcome outcome;
  Json& record = outcome.record;
  record = {{"schema", kRecordSchema}};
  record.update(plan_json(cell));
  record["attempt"] = attempt;
  for (const char* key : {"status", "exit", "signal", "reason"}) record[key] = nullptr;
  const Json empty = {{"effective", Json::object()}, {"libraries", Json::object()}, {"metrics", Json::array()},
                      {"hists", Json::array()},      {"counters", Json::object()},  {"checks", Json::array()}};
  record.update(empty);
  record["rusage"] = record["noise"] = Json::object();  // known once a process has ended
  const std::int64_t started_wall = os::wall_ns(), started = os::monotonic_ns();
  record["t_start"] = iso_time(started_wall, true);
  record["wall_ns"] = 0;
  const auto infra = [&](const Error& error) {
    record["status"] = "infra";
    record["reason"] = error.message;
    return std::move(outcome);
  };

  auto temporary = os::make_temporary_folder("gearbox-cell-");
  if (!temporary) return infra(temporary.error());
  const Folder folder{*temporary};
  const std::string& path = folder.path;
  std::filesystem::create_directory(path + "/work");  // the cell's own folder: it cannot trample on our files beside it
  Json spec = plan_json(cell);
  spec["runner"] = os::process_id();
  if (boot_trace) spec["boot_trace"] = true;
  const std::string spec_text = to_line(spec);
  if (auto file = os::create_file(path + "/spec.json"); !file) {
    return infra(file.error());
  } else if (int error = os::write_all(file->fd(), spec_text.data(), spec_text.size()); error != 0) {
    return infra(os_error("writing " + path + "/spec.json", error));
  }
  auto input = os::open_for_reading(path + "/spec.json");
  auto result = os::create_file(path + "/result.json");
  auto output = os::create_file(path + "/stdout"), errors = os::create_file(path + "/stderr");
  for (const auto* file : {&input, &result, &output, &errors})
    if (!*file) return infra(file->error());

  os::SpawnRequest request;
  request.arguments = command_;
  request.program = program_;
  request.environment = environment(seed);
  request.folder = pass_through ? "" : path + "/work";
  request.input = input->fd();
  if (!pass_through) {
    request.output = output->fd();
    request.errors = errors->fd();
  } else if (output_to_errors) {
    constexpr int kErrors = 2;
    request.output = kErrors;
  }
  request.extra = result->fd();
  const CpuTicks ticks_before = cpu_ticks();
  const std::uint64_t oom_before = oom_kills();
  const int interrupts_before = os::interrupts();  // one that comes while the cell starts is for the cell
  auto child = os::spawn(request);
  if (!child) return infra(child.error());

  const std::uint64_t output_limit_bytes = limits.output_limit_mib << 20;
  Ending ending = Ending::kItself;
  int forwarded = interrupts_before;
  std::int64_t asked = 0;  // when the cell was sent SIGQUIT
  bool killed = false;
  std::optional<os::Ended> ended;
  while (!(ended = os::wait_for(*child, kLookEvery_ns))) {
    const std::int64_t now = os::monotonic_ns();
    const auto kill_it = [&](Ending why) {
      if (ending == Ending::kItself) ending = why;
      if (!killed) os::signal_group(*child, SIGKILL);
      killed = true;
    };
    if (pass_through) {
      // The first interrupts are the program's own to handle; whoever insists gets it killed.
      for (; forwarded < os::interrupts(); ++forwarded) {
        os::signal_group(*child, os::last_interrupt());
        if (forwarded - interrupts_before >= 1) kill_it(Ending::kInterrupt);
      }
    } else if (os::interrupts() >= 2) {
      kill_it(Ending::kInterrupt);
    }
    if (limits.timeout_s != 0 && now - started > static_cast<std::int64_t>(limits.timeout_s) * 1'000'000'000) {
      // First the question where it stands, which Go's programs answer with the traces of all goroutines.
      if (ending == Ending::kItself) {
        ending = Ending::kTimeout;
        asked = now;
        os::signal_process(*child, SIGQUIT);
      } else if (now - asked > kGrace_ns) {
        kill_it(Ending::kTimeout);
      }
    }
    if (limits.mem_limit_mib != 0 && os::resident_bytes_of_family(*child) > limits.mem_limit_mib << 20)
      kill_it(Ending::kMemory);
    if (os::size_of(*output) + os::size_of(*errors) + os::size_of(*result) > output_limit_bytes)
      kill_it(Ending::kOutput);
  }
  os::signal_group(*child, SIGKILL);  // whatever it started and left behind

  const CpuTicks ticks_after = cpu_ticks();
  record["wall_ns"] = os::monotonic_ns() - started;
  record["rusage"] = {{"user_ns", ended->user_ns},
                      {"system_ns", ended->system_ns},
                      {"max_rss_bytes", ended->max_rss_bytes},
                      {"minor_faults", ended->minor_faults},
                      {"major_faults", ended->major_faults},
                      {"voluntary_switches", ended->voluntary_switches},
                      {"involuntary_switches", ended->involuntary_switches}};
  const double ticks = static_cast<double>(ticks_after.total - ticks_before.total);
  record["noise"] = {
      {"steal_pct", ticks > 0 ? 100.0 * static_cast<double>(ticks_after.steal - ticks_before.steal) / ticks : 0.0},
      {"load1", load1()}};
  if (!pass_through) {
    const auto tail = [](const os::Descriptor& file) {
      const std::uint64_t size = os::size_of(file);
      return os::read_part(file, size > kKeptBytes ? size - kKeptBytes : 0, kKeptBytes);
    };
    outcome.output = tail(*output);
    outcome.errors = tail(*errors);
  }
  record["exit"] = ended->signal == 0 ? Json(ended->exit_code) : Json(nullptr);
  record["signal"] = ended->signal == 0 ? Json(nullptr) : Json(signal_name(ended->signal));

  // A cell that ended between two looks may have left more than it may.
  if (ending == Ending::kItself && os::size_of(*result) > output_limit_bytes) ending = Ending::kOutput;
  auto found = parse_json(os::read_part(*result, 0, output_limit_bytes), "the cell's result");
  const auto malformed = found ? why_malformed(*found) : std::nullopt;
  const bool complete = found && !malformed;
  const auto say = [&](const char* status, const std::string& reason) {
    record["status"] = status;
    record["reason"] = reason;
    record.update(empty);
  };
  const std::string said = first_line(outcome.errors);
  const std::string quoted = said.empty() ? "" : fmt::format("; it printed: {}", said);
  if (ending == Ending::kTimeout) {
    say("timeout", fmt::format("did not end within {} s{}", limits.timeout_s, quoted));
    if (!pass_through) record["stderr"] = outcome.errors;
  } else if (ending == Ending::kMemory) {
    say("oom", fmt::format("used more resident memory than the limit of {} MiB", limits.mem_limit_mib));
  } else if (ending == Ending::kOutput) {
    const bool printed = os::size_of(*output) + os::size_of(*errors) > os::size_of(*result);
    say("signal", fmt::format("killed by the runner: it {} more than {} MiB", printed ? "printed" : "left a result of",
                              limits.output_limit_mib));
  } else if (ended->signal == SIGKILL && ending == Ending::kItself && oom_kills() > oom_before) {
    say("oom", "killed by SIGKILL while the kernel's out-of-memory killer was at work");
  } else if (ended->signal != 0) {
    say("signal", fmt::format("died of {}{}", signal_name(ended->signal), quoted));
  } else if (complete && (ended->exit_code == 0 || (*found)["status"] == "exit")) {
    record["status"] = (*found)["status"];
    record["reason"] = found->value("reason", Json(nullptr));
    for (const auto& [key, nothing] : empty.items()) record[key] = found->value(key, nothing);
    if (found->contains("guard")) record["guard"] = (*found)["guard"];
    if (record["status"] != "ok") {  // a wrong answer has no time
      record["metrics"] = record["hists"] = Json::array();
    } else if (auto workload = find_workload(cell.workload); workload && !serves(cell.params)) {
      if (auto none = why_no_headline(*found, workload->headline)) say("check_failed", *none);
    }
  } else if (ended->exit_code != 0) {
    say("exit", fmt::format("ended with exit code {}{}", ended->exit_code, quoted));
  } else {
    say("infra", found ? fmt::format("left a result that cannot be believed: {}{}", *malformed, quoted)
                       : "ended with exit code 0 and left no readable result" + quoted);
  }
  outcome.interrupted =
      ending == Ending::kInterrupt || (pass_through && ended->signal != 0 && os::interrupts() > interrupts_before);
  return outcome;
}

}  // namespace gearbox::harness
