"""The real store code under a scheduler that decides who goes next, with time that only it lets pass."""
