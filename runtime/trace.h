// What the runtime says of its goroutines when something is wrong.
#pragma once

namespace gearbox {

// For SIGQUIT: every goroutine of every runtime of the process, those that run first, with the frames that their threads
// are in. In the handler; `ucontext` is its third argument. The other threads stop for good.
void report_everything(const void* ucontext);

}  // namespace gearbox
