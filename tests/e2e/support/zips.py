"""Packages, good and bad."""

import io
import pathlib
import stat
import struct
import zipfile
import zlib


def package(files):
    """A zip of name → text, bytes, or (text or bytes, mode)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            content, mode = content if isinstance(content, tuple) else (content, 0o644)
            entry = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def executable(content):
    """A file that may be run."""
    return (content, 0o755)


def folder(path, prefix="", leave_out=()):
    """The files of a folder as `package` takes them."""
    files = {}
    for each in sorted(pathlib.Path(path).rglob("*")):
        parts = each.relative_to(path).parts
        if not each.is_file() or "__pycache__" in parts or any(part in leave_out for part in parts):
            continue
        mode = 0o755 if each.stat().st_mode & 0o111 else 0o644
        files[prefix + str(each.relative_to(path))] = (each.read_bytes(), mode)
    return files


def link(name, target):
    """A zip with an ordinary file and a symbolic link `name` → `target`."""
    buffer = io.BytesIO(package({"app.py": "def handler(event, context): return 1\n"}))
    with zipfile.ZipFile(buffer, "a") as archive:
        entry = zipfile.ZipInfo(name)
        entry.create_system = 3
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, target)
    return buffer.getvalue()


def bomb(size=1 << 30, name="app.py"):
    """A zip of about a thousandth (one deflate layer gives no more) that unpacks to `size` zero bytes."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed, checksum = [], 0
    for start in range(0, size, 1 << 20):
        chunk = bytes(min(1 << 20, size - start))
        packed.append(compressor.compress(chunk))
        checksum = zlib.crc32(chunk, checksum)
    packed.append(compressor.flush())
    return _single(name.encode(), b"".join(packed), checksum, size)


def overlapping_bomb(entries=12, size=1 << 28):
    """Above 10,000:1: many directory entries that share one body, as no honest archive does."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = bytes(1 << 20)
    packed, checksum = [], 0
    for _ in range(size >> 20):
        packed.append(compressor.compress(chunk))
        checksum = zlib.crc32(chunk, checksum)
    packed.append(compressor.flush())
    body = b"".join(packed)
    local = _local(b"f00", body, checksum, size)
    central = b"".join(_central(b"f%02d" % number, len(body), checksum, size) for number in range(entries))
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, entries, entries, len(central), len(local), 0)
    return local + central + end


def zero_byte():
    """A zip whose one name has a zero byte in it, which Python's own module would cut off."""
    content = b"def handler(event, context): return 1\n"
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = compressor.compress(content) + compressor.flush()
    return _single(b"app.py\0.txt", body, zlib.crc32(content), len(content))


def lying(declared=100, size=1 << 24):
    """A zip whose directory declares fewer bytes than its body unpacks to."""
    content = bytes(size)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = compressor.compress(content) + compressor.flush()
    return _single(b"app.py", body, zlib.crc32(content), declared)


def _single(name, body, checksum, size):
    local = _local(name, body, checksum, size)
    central = _central(name, len(body), checksum, size)
    return local + central + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(central), len(local), 0)


def _local(name, body, checksum, size):
    head = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0x21, checksum, len(body), size, len(name), 0)
    return head + name + body


def _central(name, packed, checksum, size):
    head = struct.pack(
        "<IHHHHHHIIIHHHHHII", 0x02014B50, 0x314, 20, 0, 8, 0, 0x21, checksum, packed, size, len(name), 0, 0, 0, 0,
        (stat.S_IFREG | 0o644) << 16, 0,
    )  # fmt: skip
    return head + name
