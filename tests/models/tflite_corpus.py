"""The process in which `test_tflite_uploads.py` reads damaged files: python tflite_corpus.py FILE FIRST COUNT, one line a file.

A file that takes the process down is the one after the last line; the test goes on behind it in a new process.
"""

import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from models import limits
from models._inspect_tflite import inspect
from models.inspect_process import Request
from quantizers.errors import QuantScopeError


def damaged(content: bytes, number: int) -> bytes:
    """Cut off somewhere, or with some bytes changed; the same for one number."""
    rng = random.Random(number)
    if number % 3 == 0:
        return content[: rng.randrange(8, len(content))]
    changed = bytearray(content)
    # The tables that structure a file lie at its ends, the weights between them.
    places = range(8, len(content)) if number % 3 == 1 else [*range(8, 600), *range(len(content) - 3000, len(content))]
    for _ in range(rng.randrange(1, 20)):
        changed[rng.choice(places)] = rng.randrange(256)
    return bytes(changed)


def main(path: Path, first: int, count: int) -> None:
    limits.limit(4 << 30, 120)
    content = path.read_bytes()
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "model.tflite"
        for number in range(first, first + count):
            copy.write_bytes(damaged(content, number))
            try:
                outcome = "refused" if inspect(copy, Request(copy)).backends else "read"
            except QuantScopeError as error:
                outcome = error.code
            print(number, outcome, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
