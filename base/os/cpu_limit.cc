#include "base/os/cpu_limit.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <sstream>
#include <vector>

#include "base/os/file.h"

namespace gearbox::os {
namespace {

std::string text_of(const std::string& path) {
  auto text = read_file(path);
  return text ? *text : "";
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) out.push_back(part);
  return out;
}

bool lists(const std::string& names, const std::string& name) {
  const auto all = split(names, ',');
  return std::find(all.begin(), all.end(), name) != all.end();
}

// "/cpu\040group" -> "/cpu group": mountinfo writes blanks and backslashes in octal.
std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool octal = text[i] == '\\' && i + 3 < text.size() &&
                       std::all_of(&text[i + 1], &text[i + 4], [](char c) { return c >= '0' && c <= '7'; });
    if (octal) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct Group {
  bool second_version = true;
  std::string mount, path;  // the path below the mount: "" or "/a/b"
};

// The group that limits this process's CPU time, as the mounts show it.
std::optional<Group> find_group(const std::string& root) {
  Group group;
  std::string path;
  bool found = false;
  for (const auto& line : split(text_of(root + "/proc/self/cgroup"), '\n')) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);  // "4:cpu,cpuacct:/a:b"
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool first_version = lists(controllers, "cpu");
    if (!first_version && (!controllers.empty() || found)) continue;
    path = line.substr(second + 1);
    found = true;
    group.second_version = !first_version;
    if (first_version) break;  // where both are mounted, the controller is with the first
  }
  if (!found) return std::nullopt;
  for (const auto& line : split(text_of(root + "/proc/self/mountinfo"), '\n')) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const auto before = split(line.substr(0, dash), ' '), after = split(line.substr(dash + 3), ' ');
    if (before.size() < 5 || after.size() < 3) continue;
    if (group.second_version ? after[0] != "cgroup2" : after[0] != "cgroup" || !lists(after[2], "cpu")) continue;
    const std::string shown = unescaped(before[3]);  // the group that the mount shows as its root
    group.mount = unescaped(before[4]);
    if (shown == "/") {
      group.path = path;
    } else if (path == shown || path.starts_with(shown + "/")) {
      group.path = path.substr(shown.size());
    } else {
      group.path = "";  // a group outside of what the mount shows: what it shows is all there is to see
    }
    while (!group.path.empty() && group.path.back() == '/') group.path.pop_back();
    return group;
  }
  return std::nullopt;
}

// In CPUs; nothing when the files say "max", say no sense, or are not there.
std::optional<double> ratio(const std::string& quota, const std::string& period) {
  const auto number = [](const std::string& text) {
    long long value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? value : 0;
  };
  const long long q = number(quota), p = number(period);
  if (q <= 0 || p <= 0) return std::nullopt;
  return static_cast<double>(q) / static_cast<double>(p);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

CpuLimit cpu_limit(const std::string& root, int affinity_cpus) {
  CpuLimit limit;
  limit.affinity_cpus = limit.procs = std::max(affinity_cpus, 1);
  const auto group = find_group(root);
  if (!group) return limit;
  for (std::string path = group->path;; path.resize(path.rfind('/'))) {
    const std::string folder = group->mount + path;
    std::string file;
    std::optional<double> cpus;
    if (group->second_version) {
      file = folder + "/cpu.max";
      const auto parts = split(first_line(text_of(root + file)), ' ');
      if (parts.size() == 2) cpus = ratio(parts[0], parts[1]);
    } else {
      file = folder + "/cpu.cfs_quota_us";
      cpus = ratio(first_line(text_of(root + file)), first_line(text_of(root + folder + "/cpu.cfs_period_us")));
    }
    if (cpus && (limit.quota_cpus == 0 || *cpus < limit.quota_cpus)) {
      limit.quota_cpus = *cpus;
      limit.quota_file = file;
    }
    if (path.rfind('/') == std::string::npos) break;
  }
  if (limit.quota_cpus > 0 && limit.quota_cpus < limit.affinity_cpus)
    limit.procs = std::min(limit.affinity_cpus, std::max(2, static_cast<int>(std::ceil(limit.quota_cpus))));
  return limit;
}

std::string CpuLimit::why() const {
  if (quota_cpus <= 0)
    return fmt::format("{}: the affinity allows {} CPU{}, and no control group has a quota", procs, affinity_cpus,
                       affinity_cpus == 1 ? "" : "s");
  if (procs < affinity_cpus)
    return fmt::format("{}: the quota of {:.2f} CPUs in {}, rounded up and 2 at least; the affinity allows {}", procs,
                       quota_cpus, quota_file, affinity_cpus);
  return fmt::format("{}: the affinity allows {} CPU{}; the quota of {:.2f} CPUs in {} comes to no fewer", procs,
                     affinity_cpus, affinity_cpus == 1 ? "" : "s", quota_cpus, quota_file);
}

}  // namespace gearbox::os
