"""Compile a test kernel: one C file of this directory, the common start-up code, gcc and binutils."""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIB = HERE / "lib"

FLAGS = [
    "-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Wno-parentheses", "-Wno-unused-parameter", "-Werror",
    "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none", "-mgeneral-regs-only",
]  # fmt: skip
LINK = [
    "-no-pie", "-nostdlib", "-static",
    f"-Wl,--build-id=none,-z,max-page-size=4096,-z,noexecstack,-n,-T,{LIB / 'link.ld'}",
]  # fmt: skip


def why_not() -> str | None:
    """What is missing to compile 32- and 64-bit x86 kernels here; None: nothing."""
    missing = [tool for tool in ("gcc", "objcopy") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    probe = subprocess.run(
        ["gcc", "-m32", "-ffreestanding", "-x", "c", "-c", "-o", "/dev/null", "-"],
        input="int zero;", capture_output=True, text=True, check=False,
    )  # fmt: skip
    return None if probe.returncode == 0 else "this gcc makes no x86 code"


def build(name: str, bits: int, into: Path) -> Path:
    """`name`.c as a multiboot ELF32 image for a 32- or 64-bit kernel. Raises CalledProcessError."""
    elf, image = into / f"{name}.{bits}.elf", into / f"{name}.{bits}"
    if image.exists():
        return image
    sources = [LIB / f"start{bits}.S", LIB / "kernel.c", HERE / f"{name}.c"]
    red_zone = ["-mno-red-zone"] if bits == 64 else []
    command = ["gcc", f"-m{bits}", *FLAGS, *red_zone, f"-I{LIB}", *map(str, sources)]
    command += [*LINK, "-o", str(elf)]
    subprocess.run(command, check=True)
    # Multiboot 1 wants ELF32; the 64-bit code inside does not mind.
    subprocess.run(["objcopy", "-O", "elf32-i386", str(elf), str(image)], check=True)
    return image
