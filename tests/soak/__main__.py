"""`python -m tests.soak --seconds 30 --replicas 3 --seed 1`."""

from tests.soak.soak import main

main()
