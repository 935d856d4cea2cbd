"""Names of the data sets under `datasets/` and of their parts."""

EXAMPLES = "examples"
POSITIVES = "positives"
COVERS = "covers"
TITLES = "titles"

PARTS = ("train", "valid", "test")
