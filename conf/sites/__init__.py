"""Sites of public data sets that come with the package: `--site NAME`, from the folder of their files."""
