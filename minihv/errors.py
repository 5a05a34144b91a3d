"""Everything minihv raises on purpose, and the process exit status each one becomes.

    MinihvError                 240
      UsageError                  2   an argument, option or config value is wrong
      CannotStart               240   the machine never ran
        ImageError                    a guest image was refused
        HostError                     the host lacks something, or refused a system call
          KvmError                    a KVM ioctl failed
        EngineUnavailable             no engine (or not the one asked for) works here
      GuestMemoryError          248   the VMM was asked to touch guest memory that does not exist
      HandlerFailed             248   a device or port handler raised

Only bugs raise anything else. What a *guest* does wrong is never an exception: it is an
`Exit` (see `minihv.exits`) and ends up in the report's outcome.

The statuses of minihv's own are even and above 128, so that no guest can produce one by accident:
port 0xf4 gives odd statuses only, port 0xf8 gives 0..127 (see shared board notes in ARCHITECTURE.md).
"""

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_CANNOT_START = 240
EXIT_GUEST_CRASHED = 242
EXIT_TIMED_OUT = 244
EXIT_BUDGET_SPENT = 246
EXIT_VMM_STOPPED = 248
EXIT_OVER_BUDGET = 250


class MinihvError(Exception):
    """Base of all errors raised on purpose; `exit_status` is what the command line returns."""

    exit_status = EXIT_CANNOT_START


class UsageError(MinihvError):
    """An argument, option or configuration value is wrong: what was expected, what was found."""

    exit_status = EXIT_USAGE


class CannotStart(MinihvError):
    """The machine could not be started; no guest instruction was executed."""


class ImageError(CannotStart):
    """A guest image was refused, before any VM existed."""


class HostError(CannotStart):
    """The host lacks something or refused a system call."""


class KvmError(HostError):
    """A KVM ioctl failed. `ioctl` is its name, `errno` the kernel's answer."""

    def __init__(self, message: str, ioctl: str, errno: int) -> None:
        super().__init__(message)
        self.ioctl = ioctl
        self.errno = errno


class EngineUnavailable(CannotStart):
    """The engine asked for, or every engine, cannot work on this host."""


class GuestMemoryError(MinihvError):
    """The VMM was asked for guest-physical bytes that no RAM or ROM holds.

    `gpa` and `size` (bytes) tell which.
    """

    exit_status = EXIT_VMM_STOPPED

    def __init__(self, gpa: int, size: int) -> None:
        super().__init__(f"guest-physical range {gpa:#x}..{gpa + size - 1:#x} is not RAM or ROM")
        self.gpa = gpa
        self.size = size


class HandlerFailed(MinihvError):
    """A device or port handler raised; the original exception is `__cause__`, `report` the run's Report."""

    exit_status = EXIT_VMM_STOPPED
    report: object = None
