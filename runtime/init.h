// Init functions: run on the first goroutine, before main, each after those it depends on, as Go orders package
// initialisation.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace gearbox {

// Registers f under a name, to run once per runtime after the functions named in `after`. Call it before run_program(),
// from any one thread.
void register_init(std::string name, std::vector<std::string> after, std::function<void()> f);
// Runs all in dependency order (ties in order of registration); tells each name before it runs. Dies on a cycle or an
// unknown name, naming it.
void run_init_functions(const std::function<void(std::string_view)>& tell);
// Forgets all: for tests.
void clear_init_functions();

}  // namespace gearbox
