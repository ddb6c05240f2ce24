#include "harness/helper_program.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>

#include "base/os/disk.h"
#include "base/os/process.h"

namespace gearbox::harness {
namespace {

constexpr std::int64_t kLookEvery_ns = 50'000'000, kGrace_ns = 1'000'000'000;

std::vector<std::string> own_environment(const std::vector<std::string>& extra) {
  std::vector<std::string> out = extra;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string text(*entry);
    const std::string name = text.substr(0, text.find('=') + 1);
    bool replaced = false;
    for (const auto& given : extra) replaced = replaced || given.starts_with(name);
    if (!replaced) out.push_back(text);
  }
  return out;
}

}  // namespace

std::optional<std::string> captured_output(const std::vector<std::string>& arguments, std::size_t limit_bytes,
                                           const std::vector<std::string>& extra_environment) {
  auto folder = os::make_temporary_folder("gearbox-line-");
  if (!folder) return std::nullopt;
  std::optional<std::string> text;
  {
    auto output = os::create_file(*folder + "/out"), errors = os::create_file(*folder + "/err");
    os::SpawnRequest request;
    request.arguments = arguments;
    request.environment = own_environment(extra_environment);
    if (output && errors) {
      request.output = output->fd();
      request.errors = errors->fd();
      if (auto child = os::spawn(request)) {
        auto ended = os::wait_for(*child, 20'000'000'000);
        if (!ended) {
          os::signal_group(*child, SIGKILL);
          while (!os::wait_for(*child, 1'000'000'000)) {
          }
        } else if (ended->signal == 0 && ended->exit_code == 0 && os::size_of(*output) <= limit_bytes) {
          text = os::read_part(*output, 0, limit_bytes);
        }
      }
    }
  }
  std::error_code ignored;
  std::filesystem::remove_all(*folder, ignored);
  return text;
}

int run_to_end(const std::vector<std::string>& arguments, const std::vector<std::string>& extra_environment,
               bool output_to_errors) {
  os::SpawnRequest request;
  request.arguments = arguments;
  request.environment = own_environment(extra_environment);
  request.own_group = false;  // Ctrl-C reaches it as it reaches us
  request.hold_interrupt = true;
  constexpr int kErrors = 2;
  if (output_to_errors) request.output = kErrors;
  os::count_interrupts();  // or a signal to us alone would end us, and leave the program behind
  auto child = os::spawn(request);
  if (!child) {
    fmt::print(stderr, "gearbox: {}\n", child.error().message);
    return 127;
  }
  for (int forwarded = os::interrupts();;) {
    auto ended = os::wait_for(*child, kLookEvery_ns);
    if (!ended && forwarded < os::interrupts()) {
      // A terminal's Ctrl-C has reached the program as well: a second one would meet it while it handles the first.
      if (os::last_interrupt() == SIGINT) ended = os::wait_for(*child, kGrace_ns);
      if (!ended) os::signal_process(*child, os::last_interrupt());
      ++forwarded;
    }
    if (ended) return ended->signal == 0 ? ended->exit_code : 128 + ended->signal;
  }
}

}  // namespace gearbox::harness
