#include "harness/source_state.h"

#include <filesystem>

#include "base/os/disk.h"
#include "harness/helper_program.h"

namespace gearbox::harness {
namespace {

constexpr std::size_t kDiffBytes = 16u << 20;  // more is not a change but another tree

std::string without_newline(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

SourceState look_at_sources(const std::string& root) {
  SourceState state;
  const auto git = [&](std::vector<std::string> words, const std::vector<std::string>& environment = {}) {
    std::vector<std::string> command = {"/usr/bin/git", "-C", root};
    command.insert(command.end(), words.begin(), words.end());
    return captured_output(command, kDiffBytes, environment);
  };
  // A tree that was unpacked inside another project's repository must not borrow that one's commit.
  const auto prefix = git({"rev-parse", "--show-prefix"});
  if (!prefix || !without_newline(*prefix).empty()) return state;
  const auto commit = git({"rev-parse", "HEAD"});
  const auto changes = git({"status", "--porcelain", "--untracked-files=normal"});
  if (!commit || !changes) return state;
  state.commit = without_newline(*commit);
  state.dirty = !changes->empty();
  if (changes->empty()) return state;

  // New files are part of the difference, and `git diff` shows only what the index knows. So a copy of the index gets to
  // know them, by name; neither the real one nor the object store is touched.
  auto folder = os::make_temporary_folder("gearbox-index-");
  if (!folder) return state;
  std::error_code failure;
  const auto index = git({"rev-parse", "--absolute-git-dir"});
  const std::string copy = *folder + "/index";
  if (index) std::filesystem::copy_file(without_newline(*index) + "/index", copy, failure);
  const std::vector<std::string> with_copy = {"GIT_INDEX_FILE=" + copy};
  if (index && !failure && git({"add", "--all", "--intent-to-add", "."}, with_copy))
    if (auto diff = git({"diff", "--binary", "HEAD"}, with_copy)) state.diff = *diff;
  std::filesystem::remove_all(*folder, failure);
  return state;
}

}  // namespace gearbox::harness
