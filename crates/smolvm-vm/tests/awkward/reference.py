"""Runs each row that comes in, a JSON object a line, with subprocess, and says how it went.

Bytes travel as texts of which each character is a byte (Latin-1).
"""
import hashlib
import json
import subprocess
import sys

SHOWN = 2000


def raw(text):
    return text.encode("latin-1")


def output(data):
    data = data or b""
    return {
        "length": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "shown": data[:SHOWN].decode("latin-1"),
    }


def run(row):
    cwd = raw(row["cwd"])
    shell = "shell" in row
    command = raw(row["shell"]) if shell else [raw(argument) for argument in row["argv"]]
    environment = {raw(name): raw(value) for name, value in row["env"]}
    try:
        done = subprocess.run(
            command,
            shell=shell,
            input=raw(row["stdin"]),
            capture_output=True,
            env=environment,
            cwd=cwd,
            timeout=row["timeout"],
        )
    except subprocess.TimeoutExpired as late:
        return {"end": "TimeoutExpired", "stdout": output(late.stdout), "stderr": output(late.stderr)}
    except OSError as error:
        where = "cwd" if error.filename == cwd else "program"
        return {"end": f"{type(error).__name__} of {where}", "stdout": output(b""), "stderr": output(b"")}
    return {
        "end": f"returncode {done.returncode}",
        "stdout": output(done.stdout),
        "stderr": output(done.stderr),
    }


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
