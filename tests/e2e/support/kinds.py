"""Which interpreters this host has, and the functions that several tests deploy."""

import functools
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent
SOURCES = HERE / "functions"
REPOSITORY = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("E2E_TARGET") or REPOSITORY / "target")
EXAMPLES = REPOSITORY / "examples"

CUSTOM = "provided.al2023"
WEB = {"virga:contract": "http"}


@functools.cache
def python():
    """Lambda's name of the Python that runs this suite (the host's own)."""
    return f"python3.{sys.version_info.minor}"


@functools.cache
def system_python():
    """Lambda's name of Debian's Python, which every user of the host can read."""
    said = subprocess.run(["/usr/bin/python3", "--version"], capture_output=True, text=True, check=True).stdout
    return f"python{re.match(r'Python (3[.][0-9]+)', said)[1]}"


@functools.cache
def node():
    """Lambda's name of the host's Node."""
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return f"nodejs{re.match(r'v([0-9]+)', said)[1]}.x"


@functools.cache
def php():
    """The name of the host's PHP."""
    said = subprocess.run(["php", "-r", "echo PHP_VERSION;"], capture_output=True, text=True, check=True).stdout
    return f"php{re.match(r'[0-9]+[.][0-9]+', said)[0]}"


@functools.cache
def ruby():
    """Lambda's name of the host's Ruby."""
    said = subprocess.run(["ruby", "--version"], capture_output=True, text=True, check=True).stdout
    return f"ruby{re.match(r'ruby ([0-9]+[.][0-9]+)', said)[1]}"


@functools.cache
def java():
    """Lambda's name of the host's Java."""
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    return f"java{re.search(r'version .([0-9]+)', said)[1]}"


def jar(sources, folder, path=(), carried=()):
    """Compiles sources, by their names, with the folders of `path` in sight; the bytes of a jar of the classes, with
    the files of the folders `carried`."""
    classes = folder / "classes"
    classes.mkdir(parents=True)
    for name, text in sources.items():
        (folder / name).write_text(text)
    seen = [str(each) for each in (*path, *carried)]
    javac = ["javac", "--release", "17", "-proc:none", "-nowarn", "-cp", ":".join(seen), "-d", str(classes)]
    subprocess.run([*javac, *(str(folder / name) for name in sources)], check=True, capture_output=True)
    more = [part for each in (classes, *carried) for part in ("-C", str(each), ".")]
    subprocess.run(["jar", "--create", "--file", str(folder / "made.jar"), *more], check=True)
    return (folder / "made.jar").read_bytes()


def source(name):
    """The text of a function in functions/."""
    return (SOURCES / name).read_text()


def python_function(name):
    """Files of a Python function whose handler is `app.handler`."""
    return {"app.py": source(name)}


def rust_guest(name):
    """A program of fixtures/lambda-rust, built by setup.sh."""
    return (TARGET / "e2e-rust" / "debug" / name).read_bytes()


def bundle(name):
    """The folder of Python packages that setup.sh made."""
    return TARGET / "e2e-python" / name


def node_modules():
    """The folder of Node packages that setup.sh made."""
    return TARGET / "e2e-node" / "node_modules"
