"""Public data sets and other systems' exports: files of ratings, items and users into facts and dimensions."""
