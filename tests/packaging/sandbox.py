"""Applies the unit's sandbox without systemd: its filter of system calls, and a read-only root file system.

A filter that forbids too much would otherwise fail only on users' machines.
"""

import ctypes
import errno
import subprocess

# From seccomp.h: refuse with an error number, allow.
REFUSE = 0x00050000
ALLOW = 0x7FFF0000


def system_calls(name):
    """The system calls of a set of systemd's, sets within it included."""
    listed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", name], stdout=subprocess.PIPE, text=True, check=True
    )
    found = set()
    for line in listed.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= system_calls(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def allowed(filters):
    """The system calls that the values of SystemCallFilter= allow, applied in order."""
    calls = system_calls("@default")
    for value in filters:
        for word in value.lstrip("~").split():
            named = system_calls(word) if word.startswith("@") else {word}
            calls = calls - named if value.startswith("~") else calls | named
    return calls


def imposer(calls):
    """Returns a function that applies the filter to the process that calls it."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    # A system call that this architecture lacks has a negative number.
    numbers = [library.seccomp_syscall_resolve_name(call.encode()) for call in sorted(calls)]

    def impose():
        context = library.seccomp_init(REFUSE | errno.EPERM)
        for number in numbers:
            if number >= 0 and library.seccomp_rule_add(context, ALLOW, number, 0):
                raise OSError(f"no rule for system call {number}")
        if library.seccomp_load(context):
            raise OSError("the filter is not taken")

    return impose


def seal(writable):
    """Makes the root file system read-only, except one directory, as ProtectSystem=strict does."""
    subprocess.run(["mount", "--bind", writable, writable], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", "/"], check=True)


def unseal():
    """Makes the root file system writable again, for the next version of the package."""
    subprocess.run(["mount", "-o", "remount,bind,rw", "/"], check=True)
