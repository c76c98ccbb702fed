"""`python -m mimicit_client bench URL`."""

import sys

from mimicit_client.bench import main

if __name__ == "__main__":
    sys.exit(main())
