"""Every test passes on a machine that is busy, and where a shell runs the tests in the background."""

from __future__ import annotations

import signal
import threading

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:
    pass
else:  # examples have no time limit, and may take long to draw
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")

# A background job of a shell is born deaf to Ctrl-C, and so would be every command that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
