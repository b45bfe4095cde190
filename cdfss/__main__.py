"""`python -m cdfss` is the command `cdfss`, in the form that torchrun can start several times."""
from .app.cli import main

main()
