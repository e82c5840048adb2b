"""The children of verbatim-bench that run whole models.

A child reads tokens from the first line of standard input, prepares a step, and says "ready", or "absent WHY". Then it answers commands, a
line each: "version" with what its library is and how it runs the step, "run N" with the seconds that N runs take, "output" with the numbers
of the last one's first output.
"""
import sys


def tokens():
    return [int(word) for word in sys.stdin.readline().split()]


def serve(step, version):
    print("ready", flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "run":
            print(step.seconds(int(arguments[0])), flush=True)
        elif command == "output":
            print(*step.output(), flush=True)
        elif command == "version":
            print(version, flush=True)
