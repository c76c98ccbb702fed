"""Whether the service lasts: long load, many connections, and everything that breaks beneath it.

python -m benchmarks.endurance [mixed|connections|faults|store]

Clients ask for everything the service answers and compare each answer with what was written. What
is not right is wrong, or was refused or cut off for a reason; each of those is counted.
"""
