"""How fast the project is, next to the peer that users would pick instead and next to the wire itself.

Run `python -m benchmarks` from the project's root. Nothing here asserts a time: it measures, prints and draws.
"""
