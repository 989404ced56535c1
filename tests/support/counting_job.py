"""A job that takes no packages and little time, and behaves as a study does."""

import argparse
import sys
import time
from pathlib import Path

STEP = 0.05  # seconds
UNFINISHED = 75


def main() -> None:
    """Counts to a number, a step at a time, each of which is saved."""
    started = time.monotonic()
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=int)
    parser.add_argument("--work-dir", type=Path)
    parser.add_argument("--time-limit", type=float)
    parser.add_argument("--data-dir", type=Path)
    args = parser.parse_args()
    phases = args.work_dir / "phases"
    phases.mkdir(exist_ok=True)
    state = phases / "count.msgpack"
    count = int(state.read_text()) if state.exists() else 0
    (phases / "starts.json").open("a").write(f"{count}\n")
    while count < args.to:
        if time.monotonic() + 2 * STEP > started + args.time_limit:
            print(f"stopped after {count} of {args.to}; the same command goes on")
            sys.exit(UNFINISHED)
        time.sleep(STEP)
        count += 1
        draft = state.with_suffix(".draft")
        draft.write_text(str(count))
        draft.replace(state)
    (args.work_dir / "report.txt").write_text(f"counted to {count}\n")
    (args.work_dir / "model.dcz").write_bytes(bytes(1000))
    (args.work_dir / "figure.png").write_bytes(bytes(2000))
    print("counted")


if __name__ == "__main__":
    main()
