"""Spark's discovery of GPUs, installed as `millrace-gpus`: an executor runs it and reads which GPUs it has."""

import json
import subprocess


def main() -> None:
    """Print the numbers of this machine's GPUs as Spark wants them; none where there is no driver."""
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        text = ""
    print(json.dumps({"name": "gpu", "addresses": text.split()}))


if __name__ == "__main__":
    main()
