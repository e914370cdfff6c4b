"""``narfs cache``: what the process that has the cache directory does with it when it is asked.

operations  what the control socket of a mount or a daemon offers
pinning     brings what is pinned, and brings it again when some of it was lost
asking      the other side: it finds the process, or takes the directory itself where nobody has it
"""
