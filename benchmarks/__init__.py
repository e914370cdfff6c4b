"""Benchmarks: each module answers one question, ``python -m benchmarks NAME``.

==========  ==================================================================================================
module      what it is
==========  ==================================================================================================
harness     machine facts, timing, statistics, the table and the result file
processes   children that die with us: started, waited for, killed by pid; nginx
proxy       a counting proxy with latency and bandwidth in front of a lake
datasets    trees and the stores and lakes made of them, kept from run to run
closure     the closure of B1: Debian's python3 as store paths
nix         the real Nix on stores of our own
sites       ways to give the kernel one tree: narfs, disk, squashfuse, bare pyfuse3
bare        the bare pyfuse3 file system: what the library itself costs
workloads   what is done to a tree: find, stat, read
asking      what is asked of a transport, and what that costs
==========  ==================================================================================================
"""
