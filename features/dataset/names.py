"""Names of the data sets under `datasets/`, of their splits, and of the column of weights."""

EXAMPLES = "examples"
POSITIVES = "positives"
COVERS = "covers"
TITLES = "titles"

SPLITS = ("train", "valid", "test")

WEIGHT = "weight"  # of a row in the loss; there is none where no rows were sampled (features.balance)
