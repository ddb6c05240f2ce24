"""Ctrl-C ends the analysis with one line and exit code 130, wherever it is, and never with a traceback.

A handler that ends the process, in place of KeyboardInterrupt: an exception can arrive inside a callback of the drawing
library, which prints it and goes on, and in an `except` clause written for something else. What the process was about to write
is written under another name and renamed, so nothing is left half done.
"""
from __future__ import annotations

import os
import signal

EXIT_INTERRUPTED = 130


def end_quietly(said: str, caller: str = "analysis") -> None:
    """From now on SIGINT prints one line and ends the process. A SIGINT that was to be ignored (nohup, a background job) stays so.

    Called once more with another sentence it replaces the first.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return

    answered: list[bool] = []  # a terminal's Ctrl-C and one that the front door hands on come together

    def end(*_) -> None:
        if answered:
            return
        answered.append(True)
        os.write(2, f"{caller}: {said}\n".encode())
        os._exit(EXIT_INTERRUPTED)

    signal.signal(signal.SIGINT, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the front door may hold it back until this line


def work_is_done() -> None:
    """To be called last, all output written: from here on SIGINT changes nothing.

    While the interpreter takes itself down it gives the signal back to the kernel, which would end the process without a word
    and call work that is done interrupted.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
