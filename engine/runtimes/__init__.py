"""What a runtime's name means: the environment of a function, and how it is started."""
