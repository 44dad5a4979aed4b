"""Code for a process that may not pass over the permissions of files, also if the tests are run by root."""

UNPRIVILEGED = """
import ctypes, os, sys
if sys.platform == "linux" and os.geteuid() == 0 and "UNPRIVILEGED" not in os.environ:
    # Root without these two capabilities (to pass over permissions) is refused like anybody else.
    drop = ctypes.CDLL(None, use_errno=True).prctl
    for capability in (1, 2):
        if drop(24, capability, 0, 0, 0):
            sys.exit("the capabilities cannot be dropped here")
    os.environ["UNPRIVILEGED"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
"""
"""To be put in front of a piece of code that `tests.support.subprocesses` runs."""
