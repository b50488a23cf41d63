"""`python -m metaformer`, for `torchrun -m metaformer`."""

from metaformer.cli.main import main

if __name__ == "__main__":
    main()
