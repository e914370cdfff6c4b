from hypothesis import settings

# No deadline per example: on a busy machine it fails tests for what other processes do.
settings.register_profile("narfs", deadline=None)
settings.load_profile("narfs")
