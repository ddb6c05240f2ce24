// Last words: what a dying process says on standard error is one thread's, from the first word to the end.
//
// Two threads that fail at the same moment would mix their messages and traces line by line. So each way to die (die(),
// a fatal error, an unrecovered panic, a fault, SIGQUIT) claims the last words first, and a thread that comes second
// waits here until the first has ended the process.
#pragma once

namespace gearbox {

// True: the calling thread speaks, and must end the process. False: the calling thread has claimed before, and fails
// while it reports; it should end the process at once. While another thread speaks the call does not return.
// Async-signal-safe.
bool claim_last_words() noexcept;
// Whether a thread speaks; whether the calling thread does.
bool last_words_claimed() noexcept;
bool speaks_last_words() noexcept;
// Ends the process with code 2 after that many seconds, counted anew by each call: a report may wait for a lock that
// its own thread holds (the loader's, say). Uses SIGALRM. Async-signal-safe.
void limit_last_words(unsigned seconds) noexcept;

}  // namespace gearbox
