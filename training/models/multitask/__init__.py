"""Models of several labels of an impression at once: click, like, purchase."""
