"""What holds for all tests."""

from hypothesis import settings

# A test fails for what the code does, never for how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
