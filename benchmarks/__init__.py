"""Benchmarks: each module answers one question, ``python -m benchmarks NAME``.

============  ================================================================================================
module        what it is
============  ================================================================================================
harness       machine facts, timing, statistics, the table on the terminal and the result file
matrix        all benchmarks in a given time
processes     children that die with us: started, waited for, killed by pid; nginx
proxy         a counting proxy with latency, bandwidth and trouble in front of a lake
datasets      trees and the stores and lakes made of them, kept from run to run; trees, what is in them
closure       the closure of B1: Debian's python3 as store paths; own_python, a small one for a quick look
updates       version 2 of a closure
nix           the real Nix on stores of our own
sites         ways to give the kernel one tree: narfs, disk, squashfuse, bare pyfuse3
competitors   the same for a closure behind HTTP: rclone, squashfuse, ratarmount, casync
conversions   what these need it turned into
sameness      whether they show what the disk has
bare          the bare pyfuse3 file system: what the library itself costs
workloads     what is done to a tree: find, stat, read
asking        what is asked of a transport, and what that costs
results       what was measured before
tables        tables of it in documents
figures       pictures of it; plot, how a picture is drawn
============  ================================================================================================
"""
