"""python -m app: the same as the `mimicit` command."""

from app.cli.main import main

main()
