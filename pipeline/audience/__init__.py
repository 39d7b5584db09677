"""What a run tells, and to whom: a person at a terminal, or whoever comes later; and how they stop it."""
