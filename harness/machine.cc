#include "harness/machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "base/os/clock.h"
#include "base/os/cpu_limit.h"
#include "base/os/feature.h"
#include "base/os/file.h"
#include "base/os/memory.h"
#include "base/os/thread.h"

namespace gearbox::harness {
namespace {

std::string file_text(const std::string& path) {
  auto text = os::read_file(path);
  if (!text) return "";
  std::string out = *text;
  while (!out.empty() && (out.back() == '\n' || out.back() == ' ')) out.pop_back();
  return out;
}

// The rest of the line that begins with `key`, after ':' or '=' and without quotes.
std::string value_of(const std::string& text, const std::string& key) {
  std::size_t at = text.rfind(key, 0) == 0 ? 0 : text.find("\n" + key);
  if (at == std::string::npos) return "";
  at = text.find_first_of(":=", at);
  if (at == std::string::npos) return "";
  std::string line = text.substr(at + 1, text.find('\n', at) - at - 1);
  const auto strange = [](char c) { return c == ' ' || c == '\t' || c == '"'; };
  while (!line.empty() && strange(line.front())) line.erase(line.begin());
  while (!line.empty() && strange(line.back())) line.pop_back();
  return line;
}

struct Ticks {
  std::uint64_t total = 0, idle = 0, steal = 0;
};
Ticks machine_ticks() {
  unsigned long long v[8] = {};
  Ticks out;
  if (std::sscanf(file_text("/proc/stat").c_str(), "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
                  &v[3], &v[4], &v[5], &v[6], &v[7]) == 8) {
    for (auto ticks : v) out.total += ticks;
    out.idle = v[3] + v[4];
    out.steal = v[7];
  }
  return out;
}

// process -> name and ticks of CPU so far, this process left out.
std::map<int, std::pair<std::string, std::uint64_t>> process_ticks() {
  std::map<int, std::pair<std::string, std::uint64_t>> out;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", failure)) {
    const int process = std::atoi(entry.path().filename().c_str());
    if (process <= 0 || process == os::process_id()) continue;
    const std::string stat = file_text(entry.path().string() + "/stat");
    const std::size_t open = stat.find('('), close = stat.rfind(')');  // the name may hold spaces and brackets
    if (open == std::string::npos || close == std::string::npos) continue;
    unsigned long long user = 0, system = 0;
    if (std::sscanf(stat.c_str() + close + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                    &system) == 2)
      out[process] = {stat.substr(open + 1, close - open - 1), user + system};
  }
  return out;
}

std::string virtualization(const std::string& cpuinfo) {
  const std::string product = file_text("/sys/class/dmi/id/sys_vendor");
  const bool guest = cpuinfo.find(" hypervisor") != std::string::npos;
  if (!guest) return "none";
  if (!product.empty()) return product;
  return file_text("/sys/hypervisor/type").empty() ? "kvm" : file_text("/sys/hypervisor/type");
}

// Between brackets: "always [madvise] never" -> "madvise".
std::string bracketed(const std::string& text) {
  const auto open = text.find('['), close = text.find(']');
  return open == std::string::npos || close == std::string::npos ? text : text.substr(open + 1, close - open - 1);
}

}  // namespace

void judge(Machine& m) {
  int level = 0;
  const auto say = [&](int severity, std::string reason) {
    level = std::max(level, severity);
    m.reasons.push_back(std::move(reason));
  };
  const double cores = static_cast<double>(std::max<std::uint64_t>(m.cores, 1));
  // The load is of the last minute, and remembers a build that has ended. What measurements share is in use now.
  if (m.load[0] > cores && m.idle_pct > 90) {
    say(1, fmt::format("load {:.2f} on {} cores in the last minute, of which nothing is left now", m.load[0], m.cores));
  } else if (m.load[0] > cores) {
    say(2, fmt::format("load {:.2f} on {} cores: everything measured now shares its CPUs", m.load[0], m.cores));
  } else if (m.load[0] > cores / 4) {
    say(1, fmt::format("load {:.2f} on {} cores", m.load[0], m.cores));
  }
  for (const auto& b : m.busy)
    say(b.cpu_pct > 50 ? 2 : 1, fmt::format("process {} ({}) uses {:.0f} % of a CPU", b.process, b.name, b.cpu_pct));
  if (m.steal_pct > 1)
    say(m.steal_pct > 5 ? 2 : 1,
        fmt::format("{:.1f} % of CPU time is stolen by other guests of this host", m.steal_pct));
  if (m.virtualization != "none")
    say(1, fmt::format("a virtual machine ({}): its host's load is out of sight", m.virtualization));
  if (!m.governor.empty() && m.governor != "performance")
    say(1, fmt::format("CPU governor is {}; performance gives steadier times", m.governor));
  if (m.cores < 4) say(1, fmt::format("{} cores: goroutines, kernel and harness share them", m.cores));
  if (m.quota_cpus > 0 && m.quota_cpus < cores)
    say(1, fmt::format("a CPU quota of {:.2f} on {} cores: who uses it up is stopped for the rest of the period",
                       m.quota_cpus, m.cores));
  if (m.aslr == 0) say(1, "address space randomisation is off: every run samples one and the same memory layout");
  if (m.io_uring != "available") say(1, "poller=io_uring will be refused: " + m.io_uring);
  if (m.guard != "install")
    say(1, "this kernel has no MADV_GUARD_INSTALL: stacks use mprotect, which ends at max_map_count mappings");
  m.verdict = level == 0 ? "green" : level == 1 ? "amber" : "red";
}

Machine look_at_machine(std::int64_t watch_ns) {
  Machine m;
  const auto before = process_ticks();
  const Ticks ticks_before = machine_ticks();
  const std::int64_t started = os::monotonic_ns();

  const std::string cpuinfo = file_text("/proc/cpuinfo");
  m.host = file_text("/proc/sys/kernel/hostname");
  m.cpu = value_of(cpuinfo, "model name");
  const os::CpuLimit limit = os::cpu_limit();
  m.cores = static_cast<std::uint64_t>(limit.affinity_cpus);
  m.quota_cpus = limit.quota_cpus;
  m.default_procs = limit.why();
  m.memory_bytes = std::strtoull(value_of(file_text("/proc/meminfo"), "MemTotal").c_str(), nullptr, 10) * 1024;
  m.kernel = file_text("/proc/sys/kernel/osrelease");
  m.os = value_of(file_text("/etc/os-release"), "PRETTY_NAME");
  m.virtualization = virtualization(cpuinfo);
  m.governor = file_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  m.thp = bracketed(file_text("/sys/kernel/mm/transparent_hugepage/enabled"));
  m.max_map_count = std::strtoull(file_text("/proc/sys/vm/max_map_count").c_str(), nullptr, 10);
  const std::string aslr = file_text("/proc/sys/kernel/randomize_va_space"),
                    overcommit = file_text("/proc/sys/vm/overcommit_memory");
  if (!aslr.empty()) m.aslr = std::atoi(aslr.c_str());
  if (!overcommit.empty()) m.overcommit = std::atoi(overcommit.c_str());
  std::sscanf(file_text("/proc/loadavg").c_str(), "%lf %lf %lf", &m.load[0], &m.load[1], &m.load[2]);
  auto ring = os::try_io_uring();
  m.io_uring = ring ? "available" : ring.error().message;
  m.guard = os::best_guard() == os::GuardKind::kGuardInstall ? "install" : "mprotect";

  if (const std::int64_t left = watch_ns - (os::monotonic_ns() - started); left > 0) os::sleep_ns(left);
  const double seconds = static_cast<double>(os::monotonic_ns() - started) * 1e-9;
  const Ticks ticks_after = machine_ticks();
  if (ticks_after.total > ticks_before.total) {
    const auto total = static_cast<double>(ticks_after.total - ticks_before.total);
    m.idle_pct = 100.0 * static_cast<double>(ticks_after.idle - ticks_before.idle) / total;
    m.steal_pct = 100.0 * static_cast<double>(ticks_after.steal - ticks_before.steal) / total;
  }
  for (const auto& [process, now] : process_ticks()) {
    const auto then = before.find(process);
    if (then == before.end() || now.second < then->second.second) continue;
    const double pct =
        static_cast<double>(now.second - then->second.second) / seconds;  // 100 ticks a second: a tick is 1 %
    if (pct > 5) m.busy.push_back({process, now.first, pct});
  }
  std::sort(m.busy.begin(), m.busy.end(), [](const auto& a, const auto& b) { return a.cpu_pct > b.cpu_pct; });
  judge(m);
  return m;
}

Json machine_json(const Machine& m) {
  Json busy = Json::array();
  for (const auto& b : m.busy) busy.push_back({{"pid", b.process}, {"name", b.name}, {"cpu_pct", b.cpu_pct}});
  return {{"host", m.host},
          {"cpu", m.cpu},
          {"cores", m.cores},
          {"quota_cpus", m.quota_cpus > 0 ? Json(m.quota_cpus) : Json(nullptr)},
          {"default_procs", m.default_procs},
          {"memory_bytes", m.memory_bytes},
          {"kernel", m.kernel},
          {"os", m.os},
          {"virtualization", m.virtualization},
          {"governor", m.governor.empty() ? Json(nullptr) : Json(m.governor)},
          {"thp", m.thp},
          {"aslr", m.aslr},
          {"overcommit", m.overcommit},
          {"max_map_count", m.max_map_count},
          {"io_uring", m.io_uring},
          {"guard", m.guard},
          {"load_before", {m.load[0], m.load[1], m.load[2]}},
          {"steal_pct", m.steal_pct},
          {"busy", busy},
          {"verdict", m.verdict},
          {"verdict_reasons", m.reasons}};
}

}  // namespace gearbox::harness
