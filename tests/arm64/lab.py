"""An ARM64 machine of containers, emulated: `Dockerfile.arm64` built, and its image run.

No registry of images is asked. What the Dockerfile calls its base is a Debian
tree that debootstrap makes; wheels are fetched for aarch64 by the host's pip, by
the lock with its hashes. From there on it is the Dockerfile itself that is
executed, and the image itself that runs, under the kernel's binfmt_misc and
qemu's user mode. Tree, wheels and layers are kept outside the clone, by the
digest of what they are made from; `SKERRY_ARM64_CACHE` says where.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("SKERRY_ARM64_CACHE") or Path.home() / ".cache/skerry/arm64")
PROGRAMS = ("podman", "runc", "debootstrap", "qemu-aarch64-static", "update-binfmts")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
LOCKS = ("agent.txt", "wheel.txt")
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
TREE = ("--arch=arm64", "--variant=minbase", "--include=python3,python3-venv", "bookworm")
"""What debootstrap makes of Debian: its Python is the 3.11 that the image wants."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
# An ARM library that reads an x86 machine's description of its processors dies of it.
MASKED = "mask=/sys/devices"


def lacking() -> str | None:
    """Return why no ARM64 machine can be had here, with the remedy; None where one can."""
    if os.geteuid() != 0:
        return "making an ARM64 tree needs root: sudo make arm64"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=SEARCHED)]
    if missing:
        return f"missing: {', '.join(missing)}. Remedy: sudo make arm64-deps"
    return None


def run(*words: str | Path, limit_s: float = 900.0, nice: bool = True) -> str:
    """Run a program to its end and return what it printed; it must succeed."""
    first = ["nice", "-n", "15"] if nice else []
    ended = subprocess.run(
        [*first, *(str(word) for word in words)],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": SEARCHED},
        timeout=limit_s,
    )
    assert ended.returncode == 0, f"{' '.join(map(str, words))}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def digest(*parts: bytes | str) -> str:
    """Return a short name for what is made from these parts."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.encode() if isinstance(part, str) else part)
        hashed.update(b"\0")
    return hashed.hexdigest()[:16]


@contextmanager
def made(path: Path) -> Iterator[Path | None]:
    """Give a folder to fill where `path` is not there yet; it appears under its name when full."""
    if path.exists():
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    filling = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield filling
        filling.rename(path)
    finally:
        if filling.exists():
            shutil.rmtree(filling)


@dataclass(frozen=True, slots=True)
class Image:
    """The agent's image, in a store of its own."""

    id: str
    store: tuple[str, ...]

    def podman(self, *words: str | Path, limit_s: float = 120.0) -> str:
        return run("podman", *self.store, *words, limit_s=limit_s)

    def command(self, *options: str | Path) -> list[str | Path]:
        """Return the words that start a container as docs/arm64.md does; the agent's own follow."""
        return [
            *("podman", *self.store, "run", "--rm", "--arch=arm64", "--pull=never"),
            *("--network=host", "--log-driver=none"),
            # podman's own would be above what a machine without CAP_SYS_RESOURCE may set.
            *("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"),
            *("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,noexec,nosuid,size=64m"),
            *("--cap-drop=all", "--security-opt=no-new-privileges", f"--security-opt={MASKED}"),
            *options,
            self.id,
        ]

    def layers(self) -> list[tuple[int, str]]:
        """Return the bytes of each layer and the instruction that made it, the base first."""
        told = json.loads(self.podman("history", "--no-trunc", "--format=json", self.id))
        return [(int(each["size"]), each["CreatedBy"]) for each in reversed(told)]

    def config(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.podman("inspect", self.id))[0]["Config"]
        return found


def emulate() -> None:
    """Let the kernel start ARM64 programs, also in containers (the F flag)."""
    if not (BINFMT / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT)
    if not (BINFMT / "qemu-aarch64").exists():
        run("update-binfmts", "--enable", "qemu-aarch64")
    flags = (BINFMT / "qemu-aarch64").read_text()
    assert "F" in flags.partition("flags:")[2].splitlines()[0], flags


def build() -> Image:
    """Build `Dockerfile.arm64`, or find it built."""
    emulate()
    store = _store()
    base = f"skerry-base:{digest(*TREE)}"
    if not _has(store, base):
        with made(CACHE / f"tree-{digest(*TREE)}") as tree:
            if tree is not None:
                run("debootstrap", *TREE, tree / "root", limit_s=1800)
                shutil.rmtree(tree / "root/var/cache/apt", ignore_errors=True)
        tar = CACHE / "tree.tar"
        run("tar", "-C", CACHE / f"tree-{digest(*TREE)}" / "root", "-cf", tar, ".")
        run("podman", *store, "import", "--quiet", "--arch=arm64", "--os=linux", tar, base)
        tar.unlink()
    run("podman", *store, "image", "prune", "--force", "--filter=until=168h")
    recipe = ROOT / "Dockerfile.arm64"
    # Layers are cached by what they are made from: only what changed is built again.
    built = run(
        *("podman", *store, "build", "--quiet", "--layers", "--isolation=chroot", "--format=oci"),
        *("--arch=arm64", "--pull=never", f"--build-arg=BASE=localhost/{base}"),
        *("--build-arg=PIP_NO_INDEX=1", "--build-arg=PIP_FIND_LINKS=/mnt/wheels"),
        f"--volume={_wheels()}:/mnt/wheels:ro",
        *("--file", recipe, ROOT),
        limit_s=1800,
    )
    return Image(built.split()[-1], store)


def _store() -> tuple[str, ...]:
    """Return where podman keeps these images, apart from those of the machine's owner."""
    return (
        *(f"--root={CACHE}/storage", f"--runroot={CACHE}/run", "--storage-driver=overlay"),
        *("--cgroup-manager=cgroupfs", "--events-backend=none", "--runtime=runc"),
    )


def _has(store: Sequence[str], image: str) -> bool:
    return bool(run("podman", *store, "images", "--quiet", image).strip())


def _wheels() -> Path:
    """Fetch what the locks name, for ARM64, checked against their hashes."""
    locks = [ROOT / "requirements" / name for name in LOCKS]
    target = CACHE / f"wheels-{digest(*(lock.read_bytes() for lock in locks), *PLATFORMS)}"
    with made(target) as folder:
        if folder is not None:
            run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--require-hashes", "--only-binary=:all:", "--python-version=3.11"),
                *(f"--platform={name}" for name in PLATFORMS),
                *(word for lock in locks for word in ("-r", lock)),
                *("-d", folder),
            )
    return target
