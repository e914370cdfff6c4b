"""``narfs prefetch``: whole paths brought into the cache because somebody says that they will be needed.

jobs        Jobs: what is being brought, and how far it is
operations  what the control socket of a mount or a daemon offers
asking      the other side: it finds the process, or fills the directory itself where nobody has it
"""
