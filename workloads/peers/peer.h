// The frame of a peer in C++: its command line, its clock and its line of JSON, the same as those of the peer in Go.
//
//   <peer> list                                   the names
//   <peer> <name> [-procs N] [-set key=value]...
//
// Prints one JSON object: {"name", "values": {metric: number}, "ok", "version"}. Each program checks its own answer; a wrong
// answer is ok=false, a sentence in "failure", and exit code 1. A name or a parameter that does not exist is exit code 2.
// A peer is not tuned: each program is what a user of that library would write. Nothing of Gearbox is linked.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace gearbox::peers {

using Params = std::map<std::string, std::uint64_t>;
using Values = std::map<std::string, double>;

// Thrown by a program whose answer is wrong, or that cannot run here.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a program is told beside its parameters.
struct Machine {
  unsigned procs = 1;  // threads that may run the program's work at the same time
};

// A benchmark: nanoseconds of each item. One iteration stands for `items` of them.
struct Bench {
  double items;
  std::function<void(std::uint64_t iterations, const Machine&)> run;
};

// A workload: values of its own.
struct Workload {
  Params defaults;
  std::function<Values(const Params&, const Machine&)> run;
};

struct Peer {
  std::string version;  // of the library
  std::map<std::string, Bench> benches;
  std::map<std::string, Workload> workloads;
  // Runs a program inside of what the library needs for it: threads, a scheduler.
  std::function<void(const Machine&, const std::function<void()>& program)> inside =
      [](const Machine&, const std::function<void()>& program) { program(); };
};

inline std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The compiler must take the value to be used, and memory to be read.
template <class T>
void keep(T const& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

template <class T>
void check_equal(const char* what, T found, T expected) {
  if (found != expected)
    throw Failure(std::string(what) + ": " + std::to_string(found) + ", expected " + std::to_string(expected));
}

// The value below or at which `percent` of the sorted values lie.
template <class T>
double percentile(const std::vector<T>& sorted, double percent) {
  const auto rank = static_cast<std::size_t>(std::ceil(percent / 100 * static_cast<double>(sorted.size())));
  return static_cast<double>(sorted[std::max<std::size_t>(rank, 1) - 1]);
}

// Iterations until one run of them takes a second, as a benchmark in Go does; the last run counts.
inline double nanoseconds_per_item(const Bench& bench, const Machine& machine) {
  constexpr std::int64_t kEnoughNs = 1'000'000'000;
  constexpr std::uint64_t kMost = 1'000'000'000;
  for (std::uint64_t iterations = 1;;) {
    const std::int64_t began = now_ns();
    bench.run(iterations, machine);
    const std::int64_t elapsed_ns = std::max<std::int64_t>(now_ns() - began, 1);
    if (elapsed_ns >= kEnoughNs || iterations >= kMost)
      return static_cast<double>(elapsed_ns) / static_cast<double>(iterations) / bench.items;
    const double wanted = 1.2 * static_cast<double>(iterations) * kEnoughNs / static_cast<double>(elapsed_ns);
    const double limit = 100.0 * static_cast<double>(iterations);  // a first run says little about the second
    iterations = std::min(kMost, std::max(iterations + 1, static_cast<std::uint64_t>(std::min(wanted, limit))));
  }
}

// Of this program alone: the maximum that getrusage() tells has that of the process in it which started this one.
inline double peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line))
    if (line.rfind("VmHWM:", 0) == 0) return std::strtod(line.c_str() + 6, nullptr) * 1024;
  return 0;
}

inline std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      out += ' ';
    else
      out += c;
  }
  return out + "\"";
}

[[noreturn]] inline void refuse(const std::string& why) {
  std::fprintf(stderr, "gearbox-peer: %s\n", why.c_str());
  std::exit(2);
}

// A whole number of decimal digits, or refused.
inline std::uint64_t number_of(const std::string& what, const std::string& text) {
  const bool digits = !text.empty() && text.size() <= 18 && text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits) refuse(what + " takes a whole number, and '" + text + "' is not one");
  return std::stoull(text);
}

inline int peer_main(int argc, char** argv, const Peer& peer) {
  std::vector<std::string> names;
  for (const auto& [name, bench] : peer.benches) names.push_back(name);
  for (const auto& [name, workload] : peer.workloads) names.push_back(name);
  std::sort(names.begin(), names.end());
  std::string all;
  for (const auto& name : names) all += (all.empty() ? "" : " ") + name;
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) refuse("which one? " + all);
  if (words[0] == "list") {
    for (const auto& name : names) std::puts(name.c_str());
    return 0;
  }
  const std::string& name = words[0];
  const auto bench = peer.benches.find(name);
  const auto workload = peer.workloads.find(name);
  if (bench == peer.benches.end() && workload == peer.workloads.end())
    refuse("there is no '" + name + "'; there is " + all);
  Params params = workload == peer.workloads.end() ? Params{} : workload->second.defaults;
  std::uint64_t procs = 0;
  for (std::size_t i = 1; i < words.size(); i += 2) {
    if (i + 1 == words.size()) refuse("'" + words[i] + "' needs a value");
    const std::string& value = words[i + 1];
    if (words[i] == "-procs") {
      procs = number_of("-procs", value);
    } else if (words[i] == "-set") {
      const std::size_t at = value.find('=');
      if (at == std::string::npos) refuse("-set takes key=number, and there is '" + value + "'");
      const auto known = params.find(value.substr(0, at));
      if (known == params.end()) refuse(name + " has no parameter '" + value.substr(0, at) + "'");
      known->second = number_of(known->first, value.substr(at + 1));
    } else {
      refuse("there is no option '" + words[i] + "'; there is -procs, -set");
    }
  }
  if (procs > 1024) refuse("-procs is " + std::to_string(procs) + "; it is at most 1024");
  const Machine machine{procs != 0 ? static_cast<unsigned>(procs) : std::max(1U, std::thread::hardware_concurrency())};
  Values values;
  std::string failure;
  peer.inside(machine, [&] {
    try {
      if (bench != peer.benches.end())
        values["ns"] = nanoseconds_per_item(bench->second, machine);
      else
        values = workload->second.run(params, machine);
    } catch (const std::exception& failed) {
      failure = failed.what();
      values.clear();
    }
  });
  if (failure.empty()) values["rss"] = peak_resident_bytes();
  std::string listed;
  for (const auto& [metric, value] : values) {
    char text[64];
    std::snprintf(text, sizeof(text), "%.17g", value);
    listed += (listed.empty() ? "" : ",") + quoted(metric) + ":" + text;
  }
  std::printf("{\"name\":%s,\"ok\":%s,\"values\":{%s},\"version\":%s%s}\n", quoted(name).c_str(),
              failure.empty() ? "true" : "false", listed.c_str(), quoted(peer.version).c_str(),
              failure.empty() ? "" : (",\"failure\":" + quoted(failure)).c_str());
  if (std::fflush(stdout) != 0) return 1;
  return failure.empty() ? 0 : 1;
}

}  // namespace gearbox::peers
