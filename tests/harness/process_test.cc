// What base/os/process.h promises to the harness: parents that die, signals that are ignored, the file that runs; and
// what git is asked about the sources.
#include "base/os/process.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/os/disk.h"
#include "base/os/memory.h"
#include "harness/source_state.h"

namespace gearbox {
namespace {

namespace fs = std::filesystem;

// Runs `body` in a child process; true when it returned true there.
template <class Body>
bool in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = -1;
  ::waitpid(child, &status, 0);
  return status == 0;
}

TEST(Process, AParentWithAnyIdIsAParent) {
  const pid_t self = ::getpid();
  EXPECT_TRUE(in_child([&] { return os::die_with_parent(self); }));
  EXPECT_FALSE(in_child([&] { return os::die_with_parent(self + 1); }));
  // An orphan's parent is process 1 on most systems, which is also what a container's first program is.
  int answer[2];
  ASSERT_EQ(::pipe(answer), 0);
  EXPECT_TRUE(in_child([&] {
    if (const pid_t middle = ::getpid(); ::fork() == 0) {
      while (::getppid() == middle) ::usleep(1000);
      const char yes = os::die_with_parent(::getppid()) && !os::die_with_parent(middle) ? 'y' : 'n';
      (void)!::write(answer[1], &yes, 1);
      ::_exit(0);
    }
    return true;
  }));
  char yes = 0;
  ASSERT_EQ(::read(answer[0], &yes, 1), 1);
  EXPECT_EQ(yes, 'y');
  ::close(answer[0]);
  ::close(answer[1]);
}

TEST(Process, WhatIsIgnoredStaysIgnored) {
  EXPECT_TRUE(in_child([] {
    ::signal(SIGHUP, SIG_IGN);
    os::count_interrupts();
    ::raise(SIGHUP);
    ::raise(SIGINT);
    return os::interrupts() == 1 && os::last_interrupt() == SIGINT;
  }));
  // A helper in our own group inherits it; a cell, which has its own, begins with everything at its default.
  for (const bool own_group : {false, true}) {
    EXPECT_TRUE(in_child([&] {
      ::signal(SIGHUP, SIG_IGN);
      os::SpawnRequest request;
      request.arguments = {"/bin/sh", "-c", "kill -HUP $$; exit 7"};
      request.own_group = own_group;
      auto child = os::spawn(request);
      if (!child) return false;
      std::optional<os::Ended> ended;
      while (!(ended = os::wait_for(*child, 1'000'000'000))) {
      }
      return own_group ? ended->signal == SIGHUP : ended->exit_code == 7;
    }));
  }
}

TEST(Process, ThePeakIsThisProgramsOwn) {
  // The child of a large process: its ru_maxrss begins with the parent's pages, its VmHWM does not.
  std::vector<char> ballast(300u << 20, 1);
  EXPECT_GE(os::peak_resident_bytes(), ballast.size());
  os::SpawnRequest request;
  request.arguments = {"/bin/sh", "-c", "exit 0"};
  auto child = os::spawn(request);
  ASSERT_TRUE(child);
  std::optional<os::Ended> ended;
  while (!(ended = os::wait_for(*child, 1'000'000'000))) {
  }
  EXPECT_GE(ended->max_rss_bytes, ballast.size());  // why no size may be read from rusage
}

class Sources : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = *os::make_temporary_folder("gearbox-test-"); }
  void TearDown() override { fs::remove_all(folder_); }
  void git(const std::string& words) const {
    const std::string command =
        fmt::format("git -C {} -c user.name=a -c user.email=a@b {} >/dev/null 2>&1", folder_, words);
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(folder_ + "/" + name) << text; }
  std::string folder_;
};

TEST_F(Sources, NewFilesMakeATreeDirtyAndAreInTheDiff) {
  git("init");
  write("old", "1\n");
  git("add old");
  git("commit -m x");
  auto clean = harness::look_at_sources(folder_);
  EXPECT_EQ(clean.commit.get<std::string>().size(), 40u);
  EXPECT_EQ(clean.dirty, false);
  EXPECT_EQ(clean.diff, "");
  write("new_gear.cc", "int gear;\n");
  const std::string index_before = os::read_part(*os::open_for_reading(folder_ + "/.git/index"), 0, 1 << 20);
  auto dirty = harness::look_at_sources(folder_);
  EXPECT_EQ(dirty.dirty, true);
  EXPECT_NE(dirty.diff.find("+int gear;"), std::string::npos) << dirty.diff;
  EXPECT_EQ(os::read_part(*os::open_for_reading(folder_ + "/.git/index"), 0, 1 << 20), index_before);
  // The diff makes the same tree again.
  const std::string copy = folder_ + "/.copy";
  git("clone . .copy");
  write("the.diff", dirty.diff);
  git("-C .copy apply ../the.diff");
  EXPECT_TRUE(fs::exists(copy + "/new_gear.cc"));
}

TEST_F(Sources, WhereGitSaysNothingNothingIsKnown) {
  auto none = harness::look_at_sources(folder_);
  EXPECT_TRUE(none.commit.is_null());
  EXPECT_TRUE(none.dirty.is_null());
  git("init");
  write("f", "1\n");
  git("add f");
  git("commit -m x");
  fs::create_directory(folder_ + "/unpacked");  // a tree inside another project's repository
  EXPECT_TRUE(harness::look_at_sources(folder_ + "/unpacked").commit.is_null());
}

}  // namespace
}  // namespace gearbox
