#!/usr/bin/env python3
"""summary.py RESULTS JUNIT: what tests/run.sh says at its end.

Counts the tests of ctest's JUnit file and of the lines "passed NAME", "failed NAME" and "skipped NAME: reason" in RESULTS, lists
what failed and what was skipped and why. Fails when a test failed, when ctest left no file, and, with CI=true, when a skipped test
matches no pattern of allowed_skips.txt. A pattern there that ends in "if THING" counts only where RESULTS says "absent THING".
"""
import fnmatch
import os
import pathlib
import re
import sys
import textwrap
import xml.etree.ElementTree as ElementTree


def reason_of_skip(output):
    """The text that GTEST_SKIP() << ... printed."""
    match = re.search(r"Skipped\n(.*?)\n(?:\n|\[)", output or "", re.DOTALL)
    return " ".join(match.group(1).split()) if match else "no reason given"


def read_junit(path):
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = case.get("name").split("  # GetParam")[0]
        status = case.get("status")
        if case.find("skipped") is not None and status != "fail":
            yield name, "skipped", reason_of_skip(case.findtext("system-out"))
        else:
            yield name, "passed" if status == "run" else "failed", ""


def read_results(path):
    for line in path.read_text().splitlines():
        status, _, rest = line.partition(" ")
        name, _, reason = rest.partition(": ")
        yield name, status, reason


def allowed_skips(path, absent):
    for line in path.read_text().splitlines():
        pattern, _, thing = line.partition("#")[0].strip().partition(" if ")
        if pattern and (not thing or thing in absent):
            yield pattern


def main():
    results, junit = map(pathlib.Path, sys.argv[1:3])
    said = list(read_results(results))
    absent = {name for name, status, _ in said if status == "absent"}
    tests = [test for test in said if test[1] != "absent"]
    tests += read_junit(junit) if junit.exists() else [("ctest's report", "failed", "")]
    allowed = list(allowed_skips(pathlib.Path(__file__).parent / "allowed_skips.txt", absent))

    failed = [name for name, status, _ in tests if status == "failed"]
    passed = sum(status == "passed" for _, status, _ in tests)
    skipped = [(name, reason) for name, status, reason in tests if status == "skipped"]
    if os.environ.get("CI") == "true":
        failed += [name for name, _ in skipped if not any(fnmatch.fnmatch(name, pattern) for pattern in allowed)]
    for reason in sorted({reason for _, reason in skipped}):
        names = [name + (" (not in tests/allowed_skips.txt)" if name in failed else "") for name, why in skipped if why == reason]
        print(f"skipped, {reason}:")
        print(textwrap.fill(", ".join(names), 130, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))
    skipped = [name for name, _ in skipped if name not in failed]
    for name in failed:
        print(f"FAILED {name}")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


sys.exit(main())
