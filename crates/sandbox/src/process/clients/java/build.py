#!/usr/bin/env python3
"""Compiles Virga's Java client into client.jar, which is part of the binary: users need no compiler.

build.py          writes it; the same source and compiler give the same bytes
build.py --check  fails if its classes are not what the source compiles to; needs javac 17, and says so without
"""

import io
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
JAR = HERE / "client.jar"
RELEASE = "17"
MANIFEST = b"Manifest-Version: 1.0\nMain-Class: virga.runtime.Main\nEnable-Native-Access: ALL-UNNAMED\n\n"


def compiler():
    """A javac of the release that the jar is made with: others write other bytes."""
    homes = sorted(pathlib.Path("/usr/lib/jvm").glob("*/bin/javac"))
    for javac in [shutil.which("javac"), *homes]:
        if javac:
            said = subprocess.run([javac, "-version"], capture_output=True, text=True)
            if re.match(rf"javac {RELEASE}\b", said.stdout + said.stderr):
                return javac
    return None


def compiled(javac):
    """Every class, by its path in the jar."""
    sources = sorted(str(path) for path in (HERE / "source").rglob("*.java"))
    with tempfile.TemporaryDirectory() as folder:
        # Concatenation by calls: what the compiler would have done as the client runs costs every start.
        flags = ["-XDstringConcat=inline", "--release", RELEASE, "-Xlint:all", "-Werror", "-proc:none", "-g:source,lines", "-encoding", "UTF-8"]
        subprocess.run([javac, *flags, "-d", folder, *sources], check=True)
        root = pathlib.Path(folder)
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.class"))}


def packed(classes):
    """Entries without compression, which load faster, at a fixed time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as jar:
        for name, content in {"META-INF/MANIFEST.MF": MANIFEST, **classes}.items():
            jar.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def main():
    javac = compiler()
    if javac is None:
        print(f"build.py: there is no javac {RELEASE}")
        return 0 if "--check" in sys.argv[1:] else 1
    jar = packed(compiled(javac))
    if "--check" not in sys.argv[1:]:
        JAR.write_bytes(jar)
    elif JAR.read_bytes() != jar:
        print(f"{JAR} is not what its source compiles to: run build.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
