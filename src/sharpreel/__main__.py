"""`python -m sharpreel`, and `torchrun ... -m sharpreel train ...`."""

from sharpreel.cli.main import main

if __name__ == "__main__":
    main()
