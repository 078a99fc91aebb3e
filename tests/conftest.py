"""Every test passes on a machine that is busy, and where a shell runs the tests in the background."""

from __future__ import annotations

import signal
import threading

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:
    pass
else:  # examples have no time limit, and may take long to draw
    settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    # A gate that draws new examples each time fails for what a change did not touch: the same ones, unless searched for.
    settings.register_profile("gate", settings.get_profile("search"), derandomize=True)
    settings.load_profile("gate")

# A background job of a shell is born deaf to Ctrl-C, and so would be every command that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
