"""Many minutes of mixed load with random faults: memory, files and threads stay as they are, and no vector is wrong.

    python -m soak --minutes 30

`server` is the emulator in a process of its own, `loads` the ways in which the project is used, `lab` what they share
and what is right, `watch` what is measured.
"""
