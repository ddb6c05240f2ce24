// How many Ps there are when nobody says: the CPUs that the affinity allows, or what the control group's quota pays for.
// The control group is a tree of files in a folder of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <filesystem>
#include <fstream>

#include "base/os/cpu_limit.h"
#include "base/os/disk.h"
#include "base/os/thread.h"

namespace gearbox {
namespace {

class FakeSystem {
 public:
  FakeSystem() : path_(*os::make_temporary_folder("gearbox-cgroup-")) {}
  ~FakeSystem() { std::filesystem::remove_all(path_); }

  FakeSystem& file(const std::string& name, const std::string& text) {
    const std::string at = path_ + name;
    std::filesystem::create_directories(std::filesystem::path(at).parent_path());
    std::ofstream(at) << text;
    return *this;
  }
  // Control groups of the second version, mounted where they mostly are.
  FakeSystem& v2(const std::string& group) {
    return file("/proc/self/cgroup", "0::" + group + "\n")
        .file("/proc/self/mountinfo",
              "22 1 8:1 / / rw - ext4 /dev/root rw\n"
              "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n");
  }
  os::CpuLimit limit(int affinity) const { return os::cpu_limit(path_, affinity); }

 private:
  std::string path_;
};

TEST(CpuLimit, WithoutAQuotaTheAffinityDecides) {
  const FakeSystem nothing;
  EXPECT_EQ(nothing.limit(7).procs, 7);
  EXPECT_EQ(nothing.limit(7).quota_cpus, 0);
  EXPECT_THAT(nothing.limit(7).why(), testing::HasSubstr("7 CPUs"));
  FakeSystem unlimited;
  unlimited.v2("/a").file("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
  EXPECT_EQ(unlimited.limit(7).procs, 7);
}

TEST(CpuLimit, AQuotaIsRoundedUpAndNeverBelowTwo) {  // Go's rule since 1.25
  struct Case {
    const char* max;
    int affinity, procs;
  };
  for (const Case& c : {Case{"250000 100000", 8, 3}, Case{"200000 100000", 8, 2}, Case{"200001 100000", 8, 3},
                        Case{"50000 100000", 8, 2}, Case{"50000 100000", 1, 1}, Case{"100000 100000", 8, 2},
                        Case{"900000 100000", 8, 8}, Case{"5000 2000", 8, 3}, Case{"300000 100000\n", 2, 2}}) {
    FakeSystem system;
    system.v2("/box").file("/sys/fs/cgroup/box/cpu.max", c.max);
    const os::CpuLimit limit = system.limit(c.affinity);
    EXPECT_EQ(limit.procs, c.procs) << c.max << " of " << c.affinity;
    EXPECT_THAT(limit.why(), testing::HasSubstr(limit.procs < c.affinity ? "/sys/fs/cgroup/box/cpu.max" : "CPU"));
  }
}

TEST(CpuLimit, TheTightestLevelOfTheTreeCounts) {
  FakeSystem system;
  system.v2("/outer/inner")
      .file("/sys/fs/cgroup/outer/inner/cpu.max", "600000 100000")
      .file("/sys/fs/cgroup/outer/cpu.max", "300000 100000");
  EXPECT_EQ(system.limit(16).procs, 3);
  EXPECT_THAT(system.limit(16).why(), testing::HasSubstr("/sys/fs/cgroup/outer/cpu.max"));
  system.file("/sys/fs/cgroup/outer/cpu.max", "max 100000");
  EXPECT_EQ(system.limit(16).procs, 6);
}

TEST(CpuLimit, TheFirstVersionOfControlGroups) {
  FakeSystem system;
  system
      .file("/proc/self/cgroup",
            "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n0::/docker/abc\n")
      .file("/proc/self/mountinfo",
            "31 22 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "33 22 0:29 /docker/abc /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
            "32 22 0:28 /docker/abc /sys/fs/cgroup/cpu\\040group rw - cgroup cgroup rw,cpu,cpuacct\n")
      .file("/sys/fs/cgroup/cpu group/cpu.cfs_quota_us", "350000\n")
      .file("/sys/fs/cgroup/cpu group/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(system.limit(16).procs, 4);
  system.file("/sys/fs/cgroup/cpu group/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(system.limit(16).procs, 16);
}

TEST(CpuLimit, AMountOfASubtreeIsSeenFromInside) {  // a container with the host's view of its path
  FakeSystem system;
  system.file("/proc/self/cgroup", "0::/kube/pod7/box\n")
      .file("/proc/self/mountinfo", "30 22 0:26 /kube/pod7 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
      .file("/sys/fs/cgroup/box/cpu.max", "200000 100000");
  EXPECT_EQ(system.limit(16).procs, 2);
}

TEST(CpuLimit, NonsenseIsNoLimit) {
  for (const char* text : {"", "garbage", "100000", "0 100000", "-5 100000", "100000 0", "nan nan", "1e9999 1"}) {
    FakeSystem system;
    system.v2("/a").file("/sys/fs/cgroup/a/cpu.max", text);
    EXPECT_EQ(system.limit(5).procs, 5) << text;
  }
}

TEST(CpuLimit, TheAffinityIsTheThreads) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(os::online_cpus(), 1);
  EXPECT_EQ(os::cpu_limit().procs, 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
  EXPECT_EQ(os::online_cpus(), CPU_COUNT(&before));
}

}  // namespace
}  // namespace gearbox
