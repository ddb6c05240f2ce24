#include "harness/helper_program.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>

#include "base/os/clock.h"
#include "base/os/disk.h"
#include "base/os/process.h"
#include "harness/output.h"

namespace gearbox::harness {
namespace {

constexpr std::int64_t kLookEvery_ns = 200'000'000;
constexpr std::int64_t kTerminalsWord_ns = 1'000'000'000;  // by then a terminal's Ctrl-C has reached the program
constexpr std::int64_t kPatience_ns = 5'000'000'000;       // with a program that was interrupted

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
               bool discard_output) {
  os::SpawnRequest request;
  request.arguments = arguments;
  request.environment = own_environment(extra_environment);
  request.own_group = false;  // Ctrl-C reaches it as it reaches us
  request.hold_interrupt = true;
  os::Descriptor nowhere;
  if (discard_output) {
    auto opened = os::open_for_appending("/dev/null");
    if (!opened) {
      print_err("gearbox: {}\n", opened.error().message);
      return 127;
    }
    nowhere = std::move(*opened);
    request.output = nowhere.fd();
  }
  os::count_interrupts();
  const int interrupts_before = os::interrupts();
  flush_output();
  auto child = os::spawn(request);
  if (!child) {
    print_err("gearbox: {}\n", child.error().message);
    return 127;
  }
  std::int64_t interrupted = 0;  // when
  bool told = false;
  for (;;) {
    if (auto ended = os::wait_for(*child, kLookEvery_ns))
      return ended->signal == 0 ? ended->exit_code : 128 + ended->signal;
    const int interrupts = os::interrupts() - interrupts_before;
    if (interrupts == 0) continue;
    const std::int64_t now = os::monotonic_ns();
    if (interrupted == 0) interrupted = now;
    if (interrupts > 1 || now - interrupted > kPatience_ns) {
      os::signal_process(*child, SIGKILL);
    } else if (!told && now - interrupted > kTerminalsWord_ns) {
      told = true;
      os::signal_process(*child, os::last_interrupt());
    }
  }
}

}  // namespace gearbox::harness
