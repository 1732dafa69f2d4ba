"""Functions and their code: what is stored, checked and found again after a restart."""
