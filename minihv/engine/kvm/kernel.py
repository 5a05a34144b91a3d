"""The one place where an ioctl is called and its errno becomes a `KvmError` with advice."""

import errno as _errno
import os
from typing import Any

from minihv.engine.kvm import abi
from minihv.engine.kvm.cdata import ffi
from minihv.errors import KvmError

KVM_DEVICE = "/dev/kvm"

_ADVICE = {
    _errno.ENOENT: "load the module (modprobe kvm_intel or kvm_amd) or enable virtualization in the firmware",
    _errno.EACCES: "add yourself to the group that owns it ({group}) and log in again, or run as root",
    _errno.EPERM: "run as root or ask for the permission",
    _errno.EBUSY: "another hypervisor holds the processor's virtualization; stop it",
    _errno.ENODEV: "the processor's virtualization is switched off; enable it in the firmware",
    _errno.ENXIO: "the processor's virtualization is switched off; enable it in the firmware",
    _errno.ENOMEM: "free some memory, or give the guest less (-m)",
    _errno.EINVAL: "this kernel's KVM does not take these arguments; `minihv doctor` shows what it can do",
    _errno.ENOTTY: "this kernel's KVM does not have it; `minihv doctor` shows what it can do",
    _errno.EOPNOTSUPP: "this kernel's KVM does not support it; `minihv doctor` shows what it can do",
    _errno.EEXIST: "it exists already; this is a bug in minihv, please report it",
    _errno.EMFILE: "raise the limit of open files (ulimit -n)",
    _errno.ENFILE: "the whole host is out of open files",
    _errno.E2BIG: "this kernel wants a larger table; this is a bug in minihv, please report it",
}


def ioctl_name(request: int) -> str:
    """The name of an ioctl number in the KVM API document."""
    for name, value in vars(abi).items():
        if value == request and name.isupper() and request >= abi.GET_API_VERSION:
            return f"KVM_{name}"
    return f"ioctl {request:#x}"


def _group_of(path: str) -> str:
    import grp

    try:
        gid = os.stat(path).st_gid
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
    except OSError:
        return "unknown here: its folder is closed to you, too"


def kvm_error(what: str, number: int, path: str = KVM_DEVICE) -> KvmError:
    """A KvmError for errno `number` after `what` (an ioctl's name or "open") failed."""
    advice = _ADVICE.get(number, "`minihv doctor` shows what this host can do")
    if "{group}" in advice:
        advice = advice.format(group=_group_of(path))
    reason = os.strerror(number)
    where = path if what == "open" else f"{what} on {path}"
    verb = "cannot be opened" if what == "open" else "failed"
    return KvmError(f"{where} {verb}: {reason} (errno {number}); {advice}", what, number)


class Kernel:
    """libc's ioctl, bound once for each user: no process-wide state. `path` is for messages."""

    def __init__(self, path: str = KVM_DEVICE) -> None:
        self._path = path
        self._ioctl: Any = ffi.dlopen(None).ioctl

    def ioctl(self, fd: int, request: int, argument: Any = ffi.NULL) -> int:
        """ioctl(2); an int argument is passed by value. Raises KvmError."""
        result = self.try_ioctl(fd, request, argument)
        if result < 0:
            raise kvm_error(ioctl_name(request), -result, self._path)
        return result

    def try_ioctl(self, fd: int, request: int, argument: Any = ffi.NULL) -> int:
        """As `ioctl`, but a failure is answered with -errno.

        A signal may interrupt KVM_CREATE_VM and others before they did anything: they are tried again.
        (KVM_RUN, where EINTR has a meaning, does not come through here.)
        """
        if isinstance(argument, int):
            argument = ffi.cast("void *", argument)
        while True:
            result: int = self._ioctl(fd, request, argument)
            if result >= 0:
                return result
            if ffi.errno != _errno.EINTR:
                return -int(ffi.errno)
