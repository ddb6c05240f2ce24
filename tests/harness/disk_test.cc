// What base/os/disk.h and base/os/file.h promise to the harness: reads that take the memory they need.
#include "base/os/disk.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "base/os/file.h"
#include "base/os/memory.h"

namespace gearbox {
namespace {

class Disk : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = *os::make_temporary_folder("gearbox-test-"); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  os::Descriptor file_with(const std::string& text) const {
    auto file = os::create_file(folder_ + "/file");
    GEARBOX_REQUIRE(file.ok(), "{}", file.error().message);
    EXPECT_EQ(os::write_all(file->fd(), text.data(), text.size()), 0);
    return std::move(*file);
  }
  std::string folder_;
};

TEST_F(Disk, APartOfAFileTakesTheMemoryOfWhatIsThereAndNotOfItsLimit) {
  const auto file = file_with("hello");
  const pid_t child = ::fork();  // a process of its own: its peak begins with what it has now
  if (child == 0) {
    const std::uint64_t before = os::peak_resident_bytes();
    const bool right = os::read_part(file, 0, 256u << 20) == "hello";
    ::_exit(!right ? 1 : os::peak_resident_bytes() - before > 16u << 20 ? 2 : 0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << "exit code 2: the peak of the resident memory grew with the limit";
}

TEST_F(Disk, APartIsWhatLiesBetweenOffsetAndLimit) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += static_cast<char>('a' + i % 26);
  const auto file = file_with(text);
  EXPECT_EQ(os::read_part(file, 0, 0), "");
  EXPECT_EQ(os::read_part(file, 0, 1), "a");
  EXPECT_EQ(os::read_part(file, 7, 90'000), text.substr(7, 90'000));
  EXPECT_EQ(os::read_part(file, 50'000, 1u << 30), text.substr(50'000));
  EXPECT_EQ(os::read_part(file, text.size(), 10), "");
  EXPECT_EQ(os::read_part(file, text.size() + 10, 10), "");
  // The kernel says 0 of the size of its own files.
  auto own = os::open_for_reading("/proc/self/maps");
  ASSERT_TRUE(own);
  EXPECT_GT(os::read_part(*own, 0, 1u << 20).size(), 100u);
}

}  // namespace
}  // namespace gearbox
