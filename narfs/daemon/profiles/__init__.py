"""What programs read, learned from one run for the next: kept, shown, exchanged.

naming     under which name
learner    one View's: brings what its profile says, and keeps what was read when it ends
run        what was read of a View, as a profile has it
stores     profiles in lakes
handling   narfs profile: list, show, export, import, push, remove
"""
