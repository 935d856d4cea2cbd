"""The list of whoever nothing is known of; apart from the rankers, which a server does not load for it."""

import numpy as np
import pandas as pd


def unknown_user_list(items: pd.DataFrame, length: int) -> pd.DataFrame:
    """Make the list of a user of whom nothing is known: what is hot, then what is new.

    Args:
        items: item_id, published_at and heat.
        length: of the list.

    Returns:
        item_id and channels (hot or new), by rank.
    """
    ordered = items.sort_values(["heat", "published_at", "item_id"], ascending=[False, False, True]).head(length)
    channels = np.where(ordered["heat"] > 0, "hot", "new")
    return pd.DataFrame({"item_id": ordered["item_id"].to_numpy(), "channels": channels})
