"""Which machine the benchmarks ran on: writes reports/benchmarks/machine.txt."""

import os
import platform
from pathlib import Path

import torch
from common import REPORTS

from tla.files import write_text

LOW_PRECISION = ("avx512_bf16", "amx_bf16")     # a processor's own bfloat16


def processor() -> tuple[str, set[str]]:
    """Name and flags of the first processor, as Linux knows them."""
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    return fields.get("model name", platform.machine()), set(fields.get("flags", "").split())


def described() -> str:
    """One fact a line."""
    name, flags = processor()
    lines = [f"processor: {name}", f"cores: {len(os.sched_getaffinity(0))}"]
    for flag in LOW_PRECISION:
        lines.append(f"{flag}: {'yes' if flag in flags else 'no'}")
    lines.append(f"torch: {torch.__version__}")
    lines.append(f"python: {platform.python_version()}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = described()
    print(text, end="")
    write_text(REPORTS / "machine.txt", text)
