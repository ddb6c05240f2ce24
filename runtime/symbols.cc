#include "runtime/symbols.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>

#include "base/os/file.h"

namespace gearbox {

std::string describe_trace(const std::vector<void*>& trace) {
  std::string text;
  for (void* address : trace) {
    Dl_info info{};
    std::string name = "?";
    std::uintptr_t offset = 0;
    if (::dladdr(address, &info) != 0 && info.dli_sname != nullptr) {
      int status = 0;
      char* demangled = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
      name = status == 0 ? demangled : info.dli_sname;
      std::free(demangled);
      offset = reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(info.dli_saddr);
    }
    text += fmt::format("\t{}+{:#x} ({})\n", name, offset, address);
  }
  return text;
}

void print_trace(const std::vector<void*>& trace) {
  const std::string text = describe_trace(trace);
  os::write_all(2, text.data(), text.size());
}

}  // namespace gearbox
