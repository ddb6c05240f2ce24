#include "runtime/init.h"

#include <algorithm>

#include "base/check.h"

namespace gearbox {
namespace {

struct Entry {
  std::string name;
  std::vector<std::string> after;
  std::function<void()> f;
};
// The program's, not a runtime's: what is to be run is a property of the code that is linked in.
std::vector<Entry>& entries() {
  static std::vector<Entry> all;
  return all;
}

}  // namespace

void register_init(std::string name, std::vector<std::string> after, std::function<void()> f) {
  for (const Entry& e : entries()) GEARBOX_REQUIRE(e.name != name, "two init functions are called '{}'", name);
  entries().push_back({std::move(name), std::move(after), std::move(f)});
}

void clear_init_functions() { entries().clear(); }

void run_init_functions(const std::function<void(std::string_view)>& tell) {
  std::vector<std::string> done;
  const auto is_done = [&](const std::string& name) { return std::find(done.begin(), done.end(), name) != done.end(); };
  const std::vector<Entry> all = entries();
  for (const Entry& e : all) {
    for (const auto& name : e.after)
      GEARBOX_REQUIRE(std::any_of(all.begin(), all.end(), [&](const Entry& other) { return other.name == name; }),
                      "init function '{}' comes after '{}', which nobody registered", e.name, name);
  }
  while (done.size() < all.size()) {
    const Entry* next = nullptr;
    for (const Entry& e : all) {
      if (is_done(e.name) || !std::all_of(e.after.begin(), e.after.end(), is_done)) continue;
      next = &e;
      break;
    }
    if (next == nullptr) {
      std::string stuck;
      for (const Entry& e : all)
        if (!is_done(e.name)) stuck += " '" + e.name + "'";
      GEARBOX_PANIC("init functions wait for each other:{}", stuck);
    }
    tell(next->name);
    next->f();
    done.push_back(next->name);
  }
}

}  // namespace gearbox
